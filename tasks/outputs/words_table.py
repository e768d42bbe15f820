"""Streams all recognised words into a Parquet table, one row for each word.

write_words([("scan.pdf", "scan.pdf.ocr.json", Path("scan.pdf.ocr.json"))], Path("words.parquet"))
"""

import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.documents.results.read import read_pages, read_texts
from tasks.faults import EndsDocument, SetupFault
from tasks.outputs.page_layout import PageLayout, bounds, place_words
from tasks.outputs.results import ResultFile, storable
from tasks.scratch import folder_fault

if TYPE_CHECKING:
    import pyarrow.parquet as pq

ROWS_A_FILE = 5_000_000
"""The maximum number of rows in a file; a longer table is a folder with several files."""

_ROWS_A_GROUP = 50_000
_SIDES = ("left", "top", "right", "bottom")
_COLUMNS = (
    ("document", "string"), ("result", "string"), ("page", "int32"), ("word", "int32"), ("line", "int32"),
    ("text", "string"), ("confidence", "float32"),
    *((side, "float32") for side in _SIDES), *((f"{side}_px", "float32") for side in _SIDES),
    ("page_width_px", "float32"), ("page_height_px", "float32"),
)  # fmt: skip


@dataclass
class WrittenWords:
    """The facts about a table that was written.

    Attributes:
        path: the file, or the folder of files.
        results: the number of results in it.
        words: the number of rows.
        files: the number of files.
        skipped: the results that were left out, as address and reason.
    """

    path: Path
    results: int = 0
    words: int = 0
    files: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def write_words(
    results: Iterable[tuple[ResultFile, Path | EndsDocument]], to: Path, rows_a_file: int = ROWS_A_FILE
) -> WrittenWords:
    """Write the words of results as Parquet.

    The columns are `document`, `result`, `page` and `word` (from 1), `line` (from 1, null if unknown), `text`,
    `confidence`; the word's bounds as ratios of the page (`left`, `top`, `right`, `bottom`) and in pixels (`left_px`,
    …), null if unknown; `page_width_px` and `page_height_px`.

    Args:
        results: results with their files, or the faults that prevent reading them, as yielded by `read_ahead`.
        to: the file. Beyond `rows_a_file` rows, it is a folder of that name, which Parquet readers treat like a file.
            An existing file or folder is replaced once everything is written.
        rows_a_file: the maximum number of rows in a file.

    Returns:
        The facts about the table.

    Raises:
        SetupFault: pyarrow is not installed, or the file cannot be written.
    """
    _parquet()
    written = WrittenWords(to)
    with _replaced(to) as room, _Files(room, rows_a_file) as files:
        for result, file in results:
            try:
                if isinstance(file, EndsDocument):
                    raise file
                for _ in read_texts(file):  # check the whole result first: rows that are written cannot be removed
                    pass
                for page in read_pages(file):
                    files.add(result, place_words(page))
            except EndsDocument as fault:
                written.skipped[result.address] = str(fault)
            else:
                written.results += 1
    written.words, written.files = files.rows, files.count
    return written


class _Files:
    """Writes the files of a table one after the other."""

    def __init__(self, room: Path, rows_a_file: int) -> None:
        self._arrow, self._parquet = _parquet()
        self._schema = self._arrow.schema([(name, getattr(self._arrow, kind)()) for name, kind in _COLUMNS])
        self._room = room
        self._rows_a_file = rows_a_file
        self._writer: pq.ParquetWriter | None = None
        self._in_file = 0
        self._waiting: dict[str, list[Any]] = {name: [] for name, _ in _COLUMNS}
        self.count = 0
        self.rows = 0

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write(force=True)
        if self._writer is not None:
            self._writer.close()

    def add(self, result: ResultFile, page: PageLayout) -> None:
        """Add the words of a page."""
        width, height = page.size or (None, None)
        for number, word in enumerate(page.words, 1):
            ratios, pixels = bounds(word.ratios) or (None,) * 4, bounds(word.pixels) or (None,) * 4
            row = (
                storable(result.document), storable(result.address), page.number, number, word.line, word.text,
                word.confidence, *ratios, *pixels, width, height,
            )  # fmt: skip
            for column, value in zip(self._waiting.values(), row, strict=True):
                column.append(value)
            if len(self._waiting["text"]) >= min(_ROWS_A_GROUP, self._rows_a_file - self._in_file):
                self._write()

    def _write(self, *, force: bool = False) -> None:
        rows = len(self._waiting["text"])
        if self._writer is None and (rows or (force and not self.count)):
            self.count += 1
            file = self._room / f"part-{self.count - 1:05}.parquet"
            self._writer = self._parquet.ParquetWriter(file, self._schema, compression="zstd")
        if rows and self._writer is not None:
            self._writer.write_table(self._arrow.table(self._waiting, schema=self._schema))
            self._waiting = {name: [] for name, _ in _COLUMNS}
        self.rows += rows
        self._in_file += rows
        if self._in_file >= self._rows_a_file and self._writer is not None:
            self._writer.close()
            self._writer, self._in_file = None, 0


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SetupFault(
            "Parquet needs pyarrow, which is not installed: pip install --constraint constraints.txt '.[outputs]'"
        ) from error
    return pyarrow, pyarrow.parquet


@contextmanager
def _replaced(to: Path) -> Iterator[Path]:
    """Provide a folder for the files, which replace an existing table once all of them are written."""
    room = to.with_name(f".{to.name}-{uuid.uuid4().hex}")
    try:
        if to.is_dir() and any(file.suffix != ".parquet" for file in to.iterdir()):
            raise SetupFault(f"{to} is a folder with unrelated files: name a file, such as {to / 'words.parquet'}")
        room.mkdir(parents=True)
        yield room
        files = sorted(room.iterdir())
        if to.is_dir():
            shutil.rmtree(to)
        if len(files) == 1:
            files[0].replace(to)
        else:
            to.unlink(missing_ok=True)
            room.replace(to)
    except OSError as error:
        raise folder_fault(to.parent, error) or SetupFault(
            f"{to} cannot be written ({error.strerror or error})"
        ) from error
    finally:
        shutil.rmtree(room, ignore_errors=True)
