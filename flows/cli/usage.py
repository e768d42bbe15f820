"""Pages and money, to hold against the vendor's invoice, for the command `usage`."""

import re
from dataclasses import asdict
from datetime import datetime

from pydantic import BaseModel, Field

from flows.cli.catalogue import catalogue_of, ledger_store
from flows.cli.figures import money, number
from flows.cli.output import Page
from tasks.catalogue.queries import Grouping, usage
from tasks.faults import SetupFault
from tasks.options import Credentials
from tasks.store.location import Location
from tasks.store.settings import DestinationOptions
from tasks.upstage.limits import PRICE_PER_PAGE

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


class UsageGroup(BaseModel):
    """What was spent, of one group or of all."""

    name: str = Field(description="the day, run, …; empty where a record tells none")
    documents: int = Field(description="documents that were sent")
    requests: int = Field(description="submissions that the API accepted")
    pages: int = Field(description="pages in them: these are on the vendor's bill")
    cost: float = Field(description="dollars for them")
    possible_pages: int = Field(description="pages whose answer was lost: they may be on the bill as well")
    possible_cost: float = Field(description="dollars for those, if so")
    billed_pages: int = Field(description="pages that the answers say were billed, of results that are published")
    unpriced_pages: int = Field(description="pages of records from before prices were kept")


class UsageReport(BaseModel):
    """What was spent at a destination: for results, for documents that failed, and for those under way."""

    destination: str
    by: Grouping
    month: str | None
    assumed_price: float = Field(description="dollars a page where a record knows no price")
    groups: list[UsageGroup]
    total: UsageGroup

    def show(self, page: Page) -> None:
        """Print for a person."""
        lost = any(group.possible_pages for group in self.groups)
        header = [self.by, "documents", "requests", "pages", "cost", "billed, by the answers"]
        header += ["possibly billed too", "that would cost"] if lost else []
        named = [(group.name or f"(no {self.by})", group) for group in self.groups]
        if len(named) != 1:
            named.append(("all", self.total))
        page.table([_row(name, group, lost=lost) for name, group in named], header)
        total = self.total
        when = f" in {self.month}" if self.month else ""
        page.say(f"{number(total.pages)} pages, {money(total.cost)} at {self.destination}{when}", "bold")
        if total.possible_pages:
            page.say(
                f"the answers to {number(total.possible_pages)} more pages were lost: if the API took them, they are "
                f"on the bill as well, with {money(total.possible_cost)}"
            )
        if total.billed_pages != total.pages:
            page.say(
                "the answers' own count covers published results only: not what failed, is under way or was sent again"
            )
        if total.unpriced_pages:
            page.say(
                f"{number(total.unpriced_pages)} pages are from before prices were recorded, and reckoned at "
                f"${self.assumed_price:g} (--price-per-page)"
            )


def _row(name: str, group: UsageGroup, *, lost: bool) -> list[str]:
    row = [
        name,
        number(group.documents),
        number(group.requests),
        number(group.pages),
        money(group.cost),
        number(group.billed_pages),
    ]
    return row + ([number(group.possible_pages), money(group.possible_cost)] if lost else [])


def read_usage(
    destination: str,
    by: Grouping,
    month: str | None,
    price: float | None,
    credentials: Credentials,
    bucket: DestinationOptions,
) -> UsageReport:
    """Add up what was spent.

    Args:
        destination: where results and ledger lie.
        by: what to group by.
        month: only what was sent in this month, as 2026-11, in UTC.
        price: dollars a page where a record knows no price; the published one when left out.
        credentials: where those for S3 are.
        bucket: how the destination's bucket is used.

    Raises:
        SetupFault: DuckDB is not installed, there is no ledger, or the month is none.
    """
    since, until = _bounds(month)
    place = Location.parse(destination)
    otherwise = PRICE_PER_PAGE if price is None else price
    with catalogue_of(ledger_store(place, credentials, bucket), place) as catalogue:
        groups = [UsageGroup(**asdict(each)) for each in usage(catalogue, by, otherwise, since, until)]
        total = [UsageGroup(**asdict(each)) for each in usage(catalogue, None, otherwise, since, until)]
    nothing = UsageGroup.model_validate(dict.fromkeys(UsageGroup.model_fields, 0) | {"name": ""})
    return UsageReport(
        destination=str(place),
        by=by,
        month=month,
        assumed_price=otherwise,
        groups=groups,
        total=total[0] if total else nothing,
    )


def _bounds(month: str | None) -> tuple[datetime | None, datetime | None]:
    """A month's first moment, and that of the next one: naive, as the catalogue's are, in UTC."""
    if month is None:
        return None, None
    match = _MONTH.fullmatch(month)
    if match is None or match[1] == "0000":
        raise SetupFault(f"'{month}' is no month: write it as 2026-11")
    year, number_of = int(match[1]), int(match[2])
    after = (year + 1, 1) if number_of == 12 else (year, number_of + 1)
    if after[0] > 9999:
        raise SetupFault(f"'{month}' is beyond every calendar: write it as 2026-11")
    return datetime(year, number_of, 1), datetime(*after, 1)
