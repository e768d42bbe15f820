"""Progress on the terminal: a bar, or a line from time to time if there is no terminal."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from flows.cli.output import say_to
from flows.run.progress import Progress

_LINE_SECONDS = 10


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
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[details]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._last: Progress | None = None
        self._task = self._bar.add_task("starting", total=None, details="")

    def show(self, progress: Progress) -> None:
        """Show the progress."""
        details = f"documents, {progress.details}" if progress.details else "documents"
        with self._lock:
            self._last = progress
            self._bar.update(
                self._task,
                description=progress.doing,
                completed=progress.finished,
                total=progress.total,
                details="" if progress.total is None else details,
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
