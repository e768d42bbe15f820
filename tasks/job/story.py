"""Describes what happens next to a document, and what an operator can do."""

from datetime import datetime

from tasks.job.next_step import NextStep
from tasks.job.record import DoneJob, FailedJob, Job


def next_of_open(job: Job, step: NextStep) -> str:
    """Describe what an open job waits for."""
    match step.need:
        case "wait" if step.holder is not None:
            expiry = f", at {_clock(step.until)}" if step.until else ""
            doing = job.lease.doing if job.lease else "working on it"
            if step.holder_alive:
                return f"{step.holder} is {doing}"
            return (
                f"{step.holder} was {doing} and may have stopped; once its lease has expired{expiry}, the next pass "
                "takes the job over"
            )
        case "wait":
            return f"at the API; next poll after {_clock(step.until)}" if step.until else "at the API"
        case "poll":
            return "at the API; the next collect polls it"
        case "collect":
            return "finished at the API; the next collect fetches and publishes it"
        case "send":
            page_list = "its pages" if step.pages is None else "pages " + ", ".join(map(str, step.pages))
            return f"the next collect sends {page_list}"
        case "take over":
            return "its worker stopped; the next pass takes it over"
        case _:
            return "it is being closed"


def next_of_done(done: DoneJob, version_now: str | None) -> str:
    """Describe what happens next to a finished document.

    Args:
        done: its record.
        version_now: the current ETag of the document; None if it is gone or cannot be read.
    """
    if done.superseded:
        return "nothing: a newer version of the document was already published"
    if version_now is not None and version_now != done.job.document.etag:
        return "the document has changed since: the next run treats the new version as a new document"
    return "nothing: it is done"


def next_of_failed(failed: FailedJob, destination: str) -> str:
    """Describe what can be done about a document that was given up.

    Args:
        failed: its record.
        destination: the address of the results, for the command to run.
    """
    if failed.retry_helps:
        key = failed.job.document.key
        return f"nothing until it is put back with: bulk-ocr retry {destination} --key '{key}'"
    return "nothing: a retry without a change does not help; the reason says what to change"


def _clock(moment: datetime | None) -> str:
    return "?" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
