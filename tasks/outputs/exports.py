"""Exports results as plain text, hOCR, ALTO or JSON lines, with one page in memory at a time.

with open("scan.hocr", "w", encoding="utf-8") as out:
    export_result(Path("scan.pdf.ocr.json"), "hocr", out, ExportedFrom("scan.pdf"))
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, get_args

from tasks.documents.results.read import read_pages, read_texts
from tasks.documents.results.words import PlainText, Size
from tasks.outputs import alto, hocr
from tasks.outputs.page_layout import PageLayout, drawn_layout, place_words

ExportFormat = Literal["text", "hocr", "alto", "jsonl"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
ENDINGS: dict[ExportFormat, str] = {"text": ".txt", "hocr": ".hocr", "alto": ".alto.xml", "jsonl": ".jsonl"}


@dataclass(frozen=True)
class ExportedFrom:
    """Names of the exported document and result.

    Attributes:
        document: the document's name.
        result: the result's address; if empty, the document's name is used.
        sizes: the sizes of the pages' pictures in pixels, for results without sizes.
    """

    document: str
    result: str = ""
    sizes: Sequence[Size | None] = ()


def export_result(result: Path | str, to: ExportFormat, out: IO[str], source: ExportedFrom) -> int:
    """Write a result in another format.

    Args:
        result: the result, of any answer shape.
        to: the format.
        out: the output, opened as UTF-8; `errors="replace"` tolerates lone surrogates.
        source: the names of document and result.

    Returns:
        The number of pages.

    Raises:
        DocumentFault: the file is not a result, or is truncated; the output is incomplete then.
        SetupFault: an address in S3 was given.
    """
    pages = 0
    match to:
        case "text":
            plain = PlainText(out)
            for text in read_texts(result):
                plain.add(text)
            pages = plain.pages
        case "jsonl":
            for page in read_pages(result):
                out.write(json.dumps(page_record(place_words(page), source), ensure_ascii=False) + "\n")
                pages = page.number
        case "hocr" | "alto":
            write = hocr.write_hocr if to == "hocr" else alto.write_alto
            pages = write(_layouts(result, source), out, source.document)
    return pages


def page_record(page: PageLayout, source: ExportedFrom) -> dict[str, object]:
    """Return the record of a page in JSON lines: its text, and metadata for search engines and document loaders."""
    confidences = [word.confidence for word in page.words if word.confidence is not None]
    address = source.result or source.document
    mean = page.mean_confidence()
    return {
        "id": f"{address}#page={page.number}",
        "text": page.text,
        "document": source.document,
        "result": address,
        "page": page.number,
        "words": len(page.words),
        "confidence": None if mean is None else round(mean, 4),
        "lowest_confidence": min(confidences, default=None),
    }


def _layouts(result: Path | str, source: ExportedFrom) -> Iterator[PageLayout]:
    for page in read_pages(result):
        known = source.sizes[page.number - 1 :][:1]
        yield drawn_layout(page, known[0] if known else None)
