"""The progress of a run on the terminal; one line now and then where there is no terminal."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

_LINE_SECONDS = 10


@dataclass(frozen=True)
class Progress:
    """How far a run is, for whoever watches it."""

    listed: int
    finished: int
    open: int
    pages_sent: int
    message: str


watcher: ContextVar[Callable[[Progress], None] | None] = ContextVar("watcher", default=None)


@contextmanager
def shown(console: Console, *, quiet: bool = False) -> Iterator[None]:
    """Show the progress of the run that is started inside.

    Args:
        console: where to; standard error, so that data stays clean.
        quiet: show nothing, because something else does (the log).
    """
    if quiet:
        yield
        return
    if console.is_terminal:
        yield from _bar(console)
    else:
        yield from _lines(console)


def _bar(console: Console) -> Iterator[None]:
    bar = Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[details]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with bar:
        line = bar.add_task("starting", total=None, details="")

        def show(progress: Progress) -> None:
            bar.update(
                line,
                description=progress.message,
                completed=progress.finished,
                total=max(progress.listed, 1),
                details=f"documents, {progress.open} open, {progress.pages_sent} pages sent",
            )

        token = watcher.set(show)
        try:
            yield
        finally:
            watcher.reset(token)


def _lines(console: Console) -> Iterator[None]:
    last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last < _LINE_SECONDS:
            return
        last = time.monotonic()
        console.print(
            f"{progress.message}: {progress.finished} of {progress.listed} documents finished, "
            f"{progress.open} open, {progress.pages_sent} pages sent",
            highlight=False,
        )

    token = watcher.set(show)
    try:
        yield
    finally:
        watcher.reset(token)


class LocalProgress(NamedTuple):
    """How far the command `file` is: documents finished, pages recognised, and pages known of."""

    finished: int
    pages: int
    of: int


class Counter:
    """Shows how many of several documents are finished, and of how many pages; safe between threads.

    Args:
        console: where to; standard error, so that data stays clean.
        total: how many documents there are.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._last = time.monotonic()
        self._lock = threading.RLock()
        columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        # Not redirected: what is printed on standard output would go to standard error, folded to its width.
        self._bar = Bar(
            *columns,
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._line = self._bar.add_task("documents", total=total)

    def show(self, progress: LocalProgress) -> None:
        """Show how far it is: as a bar, or a line now and then where there is no terminal."""
        pages = f", {progress.pages} of {progress.of} pages" if progress.of else ""
        with self._lock:
            self._bar.update(self._line, completed=progress.finished, description=f"documents{pages}")
            if not self._console.is_terminal and time.monotonic() - self._last >= _LINE_SECONDS:
                self._last = time.monotonic()
                self.say(f"{progress.finished} of {self._total} documents finished{pages}")

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Keep the bar out of the way of what is printed meanwhile."""
        with self._lock:
            self._bar.stop()
            try:
                yield
            finally:
                self._bar.start()

    def say(self, sentence: str) -> None:
        """Print a sentence for a person, in one line however long."""
        with self.aside():
            print(f"bulk-ocr: {sentence}", file=self._console.file, flush=True)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._bar.stop()
