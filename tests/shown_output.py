"""Output of commands as the documentation shows it: printed by the program's own code from figures of a real run.

cog calls this (`make docs`), and `make check` fails where the documentation differs.
"""

import io
from collections.abc import Callable

from rich.console import Console

from flows.cli.output import Page
from flows.cli.plan import FailingDocument, FailingGroup, FormatSum, PlanReport
from flows.cli.run_report import show_report
from flows.cli.search import FoundPage, SearchReport
from tasks.report import FailedDocument, RunReport
from tasks.upstage.limits import PRICE_PER_PAGE

_WIDTH = 110
_SOURCE, _DESTINATION = "s3://bucket/scans", "s3://bucket/ocr"


def plan() -> str:
    """`bulk-ocr plan` for the samples of the demo and a broken document."""
    report = PlanReport(
        source=_SOURCE,
        destination=_DESTINATION,
        documents=9,
        new=9,
        read=9,
        pages=21,
        pages_estimated=2,
        requests=8,
        price_per_page=PRICE_PER_PAGE,
        price=round(23 * PRICE_PER_PAGE, 6),
        formats=[
            FormatSum(format="pdf", documents=3, pages=16),
            FormatSum(format="tiff", documents=1, pages=3),
        ],
        failing=1,
        failures=[
            FailingGroup(
                code="broken",
                count=1,
                documents=[FailingDocument(document=f"{_SOURCE}/2023/broken.pdf", reason="the PDF is broken")],
            )
        ],
        seconds=12,
        bound_by="--requests-per-second auto, estimated at 2",
    )
    return _printed(report.show, cut=("format", "pdf", "tiff", "would fail", "  s3:"))


def run() -> str:
    """The report of `bulk-ocr run` for the same."""
    report = RunReport(
        flow="backfill",
        source=_SOURCE,
        destination=_DESTINATION,
        documents=9,
        done=8,
        failed=1,
        pages_sent=23,
        requests=8,
        seconds=198.9,
        failures=[
            FailedDocument(
                document=f"{_SOURCE}/2023/broken.pdf",
                code="broken",
                stage="inspect",
                reason="the PDF is broken (unable to find trailer dictionary while recovering damaged file): repair or "
                "replace it",
            )
        ],
    )
    return _printed(lambda page: show_report(report, page))


def search() -> str:
    """`bulk-ocr search river --limit 1`."""
    snippet = "Annual report on river quality 1. Summary The river was cleaner this year than in any year …"
    starts = [17, 46]
    report = SearchReport(
        query="river",
        results=1,
        pages=3,
        hits=[
            FoundPage(
                document="reports/2024/report.pdf",
                result=f"{_DESTINATION}/reports/2024/report.pdf.ocr.json",
                page=1,
                snippet=snippet,
                marks=[(start, start + 5) for start in starts],
            )
        ],
    )
    return _printed(report.show)


def users_day() -> str:
    """The three commands of a user's day, with what they print."""
    shown = (
        (f"plan {_SOURCE} {_DESTINATION}", plan()),
        (f"run {_SOURCE} {_DESTINATION} --max-cost 50", run()),
        (f"search river {_DESTINATION} --limit 1", search()),
    )
    return "```\n" + "\n\n".join(f"$ bulk-ocr {command}\n{output}" for command, output in shown) + "\n```"


def _printed(show: Callable[[Page], None], cut: tuple[str, ...] = ()) -> str:
    """What a command prints, with … where lines are left out."""
    out = io.StringIO()
    show(Page(Console(file=out, width=_WIDTH, color_system=None)))
    lines: list[str] = []
    for line in out.getvalue().splitlines():
        if not line.startswith(cut or ("\0",)):
            lines.append(line.rstrip())
        elif lines[-1:] != ["…"]:
            lines.append("…")
    return "\n".join(lines)
