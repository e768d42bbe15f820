"""The progress of a run on the terminal; one line now and then where there is no terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

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


@contextmanager
def counted(console: Console, total: int) -> Iterator[Callable[[], None]]:
    """Show how many of several documents are finished, on a terminal; gives what counts one."""
    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("documents"), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task("", total=total)
        yield lambda: bar.advance(line)
