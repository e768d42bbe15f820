"""Output of commands: data to standard output, errors to standard error, all of it safe for a terminal."""

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, TextIO

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tasks.faults import SetupFault
from tasks.printable import printable, printable_json

if TYPE_CHECKING:
    from pydantic import BaseModel

_PIPE_WIDTH = 200
SCHEMA_VERSION = 1  # of all JSON output: increased when a field changes its meaning or is removed


class Styled(NamedTuple):
    """A table cell with its own style."""

    text: str
    style: str


class _StandardOutput(Console):
    def on_broken_pipe(self) -> None:
        """Continue without a reader; rich would end the command."""
        _write_to_nobody()


class Page:
    """Standard output for people. Every text is made printable, whatever its origin.

    Args:
        console: where to print; standard output by default, with unlimited width if it is not a terminal.
    """

    def __init__(self, console: Console | None = None) -> None:
        if console is None:
            console = _StandardOutput(soft_wrap=True)
            if not console.is_terminal:
                console.width = _PIPE_WIDTH
        self._console = console

    def say(self, line: str, style: str | None = None) -> None:
        """Print a line."""
        with writing():
            self._console.print(Text(printable(line)), style=style, highlight=False)

    def marked(self, line: str, marks: Iterable[tuple[int, int]], before: str = "«", after: str = "»") -> None:
        """Print a line with parts of it marked: in bold, or between marks if the output has no styles.

        Args:
            line: the line.
            marks: start and end of each part, in order.
            before: the mark before each part.
            after: the mark after each part.
        """
        shown, at = Text(), 0
        for start, end in marks:
            shown.append(printable(line[at:start]))
            shown.append(f"{before}{printable(line[start:end])}{after}", "bold")
            at = end
        shown.append(printable(line[at:]))
        with writing():
            self._console.print(shown, highlight=False)

    def draw(self, picture: Callable[[int], RenderableType]) -> None:
        """Print a layout made for the available width."""
        with writing():
            self._console.print(picture(self._console.width), soft_wrap=False)

    def table(self, rows: Iterable[Sequence[str | Styled]], header: Sequence[str] = ()) -> None:
        """Print rows in columns; below one another if the columns do not fit: nobody can copy a folded address."""
        cells = [[cell if isinstance(cell, Styled) else Styled(cell, "") for cell in row] for row in rows]
        texts = [[Text(printable(cell.text), style=cell.style, overflow="fold") for cell in row] for row in cells]
        lengths = [[cell_len(name) for name in header], *([text.cell_len for text in row] for row in texts)]
        widths = [max(column) for column in zip(*filter(None, lengths), strict=True)]
        if header and sum(widths) + 2 * (len(widths) - 1) > self._console.width:
            self._stack(texts, header)
            return
        table = Table(*header, box=None, header_style="bold", pad_edge=False, show_header=bool(header))
        for row in texts:
            table.add_row(*row)
        with writing():
            self._console.print(table)

    def _stack(self, rows: Iterable[Sequence[Text]], header: Sequence[str]) -> None:
        """Print the first column of each row in a line of its own, and the others below it, with their names."""
        with writing():
            for first, *others in rows:
                self._console.print(first, soft_wrap=True, highlight=False)
                named = [Text.assemble(f"{name} ", text) for name, text in zip(header[1:], others, strict=True) if text]
                self._console.print(Text("  ") + Text(" · ").join(named), soft_wrap=True, highlight=False)


class Shown(Protocol):
    """The report of a command."""

    def model_dump_json(self) -> str:
        """Return the report as JSON."""

    def show(self, page: Page) -> None:
        """Print for a person."""


def show(report: Shown, *, json: bool) -> None:
    """Print a command's report, as one JSON object or for a person."""
    if json:
        print_json(report)
    else:
        report.show(Page())


def print_json(report: "Shown | BaseModel") -> None:
    """Print a report as one JSON object in one line."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    with writing():
        print(printable_json(_versioned(report.model_dump_json()), ascii_only=encoding != "utf8"), flush=True)


def _versioned(text: str) -> str:
    """Add the schema version at the beginning of a JSON object."""
    return f'{{"schema_version":{SCHEMA_VERSION},{text[1:]}'


def complain(message: str) -> None:
    """Print an error or a warning to standard error."""
    say_to(sys.stderr, message)


def say_to(stream: TextIO, sentence: str) -> None:
    """Print a sentence in one line. If it cannot be written, it is lost, and the work continues."""
    with suppress(OSError, ValueError):
        print(f"bulk-ocr: {printable(sentence)}", file=stream, flush=True)


def prepare_streams() -> None:
    """Make standard streams usable: replace closed ones, set error handling for encodings, install an error hook."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed when the process started
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # stays open till the process ends
    for stream in (sys.stdout, sys.stderr):
        # Escape characters that the locale's encoding lacks. A test's replacement of a stream may need no change.
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
    sys.excepthook = _unexpected


def _unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    with suppress(OSError, ValueError):
        print(printable(text, "\n\t"), end="", file=sys.stderr)


def flush() -> None:
    """Flush standard output.

    Raises:
        SetupFault: it cannot be written.
    """
    with writing():
        sys.stdout.flush()


@contextmanager
def writing() -> Iterator[None]:
    """Wrap code that writes to standard output.

    A reader that closes the pipe, such as `head -1`, does not end the command: further output is discarded.

    Raises:
        SetupFault: writing failed for another reason, such as a full disk.
    """
    try:
        yield
    except BrokenPipeError:
        _write_to_nobody()
    except OSError as error:
        _write_to_nobody()
        raise SetupFault(
            f"standard output cannot be written ({error.strerror}): what was done is on record and nothing is done "
            "twice; make room, or send the output elsewhere, and give the command again"
        ) from error


def _write_to_nobody() -> None:
    with Path(os.devnull).open("wb") as nowhere, suppress(OSError, ValueError):
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def print_name(name: str, out: TextIO) -> None:
    """Print a name in one line: unchanged for programs, made printable for a terminal."""
    out.write(f"{shown(name, out)}\n")


def shown(text: str, out: TextIO, keep: str = "") -> str:
    """Return text unchanged for programs; for a terminal made printable, but for the characters to keep."""
    return printable(text, keep) if out.isatty() else text
