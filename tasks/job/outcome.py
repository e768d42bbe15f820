"""The outcome of one step for one document."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["open", "done", "failed", "aside", "later", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """One document, one step.

    Attributes:
        kind: `open` (at the API), `done`, `failed`, `aside` (set aside: this run can do nothing for it, as with an
            unreadable object), `later` (left to a later pass: something passing, or the budget), `skipped` (another
            worker has it, or it was closed meanwhile).
        job_id: the job.
        name: the document's name in messages: its address.
        pages: pages published.
        pages_sent: pages submitted.
        requests: submissions made.
        possible_duplicates: submissions that may be paid for, and were or will be made again.
        words: words in the published result.
        message: why, for `failed`, `aside` and `later`.
        result: where the result lies, for `done`.
        budget_used_up: the page budget has no room for it; sending stops.
        not_sending: its backfill is paused or cancelled.
        moved: the listed version of the document is gone; what is there now, if anything, is what the rest is about.
        listed_as: the job of the version that is gone, where the version that is there now was taken up.
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
    not_sending: bool = False
    moved: bool = False
    listed_as: str = ""

    @property
    def set_aside(self) -> bool:
        """Whether this run can do nothing more for it; a later run may."""
        return self.kind == "aside"
