"""The option `--dry-run`: shows what a command would send, write and cost, without doing it."""

from collections.abc import Iterable

from pydantic import BaseModel, Field
from rich.console import Console

from flows.cli.output import Page, complain, show
from flows.cli.prefect_setup import prepare_for_blocks
from flows.cli.progress import Display
from flows.run.progress import Progress
from tasks.faults import ExitStatus, SetupFault
from tasks.number_format import quantity
from tasks.options import Credentials, RunSettings
from tasks.outputs.results import Results
from tasks.store.settings import DestinationOptions

_SHOWN = 10


class DryRunReport(BaseModel):
    """The results that a command would read, and the files that it would write."""

    dry_run: bool = True
    place: str
    results: int = Field(description="results that it would read")
    writes: list[str] = Field(description="the files it would write, or a folder for several of them")

    def show(self, page: Page) -> None:
        """Print for a person."""
        page.say(f"{self.results:,} results at {self.place} would be read")
        for file in self.writes[:_SHOWN]:
            page.say(f"would write {file}")
        if len(self.writes) > _SHOWN:
            page.say(f"… and {len(self.writes) - _SHOWN:,} more")
        page.say("dry run: nothing was written")


def show_dry_run(place: str, results: Iterable[Results], writes: Iterable[str], *, json: bool) -> ExitStatus:
    """Count the results that a command would read, and name what it would write.

    Raises:
        SetupFault: there is no result.
    """
    count = sum(1 for results_place in results for _ in results_place.files())
    if not count:
        raise SetupFault(f"there is no result at {place}")
    show(DryRunReport(place=place, results=count, writes=list(writes)), json=json)
    return ExitStatus.DONE


def plan_instead(
    settings: RunSettings, *, json: bool, quiet: bool, limit: int | None = None, allow_empty: bool = False
) -> ExitStatus:
    """Show what a run would send and cost, instead of running it.

    Args:
        settings: the run's settings.
        json: print JSON.
        quiet: show no progress.
        limit: the maximum number of documents that the run would send.
        allow_empty: accept a source without documents.

    Raises:
        Fault: the fault that would end the run before it sends anything.
    """
    prepare_for_blocks(settings.credentials)
    from flows.cli.plan import make_plan

    settings = _as_the_backfill_says(settings)
    with Display(Console(stderr=True), quiet=quiet) as display:
        report = make_plan(settings, settings.options.price, None, lambda doing: display.show(Progress(doing)))
    show(report, json=json)
    if report.nothing:
        complain(report.nothing)
        return ExitStatus.SOME_FAILED if allow_empty else ExitStatus.SETUP
    options, pages = settings.options, report.pages + report.pages_estimated
    if limit is not None and report.new > limit:
        complain(f"--limit ends the run after {limit:,} of these documents")
    if options.run_pages is not None and pages > options.run_pages:
        complain(f"--max-pages ends the run after {options.run_pages:,} of these pages")
    if options.max_cost is not None and report.price > options.max_cost:
        complain(f"--max-cost ends the run at ${options.max_cost:g}")
    complain("dry run: nothing was sent or written")
    return ExitStatus.DONE


def _as_the_backfill_says(settings: RunSettings) -> RunSettings:
    """Return the settings of a run, completed from the backfill that it serves by name."""
    if settings.backfill is None:
        return settings
    from tasks.access.open import storage_access
    from tasks.backfills.record import taken_over
    from tasks.context import RunContext, accounts_of, store_of

    objects = store_of(settings, accounts_of(settings, storage_access(settings.credentials)))
    backfill = RunContext(settings, objects).backfills.read(settings.backfill)
    return settings if backfill is None else taken_over(backfill, settings)


def status_instead(destination: str, credentials: Credentials, bucket: DestinationOptions, *, json: bool) -> ExitStatus:
    """Show the status of the open jobs, instead of a pass over them.

    Raises:
        Fault: the ledger cannot be read.
    """
    prepare_for_blocks(credentials)
    from flows.cli.status import read_status

    ledger_status = read_status(destination, credentials=credentials, bucket=bucket)
    # Adding them up would save rows of the catalogue, and a dry run writes nothing.
    no_sums = f"not added up in a dry run; 'bulk-ocr status {destination}' shows them"
    ledger_status.no_sums = no_sums
    show(ledger_status, json=json)
    complain(
        f"dry run: a pass would look at {quantity(ledger_status.open, 'open job')}, publish those that are "
        "finished and send missing pages again; nothing was asked of the API, sent or written"
    )
    return ExitStatus.DONE
