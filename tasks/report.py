"""The report of a run, as sums and as text: for the terminal, for programs, and as an artifact in the Prefect UI."""

import html
import re
from collections import Counter
from collections.abc import Iterable, Sized
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.backfills.charts import histogram, sparkline
from tasks.backfills.figures import Figures
from tasks.faults import ExitStatus
from tasks.job.outcome import Outcome
from tasks.job.spending import duplicates_text
from tasks.number_format import dollars, quantity, span
from tasks.printable import printable
from tasks.store.location import LEDGER_FOLDER

_LISTED = 100


class FailedDocument(BaseModel):
    """A document that was given up in this run."""

    document: str
    reason: str


class AsideDocument(BaseModel):
    """A document that was set aside until an operator acts."""

    document: str
    reason: str


class PublishedDocument(BaseModel):
    """A document whose result was published in this run."""

    document: str
    result: str
    pages: int
    words: int


class RunReport(BaseModel):
    """The sums of a run. `documents` is `done + failed + open + left + aside + skipped`."""

    model_config = ConfigDict(extra="forbid")

    flow: Literal["submit", "listen", "collect", "backfill"]
    source: str | None
    destination: str
    documents: int = Field(0, description="documents that this run considered")
    done: int = Field(0, description="results published")
    failed: int = Field(0, description="given up in this run")
    open: int = Field(0, description="not finished: their jobs are open in the ledger")
    left: int = Field(0, description="not sent: without a job yet, and left to the next pass")
    aside: int = Field(0, description="set aside: no run can process them until an operator acts")
    skipped: int = Field(0, description="finished before, or by another run; including those that failed before")
    failed_before: int = Field(0, description="of the skipped, those that failed before: see 'failures'")
    pages: int = Field(0, description="pages in the results published")
    pages_sent: int = Field(0, description="pages submitted, and therefore billed, in this run")
    requests: int = Field(0, description="submissions made in this run")
    possible_duplicates: int = Field(0, description="submissions that may be billed and were, or will be, repeated")
    missing: int = Field(0, description="named documents that do not exist or are outside the source")
    missing_keys: list[str] = Field([], description=f"the first {_LISTED} of those")
    messages: int = Field(0, description="messages of the queue that were processed and deleted")
    messages_left: int = Field(0, description="messages that were left in the queue and will be delivered again")
    unreadable: int = Field(0, description="open jobs whose records are of another version of this program")
    seconds: float = 0
    stopped: str | None = Field(None, description="why the run did not send everything: budget, window")
    ended: str | None = Field(None, description="the set-up fault that ended the run early")
    refused: str | None = Field(None, description="why the account was refused")
    nothing: str | None = Field(None, description="why the run found no document, with a suggestion if there is one")
    others: int = Field(0, description="collected jobs of documents outside the selection; not included in these sums")
    backfill: str | None = Field(None, description="the backfill that the run worked on")
    ceiling: str | None = Field(
        None, description="the ceiling on pages or money that was reached, and the document that did not fit"
    )
    held: str | None = Field(None, description="why that backfill sends nothing: paused, cancelled")
    figures: Figures | None = Field(None, description="the progress of that backfill, from the ledger")
    note: str | None = Field(None, description="a deviation from the options: synchronous requests instead of jobs")
    texts: int = Field(0, description="plain texts written beside results of earlier runs")
    failures: list[FailedDocument] = Field([], description=f"the first {_LISTED}")
    set_aside: list[AsideDocument] = Field([], description=f"the first {_LISTED}")
    published: list[PublishedDocument] = Field([], description=f"the first {_LISTED}")

    @property
    def exit_status(self) -> ExitStatus:
        """The command's exit status after this run."""
        if self.ended:
            return ExitStatus.SETUP
        if self.refused:
            return ExitStatus.ACCOUNT_REFUSED
        if self.nothing:
            return ExitStatus.SETUP
        if self.ceiling:
            return ExitStatus.CEILING_REACHED
        unfinished = self.flow == "backfill" and (
            self.open or self.left or self.stopped or self.unreadable or self.held
        )
        some = self.failed or self.failed_before or self.aside or self.missing or unfinished
        return ExitStatus.SOME_FAILED if some else ExitStatus.DONE

    @property
    def did_nothing(self) -> bool:
        """Whether there was nothing new to send, and nothing to collect."""
        did = self.done or self.failed or self.requests or self.open or self.left or self.others or self.messages
        return not (did or self.aside or self.missing or self.texts or self.failed_before)

    def add(self, outcome: Outcome) -> None:
        """Add an outcome, except for the state of the document."""
        self.add_spent(outcome)
        self.pages += outcome.pages
        if outcome.kind == "failed" and len(self.failures) < _LISTED:
            self.failures.append(FailedDocument(document=outcome.name, reason=outcome.message))
        if outcome.set_aside and len(self.set_aside) < _LISTED:
            self.set_aside.append(AsideDocument(document=outcome.name, reason=outcome.message))
        if outcome.kind == "done" and len(self.published) < _LISTED:
            self.published.append(
                PublishedDocument(
                    document=outcome.name, result=outcome.result, pages=outcome.pages, words=outcome.words
                )
            )

    def add_spent(self, outcome: Outcome) -> None:
        """Add the submissions of an outcome."""
        self.pages_sent += outcome.pages_sent
        self.requests += outcome.requests
        self.possible_duplicates += outcome.possible_duplicates

    def top_reasons(self) -> str:
        """Return the most common reasons of the listed failures, with their numbers."""
        # The first words of a reason are the same for all documents; details, such as page numbers, follow.
        reasons = Counter(re.split(r"[:;,(]", failure.reason)[0].strip() for failure in self.failures)
        return "; ".join(f"{reason} ({number})" for reason, number in reasons.most_common(3))

    def sentence(self) -> str:
        """Return the run in one line."""
        parts = [f"{number:,} {name}" for name, number in self._counts()]
        line = (
            f"{quantity(self.documents, 'document')}: {', '.join(parts)}; {quantity(self.pages_sent, 'page')} sent in "
            f"{quantity(self.requests, 'request')}"
        )
        if self.possible_duplicates:
            line += f"; {duplicates_text(self.possible_duplicates)}"
        if self.missing:
            one = self.missing == 1
            line += f"; {self.missing:,} that {'was' if one else 'were'} named {'is' if one else 'are'} missing"
        if self.others:
            line += f"; {quantity(self.others, 'job')} of other documents collected"
        if self.flow == "listen":
            line += f"; {quantity(self.messages, 'message')} processed, {self.messages_left} left"
        return line

    def explanation(self) -> str:
        """Return the run in one line, followed by a line for each reason why it did not do everything."""
        reasons = [
            self.ended,
            self.refused,
            self.nothing,
            self.ceiling or self.stopped,
            self.held,
            self.left_alone() if self.unreadable else None,
            f"failed, most often because: {self.top_reasons()}" if self.failures else None,
        ]
        return "\n".join([self.sentence(), *dict.fromkeys(reason for reason in reasons if reason)])

    def _counts(self) -> list[tuple[str, int]]:
        """Return the counts of documents by outcome; rare outcomes are named only if they occurred."""
        counts = [("done", self.done), ("failed", self.failed), ("open", self.open), ("skipped", self.skipped)]
        return counts + [pair for pair in (("set aside", self.aside), ("left", self.left)) if pair[1]]

    def left_alone(self) -> str:
        """Describe the jobs that were left alone because this version cannot read their records."""
        return (
            f"{self.unreadable} open jobs were left alone: their records were written by another version of this "
            "program, which the log names; update it here, or let that version finish them"
        )

    def markdown(self) -> str:
        """Return the run as a page for the Prefect UI."""
        lines = [f"# {self.flow.capitalize()} of {_code(self.source or self.destination)}", ""]
        if self.ended:
            lines += [f"**Stopped: {_plain(self.ended)}**", ""]
        if self.refused:
            lines += [f"**Stopped: {_plain(self.refused)}**", ""]
        if self.nothing:
            lines += [f"Found nothing: {_plain(self.nothing)}", ""]
        if self.note:
            lines += [_plain(self.note), ""]
        if self.unreadable:
            lines += [self.left_alone(), ""]
        if self.stopped:
            lines += [f"Not everything was sent: {_plain(self.stopped)}", ""]
        if self.held:
            lines += [f"**{_plain(self.held)}**", ""]
        names, numbers = zip(*self._counts(), strict=True)
        lines += _table(("documents", *names), [(str(self.documents), *map(str, numbers))])
        lines += _table(
            ("pages published", "pages sent", "requests", "submissions possibly paid twice", "seconds"),
            [
                (
                    str(self.pages),
                    str(self.pages_sent),
                    str(self.requests),
                    str(self.possible_duplicates),
                    f"{self.seconds:.1f}",
                )
            ],
        )
        if self.figures is not None:
            lines += _backfill(self.figures)
        if self.failures:
            lines += [f"## Failed{_first(self.failures, self.failed)}", ""]
            lines += _table(("document", "reason"), [(_code(f.document), _plain(f.reason)) for f in self.failures])
        if self.set_aside:
            lines += [f"## Set aside{_first(self.set_aside, self.aside)}", ""]
            lines += ["An operator has to act. Each run tries these documents once.", ""]
            lines += _table(("document", "reason"), [(_code(a.document), _plain(a.reason)) for a in self.set_aside])
        if self.failed_before:
            lines += [f"{self.failed_before} more failed in earlier runs.", ""]
        if self.missing:
            lines += [f"## Missing{_first(self.missing_keys, self.missing)}", ""]
            lines += ["These named documents do not exist or are outside the source.", ""]
            lines += _table(("document",), [(_code(key),) for key in self.missing_keys])
        if self.published:
            lines += [f"## Published{_first(self.published, self.done)}", ""]
            lines += _table(
                ("document", "result", "pages", "words"),
                [(_code(p.document), _code(p.result), str(p.pages), str(p.words)) for p in self.published],
            )
        lines += [f"Results and ledger: {_code(self.destination)}"]
        return "\n".join(lines)


