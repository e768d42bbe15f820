"""The command `bulk-ocr file --dry-run`: which local documents would be sent, and at what cost."""

from collections.abc import Sequence
from contextlib import suppress

from pydantic import BaseModel, Field

from flows.cli.local_files import LocalDocument, as_text, words_of
from flows.cli.local_run import open_local_run, state_folder
from flows.cli.output import Page
from flows.cli.signals import CLOCK
from tasks.documents.files.inspect import InspectionLimits, inspect_document
from tasks.documents.files.split import check_size
from tasks.faults import Fault
from tasks.number_format import dollars, quantity
from tasks.options import FileOptions


class PlannedFile(BaseModel):
    """A local document."""

    document: str
    pages: int | None = Field(None, description="null where only the API can count them")
    output: str = Field("", description="where its result would be written")
    known: bool = Field(False, description="recognised by an earlier command: nothing to pay for")
    reason: str = Field("", description="why it would fail")


class FilesPlan(BaseModel):
    """The plan for local documents."""

    dry_run: bool = True
    documents: list[PlannedFile]
    pages: int = Field(description="pages to pay for")
    price: float = Field(description="dollars, for these pages")

    def show(self, page: Page) -> None:
        """Print for a person."""
        for planned in self.documents:
            if planned.reason:
                page.say(f"{planned.document} would fail: {planned.reason}")
                continue
            pages = "pages that only the API can count" if planned.pages is None else quantity(planned.pages, "page")
            paid = ", recognised before and not paid for again" if planned.known else ""
            page.say(f"{planned.document}: {pages}{paid}; would write {planned.output}")
        page.say(f"pages to pay for: {self.pages:,}, {dollars(self.price)}. Dry run: nothing was sent or written")


def plan_files(documents: Sequence[LocalDocument], options: FileOptions, *, again: bool) -> FilesPlan:
    """Count the pages of local documents that would be paid for.

    Args:
        documents: the documents.
        options: how they would be recognised.
        again: include documents that were recognised before.
    """
    known = _known(documents, options) if state_folder().exists() and not again else set()
    planned, paid = [], 0
    for local in documents:
        entry = PlannedFile(document=local.shown, output=as_text(local.output), known=local.path in known)
        try:
            limits = InspectionLimits(options.limits.pixels, options.limits.dpi, options.refuse_restricted)
            inspected = inspect_document(local.path, local.shown, limits)
            check_size(inspected, local.path.stat().st_size, options.limits.bytes)
            entry.pages = inspected.pages
            if not entry.known:
                paid += inspected.estimate if inspected.pages is None else inspected.pages
        except Fault as fault:
            entry.reason = str(fault)
        except OSError as error:
            entry.reason = f"it cannot be read ({words_of(error)})"
        planned.append(entry)
    return FilesPlan(documents=planned, pages=paid, price=round(paid * options.price, 6))


def _known(documents: Sequence[LocalDocument], options: FileOptions) -> set[object]:
    run, known = open_local_run(options, CLOCK), set[object]()
    for local in documents:
        with suppress(OSError):  # the plan says why it cannot be read
            if run.is_known(local):
                known.add(local.path)
    return known
