"""The commands `bulk-ocr backfill …`: list, show, start and control named backfills from any terminal."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter, validators
from pydantic import BaseModel, Field, ValidationError

from flows.cli.arguments import ANYWHERE, FLOW_DEFAULTS, BackfillArguments, BackfillAt, DryRun, FlowArguments
from flows.cli.command_list import epilogue
from flows.cli.output import Page, complain, print_json, show
from flows.cli.prefect_setup import prepare_for_blocks
from tasks.backfills.figures import Figures
from tasks.backfills.record import Backfill, Ceilings, Pace, State, shown_state
from tasks.budget.charged import MICROS, Charged, read_charged
from tasks.faults import ExitStatus, SetupFault
from tasks.number_format import dollars
from tasks.options import RunSettings
from tasks.upstage.limits import MOST

if TYPE_CHECKING:
    from flows.cli.backfill_ledger import BackfillLedger

app = App(
    name="backfill",
    help="Named backfills: list, show, start, pause, resume, cancel, set.",
    help_epilogue=epilogue("backfill"),
)

Name = Annotated[str, Parameter(help="The backfill.")]
Setting = Literal[
    "requests-per-second", "pages-per-minute", "workers", "window", "max-pages", "max-cost", "stop-after-failures"
]
_Positive = validators.Number(gt=0, lte=MOST)


class BackfillLine(BaseModel):
    """A backfill in a list."""

    name: str
    state: str
    waiting_for: Literal["budget"] | None = Field(
        None, description="what it waits for while it is running: a ceiling leaves no room for more documents"
    )
    why: str
    source: str
    planned: int | None
    pages_sent: int
    cost: float
    max_pages: int | None
    max_cost: float | None
    made_by: str


class BackfillList(BaseModel):
    """The backfills of a destination."""

    destination: str
    backfills: list[BackfillLine]

    def show(self, page: Page) -> None:
        """Print for a person."""
        rows = [
            (
                line.name,
                shown_state(line.state, line.waiting_for),
                "" if line.planned is None else f"{line.planned:,}",
                f"{line.pages_sent:,}" + (f" of {line.max_pages:,}" if line.max_pages else ""),
                dollars(line.cost) + (f" of {dollars(line.max_cost)}" if line.max_cost else ""),
                line.source,
                line.made_by,
            )
            for line in self.backfills
        ]
        page.table(rows, ("name", "state", "documents", "pages sent", "cost", "source", "made by"))
        if not rows:
            page.say(f"there is no backfill at {self.destination}: 'bulk-ocr plan … --save NAME' makes one")


class BackfillShown(BaseModel):
    """A backfill: its record and its figures."""

    backfill: Backfill
    figures: Figures
    remarks: list[str] = Field([], description="what to do next, if it waits for that")

    def show(self, page: Page) -> None:
        """Print for a person."""
        from flows.cli.backfill_figures import picture

        record, planned = self.backfill, self.backfill.planned
        page.draw(partial(picture, self.figures))
        page.say("")
        page.say(f"made by {record.made_by} at {record.made_at:%Y-%m-%d %H:%M} UTC; {_settings(record)}")
        if planned is not None and planned.pages is not None:
            price = dollars(planned.pages * record.price_per_page)
            page.say(
                f"planned at {planned.at:%Y-%m-%d %H:%M} UTC: {planned.documents:,} documents, "
                f"{planned.pages:,} pages, {price}, {planned.failing:,} that would fail; limited by {planned.bound_by}"
            )
        for remark in self.remarks:
            page.say(remark)


class BackfillChanged(BaseModel):
    """A backfill after a command has changed it."""

    backfill: Backfill
    waiting_for: Literal["budget"] | None = Field(
        None, description="what it waits for while it is running: a ceiling leaves no room for more documents"
    )
    served_by: list[str]
    remarks: list[str] = []

    def show(self, page: Page) -> None:
        """Print for a person."""
        record = self.backfill
        state = "running, but its budget is reached" if self.waiting_for == "budget" else record.state
        page.say(f"backfill {record.name} is {state}; {_settings(record)}")
        for remark in self.remarks:
            page.say(remark)
        if self.served_by:
            page.say(f"it is served by {'; '.join(self.served_by)}, which heeds this within ten seconds")


@app.command(name="list")
def list_backfills(*, place: BackfillAt = ANYWHERE) -> ExitStatus:
    """List the backfills of a destination."""
    ledger = _ledger(place)
    lines, now = [], ledger.context.clock.now()
    for name in ledger.backfills.names():
        record = ledger.backfills.read(name)
        if record is not None:
            spent = _spent(ledger.context.ledger.read_budget(record.meter), record)
            lines.append(
                BackfillLine(
                    name=name,
                    state=record.state,
                    waiting_for=record.waiting_for(now, spent.total, spent.cost / MICROS),
                    why=record.why,
                    source=record.source,
                    planned=record.planned.documents if record.planned else None,
                    pages_sent=spent.sent,
                    cost=spent.cost / MICROS,
                    max_pages=record.ceilings.max_pages,
                    max_cost=record.ceilings.max_cost,
                    made_by=record.made_by,
                )
            )
    show(BackfillList(destination=place.destination, backfills=lines), json=place.json)
    return ExitStatus.DONE


@app.command(name="show")
def show_backfill(name: Name, *, place: BackfillAt = ANYWHERE) -> ExitStatus:
    """Show a backfill's plan, ceilings and progress. Reads the ledger only."""
    ledger = _ledger(place)
    backfill = ledger.find(name)
    figures = ledger.reader(backfill).read()
    if figures is None:
        raise SetupFault(f"the backfill {name} was deleted meanwhile")
    remarks = [_budget_advice(ledger, backfill)] if figures.waiting_for == "budget" else []
    show(BackfillShown(backfill=backfill, figures=figures, remarks=remarks), json=place.json)
    return ExitStatus.DONE


