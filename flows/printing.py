"""What the command `file` prints of a result: its text, or its words one a line."""

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from flows.file import FileResult
from tasks.documents.reading import read_pages


def print_texts(results: Sequence[FileResult], out: TextIO) -> None:
    """Print the text of documents, pages divided by form feeds; several documents each under a line with its name."""
    for result in results:
        if result.output is None:
            continue
        if len(results) > 1:
            out.write(f"==> {result.document} <==\n")
        for page in read_pages(Path(result.output)):
            out.write(page.text if page.number == 1 else f"\f{page.text}")
        out.write("\n")


def print_words(results: Sequence[FileResult], out: TextIO) -> None:
    """Print a line a word: page, confidence, box (x,y of each corner) and text, divided by tabs.

    Of several documents, the first column is the document.
    """
    for result in results:
        if result.output is None:
            continue
        before = f"{result.document}\t" if len(results) > 1 else ""
        for page in read_pages(Path(result.output)):
            for word in page.words:
                confidence = "" if word.confidence is None else f"{word.confidence:g}"
                box = " ".join(f"{x:g},{y:g}" for x, y in word.box)
                # A word of several lines or with a tab would be several lines or columns.
                out.write(f"{before}{page.number}\t{confidence}\t{box}\t{' '.join(word.text.split())}\n")
