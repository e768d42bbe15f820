"""Flow `listen`: submits documents as S3 announces them through a queue.

On a schedule, each run lasts until the next one is due. The scheduled `submit` finds documents whose notification was
lost.
"""

import logging
import math
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.run.announce import final_state
from flows.run.run import Run, open_run
from tasks.backfills.record import BackfillName
from tasks.faults import SetupFault, TransientFault
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options, RunSettings
from tasks.selection import EVERYTHING, Selection
from tasks.steps.inbox import Inbox
from tasks.store.queue import LONGEST_WAIT, open_queue
from tasks.upstage.limits import MOST
from tasks.upstage.throttle import START_REQUESTS

log = logging.getLogger(__name__)

_MOST = 200  # messages at once, so that their documents are submitted before the messages are delivered again
_PAUSE = 30.0
_AGAIN_SECONDS = 1.0  # avoids a busy loop if the queue delivers messages again immediately
_TROUBLES = 20


@flow(name="listen", flow_run_name="listen {source}", persist_result=False)
def listen(
    source: str,
    destination: str,
    queue: str,
    seconds: Annotated[float, Field(ge=0, le=MOST)] | None = 0,
    options: Options = DEFAULTS,
    selection: Selection = EVERYTHING,
    credentials: Credentials = ENVIRONMENT,
    name: BackfillName | None = None,
) -> Any:
    """Submit the documents announced in a queue, and no others, up to the window of open jobs and the page budget.

    Args:
        source: Location of the documents, as s3://bucket/prefix.
        destination: Location of results and ledger, as s3://bucket/prefix.
        queue: URL of the SQS queue that gets the notifications of the source's bucket; one queue for each place.
        seconds: How long to listen; 0 processes the messages in the queue and ends; if empty, until the run is ended.
        options: How to work; every setting has a default.
        selection: Which documents to process; all by default. Not by key, manifest or inventory.
        credentials: Blocks with the secrets; the worker's environment by default.
        name: The backfill to serve; created if it does not exist. By default, the documents belong to no backfill.
    """
    settings = RunSettings(
        source=source,
        destination=destination,
        selection=selection,
        options=options,
        credentials=credentials,
        backfill=name,
    )
    _check(options, selection)
    with open_run("listen", settings, by_name=name is not None) as run:
        _check(options, run.context.settings.selection)
        inbox = Inbox(
            run.context, open_queue(queue, run.context.aws.session if run.context.aws else None, run.context.clock)
        )
        run.prepare(few=True)
        _listen(run, inbox, math.inf if seconds is None else seconds)
        run.tally.note_messages(inbox.settled, inbox.left)
        return final_state(run.close())


def _check(options: Options, selection: Selection) -> None:
    unsupported = [name for name in ("key", "manifest", "inventory") if getattr(selection, name)]
    if unsupported:
        raise SetupFault(
            f"{' and '.join(unsupported)} cannot be given to 'listen': the queue says which documents. Use 'submit' "
            "for them"
        )
    if options.shards > 1:
        raise SetupFault(
            "'listen' has no shards: several runs can share a queue without them. Omit shards from its options"
        )


def _listen(run: Run, inbox: Inbox, seconds: float) -> None:
    """Process batches of messages until the time is over; with zero seconds, until the queue has nothing new."""
    clock = run.context.clock
    end = clock.monotonic() + seconds
    troubles = 0
    full = drained = False
    while run.tally.sending and run.steering.held is None and not drained:
        left = end - clock.monotonic()
        if seconds and left <= 0:
            break
        try:
            room = run.steering.window - run.tally.known.load_open(run.context.ledger)
            full = room <= 0
            new = not full and _take(run, inbox, room, left if seconds else None)
            troubles = 0
        except TransientFault as fault:
            troubles += 1
            if troubles == _TROUBLES or not seconds:
                raise
            log.warning("%s; continuing in %g s", fault, min(left, _PAUSE))
            clock.sleep(min(left, _PAUSE))
            continue
        drained = not new and not seconds
        if full and seconds:
            run.show("waiting for room")
            clock.sleep(min(left, _PAUSE))
    if full:
        run.tally.stop_sending(f"{run.steering.window} jobs are open, which is the window; collecting makes room")


def _take(run: Run, inbox: Inbox, room: int, left: float | None) -> bool:
    """Receive a batch, submit its documents, and delete settled messages. Returns whether there was anything new."""
    run.show("listening")
    most, options = min(room, _MOST), run.context.options
    if left is not None:  # no more than can be sent in the time left: the next run needs the deployment's slot
        most = min(most, max(options.workers, int(min(_MOST, _rate(options) * left))))
    batch = inbox.take(most, min(left or 0, LONGEST_WAIT))
    if batch is None:
        return False
    run.submit(inbox.new_documents(batch, run.tally.known), room, batch.record_outcome)
    inbox.settle(batch)
    if batch.again:
        run.context.clock.sleep(_AGAIN_SECONDS)
    return not batch.again


def _rate(options: Options) -> float:
    """Return a lower bound of documents per second."""
    return START_REQUESTS if options.requests_per_second == "auto" else options.requests_per_second
