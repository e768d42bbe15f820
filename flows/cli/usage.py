"""The command `usage`: pages and cost, for checking the vendor's invoice."""

import re
from dataclasses import asdict
from datetime import datetime

from pydantic import BaseModel, Field

from flows.cli.catalogue import catalogue_of, ledger_store
from flows.cli.output import Page
from tasks.catalogue.queries import Grouping, usage
from tasks.faults import SetupFault
from tasks.number_format import dollars, number, quantity
from tasks.options import Credentials
from tasks.store.location import Location
from tasks.store.settings import DestinationOptions
from tasks.upstage.limits import PRICE_PER_PAGE

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


class UsageGroup(BaseModel):
    """The pages and cost of one group, or of all."""

    name: str = Field(description="the day, run, …; empty if the record has none")
    documents: int = Field(description="documents sent")
    requests: int = Field(description="submissions that the API accepted")
    pages: int = Field(description="pages in those submissions: these are on the vendor's invoice")
    cost: float = Field(description="cost of those pages in dollars")
    possible_pages: int = Field(description="pages without an answer on record: they may be on the invoice as well")
    possible_cost: float = Field(description="cost of those pages in dollars, if billed")
    possible_duplicates: int = Field(description="submissions that may be billed and were, or will be, repeated")
    billed_pages: int = Field(description="pages billed according to the API's answers, for published results")
    unpriced_pages: int = Field(description="pages in records made before prices were recorded")


class UsageReport(BaseModel):
    """Pages and cost at a destination: for results, failed documents and open jobs."""

    destination: str
    by: Grouping
    month: str | None
    assumed_price: float = Field(description="dollars a page for records without a price")
    groups: list[UsageGroup]
    total: UsageGroup

    def show(self, page: Page) -> None:
        """Print as text."""
        lost = any(group.possible_pages for group in self.groups)
        header = [self.by, "documents", "requests", "pages", "cost", "billed, per answers"]
        header += ["possibly also billed", "at a cost of"] if lost else []
        twice = any(group.possible_duplicates for group in self.groups)
        header += ["submissions possibly paid twice"] if twice else []
        named = [(group.name or f"(no {self.by})", group) for group in self.groups]
        if len(named) != 1:
            named.append(("all", self.total))
        page.table([_row(name, group, lost=lost, twice=twice) for name, group in named], header)
        total = self.total
        when = f" in {self.month}" if self.month else ""
        page.say(f"{quantity(total.pages, 'page')}, {dollars(total.cost)} at {self.destination}{when}", "bold")
        if total.possible_pages:
            page.say(
                f"{number(total.possible_pages)} more pages were sent and have no answer on record: if the API "
                f"accepted them, they are on the invoice too, for {dollars(total.possible_cost)}"
            )
        if total.billed_pages != total.pages:
            page.say("'billed, per answers' covers published results only: not failed, open or resent pages")
        if total.unpriced_pages:
            page.say(
                f"{number(total.unpriced_pages)} pages were sent before prices were recorded, and are counted at "
                f"${self.assumed_price:g} (--price-per-page)"
            )


def _row(name: str, group: UsageGroup, *, lost: bool, twice: bool) -> list[str]:
    row = [
        name,
        number(group.documents),
        number(group.requests),
        number(group.pages),
        dollars(group.cost),
        number(group.billed_pages),
    ]
    row += [number(group.possible_pages), dollars(group.possible_cost)] if lost else []
    return row + ([number(group.possible_duplicates)] if twice else [])


def read_usage(
    destination: str,
    by: Grouping,
    month: str | None,
    price: float | None,
    credentials: Credentials,
    bucket: DestinationOptions,
) -> UsageReport:
    """Add up pages and cost.

    Args:
        destination: the S3 prefix of results and ledger.
        by: the field to group by.
        month: only pages sent in this month (UTC), as 2026-11.
        price: dollars a page for records without a price; defaults to the published price.
        credentials: where the S3 credentials come from.
        bucket: settings of the destination's bucket.

    Raises:
        SetupFault: DuckDB is not installed, there is no ledger, or the month is invalid.
    """
    since, until = _bounds(month)
    place = Location.parse(destination)
    otherwise = PRICE_PER_PAGE if price is None else price
    with catalogue_of(ledger_store(place, credentials, bucket), place) as catalogue:
        groups = [UsageGroup(**asdict(group)) for group in usage(catalogue, by, otherwise, since, until)]
        total = [UsageGroup(**asdict(group)) for group in usage(catalogue, None, otherwise, since, until)]
    empty_group = UsageGroup.model_validate(dict.fromkeys(UsageGroup.model_fields, 0) | {"name": ""})
    return UsageReport(
        destination=str(place),
        by=by,
        month=month,
        assumed_price=otherwise,
        groups=groups,
        total=total[0] if total else empty_group,
    )


def _bounds(month: str | None) -> tuple[datetime | None, datetime | None]:
    """The start of a month and of the next one: naive UTC, like the catalogue's timestamps."""
    if month is None:
        return None, None
    match = _MONTH.fullmatch(month)
    if match is None or match[1] == "0000":
        raise SetupFault(f"'{month}' is not a month: write it as 2026-11")
    year, number_of = int(match[1]), int(match[2])
    after = (year + 1, 1) if number_of == 12 else (year, number_of + 1)
    if after[0] > 9999:
        raise SetupFault(f"'{month}' is out of range: write it as 2026-11")
    return datetime(year, number_of, 1), datetime(*after, 1)
