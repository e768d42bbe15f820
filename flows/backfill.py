"""Flow `backfill`: passes of submitting and collecting until everything in the source is done or failed."""

import logging
from typing import Any

from prefect import flow

from flows.run.announce import final_state
from flows.run.run import Run, open_run
from tasks.faults import Passes
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options, RunSettings
from tasks.selection import EVERYTHING, Selection
from tasks.steps.poll import Survey

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 30.0
_SHORTEST_PAUSE = 0.05
_LISTINGS = 3
_TROUBLES = 20


@flow(name="backfill", flow_run_name="backfill {source}", persist_result=False)
def backfill(
    source: str,
    destination: str,
    options: Options = DEFAULTS,
    selection: Selection = EVERYTHING,
    credentials: Credentials = ENVIRONMENT,
) -> Any:
    """Bring every document of the source to a result. Safe to cancel and to start again, at any moment.

    Args:
        source: Where the documents lie, as s3://bucket/prefix.
        destination: Where results and ledger go, as s3://bucket/prefix.
        options: How to work; every setting has a default.
        selection: Which of the documents are meant; all when left out.
        credentials: Blocks that hold the secrets; the worker's environment does when left out.
    """
    settings = RunSettings(
        source=source, destination=destination, selection=selection, options=options, credentials=credentials
    )
    with open_run("backfill", settings) as run:
        open_jobs = run.prepare()
        documents, listings, listed = run.new_documents(), 1, False
        troubles = 0
        while True:
            try:
                if not listed and run.tally.sending:
                    room = max(0, options.window - open_jobs)
                    taken = run.submit(documents, room)
                    listed = taken < room
                    open_jobs += taken  # until the survey says otherwise
                survey = run.collect()
                troubles = 0
            except Passes as fault:
                troubles += 1
                if troubles == _TROUBLES:
                    raise
                log.warning("%s; going on in %g s", fault, _LONGEST_PAUSE)
                run.context.clock.sleep(_LONGEST_PAUSE)
                documents = run.new_documents()  # a listing that failed cannot be gone on with
                continue
            open_jobs = run.still_open(survey)
            if run.tally.refused:  # what was finished at the API has still been collected
                break
            if open_jobs:
                _pause(run, survey)
            elif run.tally.stopped:
                break
            elif listed:
                left = run.tally.known.unclaimed()
                if not left or listings == _LISTINGS:
                    break
                # Documents that changed under us, or that something passing kept from being sent.
                log.info("listing the source again: %d documents were left for later", left)
                documents, listings, listed = run.new_documents(), listings + 1, False
        run.write_texts()
        return final_state(run.close())


def _pause(run: Run, survey: Survey) -> None:
    """Rest until the next job is due."""
    options, now = run.context.options, run.context.clock.now()
    seconds = (survey.next_due - now).total_seconds() if survey.next_due else _LONGEST_PAUSE
    if survey.due or survey.ready:  # polled or sent just now, and left alone for so long
        seconds = min(seconds, options.poll_seconds)
    run.show(survey.waiting_for())
    run.context.clock.sleep(min(max(seconds, _SHORTEST_PAUSE), _LONGEST_PAUSE))
