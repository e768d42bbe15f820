"""What a run tells Prefect's event feed when it ends, for alerts to go by: one resource a destination."""

from typing import Any

from prefect.events import emit_event
from prefect.runtime import flow_run

from tasks.backfills.figures import Figures
from tasks.report import RunReport

FAILED = "bulk-ocr.documents.failed"
COLLECTED = "bulk-ocr.documents.collected"
OPEN = "bulk-ocr.jobs.open"
NONE_OPEN = "bulk-ocr.jobs.none-open"
EXPIRING = "bulk-ocr.results.expiring"
REFUSED = "bulk-ocr.account.refused"
BUDGET = "bulk-ocr.budget.nearly-spent"
BUDGET_REACHED = "bulk-ocr.budget.reached"
STALLED = "bulk-ocr.backfill.stalled"
BACKFILL = "bulk-ocr.backfill"
TERMINAL = "bulk-ocr-terminal"
"""The tag of runs that somebody started at a terminal, and sees end there: they page nobody."""


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
        "bulk-ocr.attended": "yes" if attended() else "no",
        # Ten times as many failures are news although some were told of a while ago.
        "bulk-ocr.magnitude": str(len(str(report.failed))),
    }
    payload: dict[str, Any] = {
        "flow": report.flow, "sentence": report.sentence(), "failed": report.failed, "open": left_open,
        "expiring": expiring, "refused": report.refused, "reasons": report.top_reasons(), "ceiling": report.ceiling,
    }  # fmt: skip
    happened = {
        REFUSED: bool(report.refused),
        FAILED: report.failed > 0,
        COLLECTED: report.done > 0,
        # Whoever sits at the terminal knows what is open; nobody else has to be told when nothing of it ends.
        OPEN: bool(left_open) and not attended(),
        # Said as well, and at every run: jobs also end in a run that died before it told, and SQLite drops events.
        NONE_OPEN: left_open == 0,
        EXPIRING: expiring > 0,
        BUDGET_REACHED: bool(report.ceiling),
    }
    for event, did in happened.items():
        if did:
            emit_event(event, resource=resource, payload=payload)


def attended() -> bool:
    """Whether somebody sits at the terminal where this run works."""
    return TERMINAL in flow_run.tags


def emit_budget_event(destination: str, spent: str) -> None:
    """Emit that most of a budget is spent.

    Args:
        destination: where the run works.
        spent: how much of which ceiling.
    """
    emit_event(
        BUDGET,
        resource={
            "prefect.resource.id": f"bulk-ocr.destination.{destination}",
            "prefect.resource.name": destination,
            "bulk-ocr.attended": "yes" if attended() else "no",
        },
        payload={"spent": spent},
    )


def emit_backfill_event(what: str, figures: Figures) -> None:
    """Emit what happened to a backfill.

    Args:
        what: `started`, `progress` (at each tenth), `stalled` or `finished`.
        figures: how it stands.
    """
    emit_event(
        f"{BACKFILL}.{what}",
        resource={
            "prefect.resource.id": f"bulk-ocr.backfill.{figures.destination}.{figures.name}",
            "prefect.resource.name": figures.name,
            "bulk-ocr.destination": figures.destination,
            "bulk-ocr.attended": "yes" if attended() else "no",
        },
        payload={
            "backfill": figures.name,
            "source": figures.source,
            "destination": figures.destination,
            "state": figures.state,
            "sentence": figures.sentence(),
            "done": figures.done,
            "failed": figures.failed,
            "set_aside": figures.aside,
            "finished": figures.finished,
            "total": figures.total,
            "pages_sent": figures.pages_sent,
            "cost": figures.cost,
            "failures": figures.failures,
        },
    )
