"""What a run tells Prefect's event feed when it ends, for alerts to go by: one resource a destination."""

from typing import Any

from prefect.events import emit_event

from tasks.report import RunReport

FAILED = "bulk-ocr.documents.failed"
COLLECTED = "bulk-ocr.documents.collected"
OPEN = "bulk-ocr.jobs.open"
NONE_OPEN = "bulk-ocr.jobs.none-open"
EXPIRING = "bulk-ocr.results.expiring"
REFUSED = "bulk-ocr.account.refused"


def emit_events(report: RunReport, *, left_open: int | None, expiring: int) -> None:
    """Emit what happened. Events are queued and sent in the background; a server that is gone loses them.

    Args:
        report: what the run did.
        left_open: jobs that were open at the destination when the run ended, whoever sent them; None if unknown.
        expiring: jobs whose results the API forgets within days.
    """
    resource = {
        "prefect.resource.id": f"bulk-ocr.destination.{report.destination}",
        "prefect.resource.name": report.destination,
    }
    payload: dict[str, Any] = {
        "flow": report.flow, "sentence": report.sentence(), "failed": report.failed, "open": left_open,
        "expiring": expiring, "refused": report.refused,
    }  # fmt: skip
    happened = {
        REFUSED: bool(report.refused),
        FAILED: report.failed > 0,
        COLLECTED: report.done > 0,
        OPEN: bool(left_open),
        # Said as well, and at every run: jobs also end in a run that died before it told, and SQLite drops events.
        NONE_OPEN: left_open == 0,
        EXPIRING: expiring > 0,
    }
    for event, did in happened.items():
        if did:
            emit_event(event, resource=resource, payload=payload)