@app.command
def start(
    name: Name,
    arguments: Annotated[FlowArguments, Parameter(name="*")] = FLOW_DEFAULTS,
    *,
    at: Annotated[
        str | None,
        Parameter(
            env_var="BULK_OCR_DESTINATION",
            help="Where results and ledger are: s3://bucket/prefix, or a place's name.",
        ),
    ] = None,
    partition: Annotated[list[str] | None, Parameter(negative="", help="Only this partition; repeatable.")] = None,
    retry_failed: Annotated[
        bool, Parameter(negative="", help="First put back failed documents, to try them again.")
    ] = False,
    dry_run: DryRun = False,
) -> ExitStatus:
    """Serve a backfill in this process until every document is done or failed; resumes a paused or cancelled one.

    Several runs may serve a backfill at once, on any machines. In a deployment, set the name in the flow 'backfill'.
    """
    place = BackfillArguments(at=at)
    ledger = _ledger(place)
    record = ledger.find(name)
    now = ledger.context.clock.now()
    if not record.sends and not dry_run:
        complain(f"backfill {name} was {record.state}{f' ({record.why})' if record.why else ''}; resuming it")
        record = ledger.backfills.change(name, lambda backfill: backfill.moved("running", "", now))
    from flows.cli.flow_runner import run_flow

    own_options = dict(arguments.options)
    options = type(arguments.options).model_validate(
        {
            **own_options,
            "model": record.model,
            "answer_schema": record.answer_schema,
            "price_per_page": record.price_per_page,
            "workers": record.pace.workers or arguments.options.workers,
        }
    )
    selection = type(record.selection).model_validate({**dict(record.selection), "partition": tuple(partition or ())})
    if dry_run:
        from flows.cli.dry_run import plan_instead

        settings = RunSettings(
            source=record.source,
            destination=place.destination,
            selection=selection,
            options=options,
            credentials=arguments.credentials,
        )
        return plan_instead(settings, json=arguments.json, quiet=arguments.quiet, limit=record.limit)
    return run_flow(
        "backfill",
        arguments,
        {
            "source": record.source,
            "destination": place.destination,
            "selection": selection,
            "options": options,
            "credentials": arguments.credentials,
            "name": name,
            "order": record.order,
            "limit": record.limit,
            "retry_failed": retry_failed,
        },
    )


Why = Annotated[str, Parameter(help="The reason, for the record.")]