def _backfill(found: Figures) -> list[str]:
    """Return the progress of the backfill, from all runs that have worked on it."""
    lines = [f"## Backfill {_plain(found.name)}: {found.shown_state}", "", f"{_plain(found.sentence())}.", ""]
    lines += [f"{_plain(remark)}", ""] if (remark := found.changed) else []
    rates = sparkline([pages for _, pages in found.per_minute])
    if rates:
        lines += [f"Pages a minute, from {found.per_minute[0][0]:%Y-%m-%d %H:%M} UTC on: `{rates}`", ""]
    if found.seconds_p50 is not None and found.seconds_p90 is not None:
        shape = sparkline([count for _, _, count in histogram(found.latencies, 20)])
        lines += [
            f"From claim to result: half in {span(found.seconds_p50)}, nine of ten in {span(found.seconds_p90)} "
            f"`{shape}`",
            "",
        ]
    if found.confidence:
        lines += [f"Words by confidence, from 0 to 1: `{sparkline(found.confidence)}`", ""]
    if found.failures:
        lines += _table(
            ("failed because", "documents"), [(_code(code), f"{number:,}") for code, number in found.failures.items()]
        )
        lines += [f"Details and what to do: `bulk-ocr failures {printable(found.destination)}`", ""]
    if found.partitions:
        lines += _table(
            ("partition", "finished", "failed", "open", "pages", "pages charged", "cost"),
            [
                (
                    _code(partition.name),
                    f"{partition.finished:,} of {partition.total:,}",
                    f"{partition.failed:,}",
                    f"{partition.open:,}",
                    f"{partition.pages:,}",
                    f"{partition.spent:,}",
                    dollars(partition.cost),
                )
                for partition in found.partitions[:_LISTED]
            ],
        )
    page = f"{found.destination.rstrip('/')}/{LEDGER_FOLDER}backfills/{found.name}/report.html"
    lines += [f"The same with plots, as one page to keep or send: {_code(page)}", ""]
    if found.slowest:
        slowest = [(_code(document), span(seconds)) for document, seconds in found.slowest]
        lines += ["Slowest:", "", *_table(("document", "from claim to result"), slowest)]
    if found.least_confident:
        least = [(_code(document), f"{mean:.3f}") for document, mean in found.least_confident]
        lines += ["Least confident:", "", *_table(("document", "mean of its words"), least)]
    return lines


def _first(shown: Sized, total: int) -> str:
    return f" (the first {len(shown)} of {total})" if total > len(shown) else ""


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    columns = list(header)
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return [*lines, ""]


def _plain(text: str) -> str:
    """Escape text for Markdown and HTML: keys and messages are untrusted."""
    text = html.escape(printable(" ".join(text.split())), quote=False)
    return "".join(f"\\{char}" if char in "\\`*_{}[]()#|~!<" else char for char in text)


def _code(text: str) -> str:
    """Format any text as a code span in a table."""
    if "\\|" in text:  # Markdown readers disagree about where such cells end, and code spans have no escapes
        return _plain(text)
    text = printable(" ".join(text.split())).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"
