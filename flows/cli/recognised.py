"""Recognised text and words on standard output."""

from pathlib import Path
from typing import TextIO

from flows.cli.output import print_name, shown
from tasks.documents.results.read import read_pages


def print_text(result: Path, out: TextIO, document: str | None = None) -> None:
    """Print the text of a document with form feeds between pages, after a line with its name if one is given."""
    if document is not None:
        print_name(f"==> {document} <==", out)
    for page in read_pages(result):
        text = shown(page.text, out, "\n\t")
        out.write(text if page.number == 1 else f"\f{text}")
    out.write("\n")


def print_words(result: Path, out: TextIO, document: str | None = None) -> None:
    """Print one line per word: page, confidence, box (x,y of each corner) and text, separated by tabs.

    If the document's name is given, it is the first column.
    """
    before = "" if document is None else f"{shown(' '.join(document.split()), out)}\t"
    for page in read_pages(result):
        for word in page.words:
            confidence = "" if word.confidence is None else f"{word.confidence:g}"
            box = " ".join(f"{x:g},{y:g}" for x, y in word.box)
            # Line breaks and tabs within a word would break the table.
            text = shown(" ".join(word.text.split()), out)
            out.write(f"{before}{page.number}\t{confidence}\t{box}\t{text}\n")