@app.command
def pause(name: Name, *, why: Why = "", place: BackfillAt = ANYWHERE) -> ExitStatus:
    """Stop sending for a backfill in all runs that serve it. Jobs at the API are still collected."""
    return _move(name, "paused", why, place)


@app.command
def resume(name: Name, *, why: Why = "", place: BackfillAt = ANYWHERE) -> ExitStatus:
    """Resume a paused or cancelled backfill."""
    return _move(name, "running", why, place)


@app.command
def cancel(name: Name, *, why: Why = "", place: BackfillAt = ANYWHERE) -> ExitStatus:
    """End a backfill: nothing more is sent. Jobs at the API are still collected, because they are paid for."""
    return _move(name, "cancelled", why, place)


@app.command(name="set")
def set_backfill(
    name: Name,
    *,
    requests_per_second: Annotated[float | Literal["auto"] | None, Parameter(help="Of each run.")] = None,
    pages_per_minute: Annotated[float | Literal["auto"] | None, Parameter(help="Of each run.")] = None,
    workers: Annotated[
        int | None, Parameter(validator=validators.Number(gte=1, lte=64), help="Of each process.")
    ] = None,
    window: Annotated[int | None, Parameter(validator=validators.Number(gte=1), help="Maximum open jobs.")] = None,
    max_pages: Annotated[int | None, Parameter(validator=validators.Number(gte=1), help="Of all runs.")] = None,
    max_cost: Annotated[float | None, Parameter(validator=_Positive, help="Dollars, of all runs.")] = None,
    stop_after_failures: Annotated[
        str | None, Parameter(help="Pause after this many failures, or this share: 2%.")
    ] = None,
    unset: Annotated[tuple[Setting, ...], Parameter(negative="", help="Remove this setting; repeatable.")] = (),
    place: BackfillAt = ANYWHERE,
) -> ExitStatus:
    """Change the pace or the ceilings of a backfill. Runs that serve it adapt within ten seconds."""
    ledger = _ledger(place)
    ledger.find(name)
    now = ledger.context.clock.now()
    settings: dict[str, object] = {
        "requests_per_second": requests_per_second,
        "pages_per_minute": pages_per_minute,
        "workers": workers,
        "window": window,
        "max_pages": max_pages,
        "max_cost": max_cost,
        "stop_after_failures": stop_after_failures,
    }
    changes = {key: value for key, value in settings.items() if value is not None}
    changes |= {key.replace("-", "_"): None for key in unset}
    if not changes:
        raise SetupFault("say what to set, as in --max-pages 5000, or what to --unset")
    if stop_after_failures is not None and _is_never_exceeded(stop_after_failures):
        raise SetupFault(
            f"--stop-after-failures: more than {stop_after_failures} of the documents can never fail; nothing was "
            "changed. Give a number of documents, or a share of them: 20 or 2%"
        )

    def changed(record: Backfill) -> Backfill:
        pace = Pace.model_validate(
            {**dict(record.pace), **{k: v for k, v in changes.items() if k in Pace.model_fields}}
        )
        ceilings = Ceilings.model_validate(
            {**dict(record.ceilings), **{k: v for k, v in changes.items() if k in Ceilings.model_fields}}
        )
        return record.changed(now, pace=pace, ceilings=ceilings)

    try:
        record = ledger.backfills.change(name, changed)
    except ValidationError as error:
        first = error.errors()[0]
        setting, message = str(first["loc"][0]), first["msg"]
        if setting == "stop_after_failures":
            message = "give a number of documents, or a share of them: 20 or 2%"
        raise SetupFault(f"--{setting.replace('_', '-')}: {message}; nothing was changed") from error
    spent = _spent(ledger.context.ledger.read_budget(record.meter), record)
    remarks, ceilings = [], record.ceilings
    if ceilings.max_pages is not None and spent.total >= ceilings.max_pages:
        remarks.append(f"{spent.total:,} pages are spent already, so nothing more is sent")
    if ceilings.max_cost is not None and spent.total_cost / MICROS >= ceilings.max_cost:
        remarks.append(f"{dollars(spent.total_cost / MICROS)} is spent already, so nothing more is sent")
    return _tell(ledger, record, remarks, place)


