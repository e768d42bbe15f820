"""Flow `listen`: submits the documents that S3's notifications in a queue tell of, as they come.

Scheduled, each run for as long as the next one is not due. The scheduled `submit` finds what no notification told of.
"""

import logging
import math
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.run.announce import final_state
from flows.run.run import Run, open_run
from tasks.backfills.record import BackfillName
from tasks.faults import Passes, SetupFault
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options, RunSettings
from tasks.selection import EVERYTHING, Selection
from tasks.steps.inbox import Inbox
from tasks.store.queue import LONGEST_WAIT, open_queue
from tasks.upstage.throttle import START_REQUESTS

log = logging.getLogger(__name__)

_MOST = 200  # messages at once: their documents are on their way before the messages come again
_PAUSE = 30.0
_AGAIN_SECONDS = 1.0  # a queue whose messages come again at once would keep us busy
_TROUBLES = 20


@flow(name="listen", flow_run_name="listen {source}", persist_result=False)
def listen(
    source: str,
    destination: str,
    queue: str,
    seconds: Annotated[float, Field(ge=0)] | None = 0,
    options: Options = DEFAULTS,
    selection: Selection = EVERYTHING,
    credentials: Credentials = ENVIRONMENT,
    name: BackfillName | None = None,
) -> Any:
    """Submit the documents that a queue tells of, and no others, up to the window of open jobs and the budget of pages.

    Args:
        source: Where the documents lie, as s3://bucket/prefix.
        destination: Where results and ledger go, as s3://bucket/prefix.
        queue: URL of the SQS queue that gets the notifications of the source's bucket; one for each place.
        seconds: How long to listen; 0 takes what is there and ends, nothing listens until the run is ended.
        options: How to work; every setting has a default.
        selection: Which of the documents are meant; all when left out. Not by key, manifest or inventory.
        credentials: Blocks that hold the secrets; the worker's environment does when left out.
        name: The backfill to serve; it is made where there is none. What is sent counts for none when left out.
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
    given = [name for name in ("key", "manifest", "inventory") if getattr(selection, name)]
    if given:
        raise SetupFault(
            f"{' and '.join(given)} cannot be given to 'listen': the queue says which documents. Use 'submit' for them"
        )
    if options.shards > 1:
        raise SetupFault(
            "'listen' has no shards: several runs can share a queue without them. Omit shards from its options"
        )


def _listen(run: Run, inbox: Inbox, seconds: float) -> None:
    """Take batches of messages until the time is over; without any time, until the queue has nothing new."""
    clock = run.context.clock
    end = clock.monotonic() + seconds
    troubles = 0
    full = drained = False
    while run.tally.sending and run.steering.sends and not drained:
        left = end - clock.monotonic()
        if seconds and left <= 0:
            break
        try:
            room = run.steering.window - run.tally.known.load_open(run.context.ledger)
            full = room <= 0
            new = not full and _take(run, inbox, room, left if seconds else None)
            troubles = 0
        except Passes as fault:
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
    """Take a batch, submit what it tells of, and delete what is settled. Returns whether it had anything new."""
    run.show("listening")
    most, options = min(room, _MOST), run.context.options
    if left is not None:  # no more than can be sent in the time left: the next run would not find its place free
        most = min(most, max(options.workers, int(min(_MOST, _rate(options) * left))))
    batch = inbox.take(most, min(left or 0, LONGEST_WAIT))
    if batch is None:
        return False
    run.submit(inbox.new_documents(batch, run.tally.known), room, batch.heed)
    inbox.settle(batch)
    if batch.again:
        run.context.clock.sleep(_AGAIN_SECONDS)
    return not batch.again


def _rate(options: Options) -> float:
    """How many documents a second can be sent at least."""
    return START_REQUESTS if options.requests_per_second == "auto" else options.requests_per_second
