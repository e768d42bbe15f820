"""Events that a run emits to Prefect when it ends, for alerts: one resource per destination."""

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
"""The tag of runs that were started at a terminal, where somebody sees how they end: they trigger no alerts."""


def emit_events(report: RunReport, *, left_open: int | None, expiring: int) -> None:
    """Emit the events of a run. They are queued and sent in the background, and lost if the server is unavailable.

    Args:
        report: the run's report.
        left_open: number of jobs open at the destination at the end of the run, from all runs; None if unknown.
        expiring: number of jobs whose results the API will delete within days.
    """
    resource = {
        "prefect.resource.id": f"bulk-ocr.destination.{report.destination}",
        "prefect.resource.name": report.destination,
        "bulk-ocr.attended": "yes" if attended() else "no",
        # Ten times as many failures trigger another alert, even shortly after the last one.
        "bulk-ocr.magnitude": str(len(str(report.failed))),
    }
    payload: dict[str, Any] = {
        "flow": report.flow, "sentence": report.sentence(), "failed": report.failed, "open": left_open,
        "expiring": expiring, "refused": report.refused, "reasons": report.top_reasons(), "ceiling": report.ceiling,
    }  # fmt: skip
    conditions = {
        REFUSED: bool(report.refused),
        FAILED: report.failed > 0,
        COLLECTED: report.done > 0,
        # Not at a terminal: the user knows what is open, and nobody else needs an alert if those jobs never end.
        OPEN: bool(left_open) and not attended(),
        # Emitted by every run: the run that ended the last job may have died before that, and SQLite drops events.
        NONE_OPEN: left_open == 0,
        EXPIRING: expiring > 0,
        BUDGET_REACHED: bool(report.ceiling),
    }
    for event, applies in conditions.items():
        if applies:
            emit_event(event, resource=resource, payload=payload)


def attended() -> bool:
    """Whether this run was started at a terminal."""
    return TERMINAL in flow_run.tags


def emit_budget_event(destination: str, spent: str) -> None:
    """Emit that most of a budget is spent.

    Args:
        destination: the run's destination.
        spent: a description of the budget and its spent share.
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
    """Emit an event of a backfill.

    Args:
        what: `started`, `progress` (at each tenth), `stalled` or `finished`.
        figures: the backfill's figures.
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
            "pages_lost": figures.pages_lost,
            "possible_duplicates": figures.possible_duplicates,
            "cost": figures.cost,
            "failures": figures.failures,
        },
    )
