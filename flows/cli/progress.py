"""Progress on the terminal: a bar, or a line from time to time if there is no terminal."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self, TextIO, cast

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from flows.cli.output import say_to
from flows.run.progress import Progress

_LINE_SECONDS = 10


class _BarAndDetails(Bar):
    """A bar, and the details below it: beside it, a narrow terminal would have no room for the bar."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the bar, and the details if there are any."""
        yield self.make_tasks_table(self.tasks)
        yield from (Padding(Text(details), (0, 0, 0, 2)) for task in self.tasks if (details := task.fields["details"]))


class Display:
    """Shows the progress of a run or another command. Thread-safe.

    Args:
        console: where to show it; standard error, to keep it apart from data.
        quiet: show nothing, for example because the log is shown.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._lines = not quiet and not console.is_terminal
        self._lock = threading.RLock()
        self._line_at = time.monotonic()
        # No redirection: rich would send standard output to standard error, wrapped to its width.
        self._bar = _BarAndDetails(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._last: Progress | None = None
        self._task = self._bar.add_task("starting", total=None, what="", details="")

    def show(self, progress: Progress) -> None:
        """Show the progress."""
        with self._lock:
            self._last = progress
            self._bar.update(
                self._task,
                description=progress.doing,
                completed=progress.finished,
                total=progress.total,
                what="" if progress.total is None else "documents",
                details="" if progress.total is None else progress.details,
            )
            if self._lines and time.monotonic() - self._line_at >= _LINE_SECONDS:
                self._line_at = time.monotonic()
                self.say(progress.line())

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Hide the bar while something is printed in the `with` block."""
        with self._lock:
            self._bar.stop()
            try:
                yield
            finally:
                self._bar.start()

    def say(self, sentence: str) -> None:
        """Print a sentence for a person, in one line of any length."""
        with self.aside():
            say_to(cast(TextIO, self._console.file), sentence)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        self._bar.stop()
        if kind is not None and issubclass(kind, KeyboardInterrupt) and self._last is not None:
            say_to(cast(TextIO, self._console.file), f"so far: {self._last.line()}")