def _is_never_exceeded(limit: str) -> bool:
    """Whether a limit of failures is a share that can never be exceeded. Other mistakes are found later."""
    try:
        return limit.endswith("%") and float(limit[:-1]) >= 100
    except ValueError:
        return False


def _move(name: str, state: State, why: str, place: BackfillArguments) -> ExitStatus:
    ledger = _ledger(place)
    before = ledger.find(name)
    now = ledger.context.clock.now()
    record = ledger.backfills.change(name, lambda backfill: backfill.moved(state, why, now))
    serving = ledger.reader(record).serving(record)
    remarks = []
    if before.state == record.state:
        remarks.append(f"nothing has changed: it was {before.state} already")
    if _waiting_for(ledger, record) == "budget":
        remarks.append(_budget_advice(ledger, record))
    elif state == "running" and not serving:
        remarks.append(f"no run is working on it; start one: bulk-ocr backfill start {name} --at {place.destination}")
    return _tell(ledger, record, remarks, place)


def _waiting_for(ledger: "BackfillLedger", record: Backfill) -> Literal["budget"] | None:
    spent = _spent(ledger.context.ledger.read_budget(record.meter), record)
    return record.waiting_for(ledger.context.clock.now(), spent.total, spent.cost / MICROS)


def _budget_advice(ledger: "BackfillLedger", record: Backfill) -> str:
    spent = _spent(ledger.context.ledger.read_budget(record.meter), record)
    return budget_advice(record, spent.total, spent.total_cost / MICROS)


def budget_advice(record: Backfill, pages: int, cost: float) -> str:
    """Say which ceiling leaves no room, and how to go on.

    Args:
        record: a backfill at a ceiling.
        pages: pages spent or reserved, by its meter.
        cost: dollars spent or reserved, by its meter.
    """
    ceilings = record.ceilings
    no_pages = ceilings.max_pages is not None and pages >= ceilings.max_pages
    no_money = ceilings.max_cost is not None and cost >= ceilings.max_cost
    full = record.meter if record.reached is None or no_pages or no_money else record.reached.meter
    if full.startswith(("day-", "month-")):
        period = full.partition("-")[0]
        return f"the ceiling of the {period} leaves no room: scheduled runs continue in the next one, or raise it"
    amounts, options = [], []
    if ceilings.max_pages is not None:
        amounts.append(f"{pages:,} of {ceilings.max_pages:,} pages")
    if ceilings.max_pages is not None and (no_pages or not no_money):
        options.append("--max-pages …")
    if ceilings.max_cost is not None:
        amounts.append(f"{dollars(cost)} of {dollars(ceilings.max_cost)}")
    if ceilings.max_cost is not None and (no_money or not no_pages):
        options.append("--max-cost …")
    return (
        f"{' and '.join(amounts)} are spent, which leaves no room for the next document, so runs send nothing: raise "
        f"the ceiling with 'bulk-ocr backfill set {record.name} {' '.join(options)}', then start a run: bulk-ocr "
        f"backfill start {record.name} --at {record.destination}"
    )


def _tell(ledger: "BackfillLedger", record: Backfill, remarks: list[str], place: BackfillArguments) -> ExitStatus:
    changed = BackfillChanged(
        backfill=record,
        waiting_for=_waiting_for(ledger, record),
        served_by=ledger.reader(record).serving(record),
        remarks=remarks,
    )
    if place.json:
        print_json(changed)
    else:
        changed.show(Page())
    return ExitStatus.DONE


def _settings(record: Backfill) -> str:
    """Describe the pace and the ceilings."""
    values = {**record.ceilings.model_dump(exclude_none=True), **record.pace.model_dump(exclude_none=True)}
    described = ", ".join(f"{key.replace('_', '-')} {value}" for key, value in values.items())
    return described or "no ceilings and no pace of its own"


def _spent(stored: tuple[bytes, str] | None, record: Backfill) -> Charged:
    return Charged() if stored is None else read_charged(record.meter, stored[0])


def _ledger(place: BackfillArguments) -> "BackfillLedger":
    prepare_for_blocks(place.credentials)
    from flows.cli.backfill_ledger import BackfillLedger

    return BackfillLedger(place.destination, place.credentials)
