"""A run's report on standard output."""

from flows.cli.output import Page
from tasks.number_format import quantity
from tasks.report import RunReport


def show_report(report: RunReport, page: Page) -> None:
    """Print a run's report for a person."""
    if report.published:
        rows = [(row.document, row.result, str(row.pages), str(row.words)) for row in report.published]
        page.table(rows, ("document", "result", "pages", "words"))
    for failure in report.failures:
        page.say(f"failed: {failure.document}: {failure.reason}")
    for aside in report.set_aside:
        page.say(f"set aside: {aside.document}: {aside.reason}")
    for missing in report.missing_keys:
        page.say(f"missing: {missing}: it does not exist, or lies outside the source")
    if report.texts:
        page.say(f"{quantity(report.texts, 'plain text')} written beside results of earlier runs")
    if report.failed_before:
        why = f"'bulk-ocr failures {report.destination}' shows why"
        page.say(f"{quantity(report.failed_before, 'document')} failed in earlier runs: {why}")
    if report.unreadable:
        page.say(report.left_alone())
    if report.note:
        page.say(f"note: {report.note}")
    if report.stopped:
        page.say(f"sent less than there was: {report.stopped}")
    page.say(f"{report.sentence()} ({report.seconds:.1f} s)")
