"""The outcome of one step for one document."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["open", "done", "failed", "aside", "later", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one step for one document.

    Attributes:
        kind: `open` (at the API), `done`, `failed`, `aside` (set aside: this run can do nothing more for it, for
            example because the object is unreadable), `later` (left to a later pass because of a transient fault or the
            budget), `skipped` (another worker holds it or has closed it).
        job_id: the job.
        name: the document's name in messages: its address.
        pages: pages published.
        pages_sent: pages submitted.
        requests: submissions made.
        possible_duplicates: submissions that may be billed and were, or will be, repeated.
        words: words in the published result.
        message: the reason, for `failed`, `aside` and `later`.
        result: the address of the result, for `done`.
        budget_used_up: the page budget has no room for it; sending stops.
        meter: of `budget_used_up`: the name of the ceiling's meter.
        counts_awaited: of `budget_used_up`: only until the API has counted documents under way.
        counted: its page count became known in this step.
        not_sending: its backfill is paused or cancelled.
        moved: the listed version of the document is gone. The other attributes describe the current version, if any.
        listed_as: the job of the listed version, if the current version was processed in its place.
    """

    kind: Kind
    job_id: str
    name: str
    pages: int = 0
    pages_sent: int = 0
    requests: int = 0
    possible_duplicates: int = 0
    words: int = 0
    message: str = ""
    result: str = ""
    budget_used_up: bool = False
    meter: str = ""
    counts_awaited: bool = False
    counted: bool = False
    not_sending: bool = False
    moved: bool = False
    listed_as: str = ""

    @property
    def set_aside(self) -> bool:
        """Whether this run can do nothing more for the document; a later run may."""
        return self.kind == "aside"
