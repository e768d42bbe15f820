"""Writes one result from answers in either of Google's two forms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from tasks.documents.results.batch import Form, annotated_pages
from tasks.documents.results.words import ASK_OTHERWISE, PlainText, count_words, is_wordless_page, page_texts, undivided
from tasks.documents.results.writers import Answer, ResultWriter, Spool, copy, dumps, renumbered
from tasks.faults import DocumentFault, FailureCode
from tasks.job.coverage import Share


class ResponsesWriter(ResultWriter):
    """Google's form with `responses[]`.

    `context.pageNumber` of responses with one page is renumbered 1..N over the document. A response with several pages
    is written unchanged, because no single number fits it. `totalPages` becomes the document's page count.
    """

    form = Form.RESPONSES
    opening = '{"responses": ['
    key = "responses"

    def _add(self, answer: Answer, share: Share) -> None:
        before, first, last = 0, share.offset, share.offset + len(share.pages)
        for response in answer["responses"]:
            pages = max(1, len(annotated_pages(response)))
            if first < before + pages and before < last:
                if before < first or before + pages > last:
                    raise _cut(share, "share one response with other pages")
                if pages == 1:
                    response = renumbered(response, "context", "pageNumber", self.pages + 1)
                self._write_unit(response, pages)
            before += pages

    def _total(self, key: str, value: Any) -> Any:
        return self.pages if key == "totalPages" else super()._total(key, value)


class DocumentWriter(ResultWriter):
    """Google's form with one `fullTextAnnotation` and one `textAnnotations[]` for all pages.

    The texts of the batches are concatenated, each on a new line. The first entry of `textAnnotations` repeats the full
    text, so only that of the first batch is written, with the merged text. Its `boundingPoly` stays that of the first
    batch, because pages of several batches have no common box. If a blank page has no entry in `pages`, `{}` is written
    for it, so that pages can be counted. A single batch is written unchanged, except that a missing list of `pages`
    becomes an empty one.
    """

    form = Form.DOCUMENT
    opening = '{"fullTextAnnotation": {"pages": ['
    key = "fullTextAnnotation"

    def __init__(self, out: IO[str], spool: Spool, plain: PlainText | None, alone: bool) -> None:
        super().__init__(out, spool, plain, alone)
        self._text, self._entries = spool(), spool()
        self._annotation: dict[str, Any] | None = None
        self._first_entry: dict[str, Any] | None = None
        self._holds: _Holds | None = None
        self._has_text = self._has_entries = False
        self._last = "\n"
        self._any_text = self._any_entry = False

    def _add(self, answer: Answer, share: Share) -> None:
        annotation = answer.get("fullTextAnnotation")
        if self._annotation is None and isinstance(annotation, dict):
            self._annotation = {key: value for key, value in annotation.items() if key != "pages"}
        pages: Sequence[Answer] = annotated_pages(answer)
        text: str | None = annotation.get("text") if isinstance(annotation, dict) else None
        entries: list[Any] = answer.get("textAnnotations") or []
        self._has_text |= text is not None
        if isinstance(answer.get("textAnnotations"), list):
            self._has_entries = True
            (self._head or {}).pop("textAnnotations", None)  # they are spooled, so they need not stay in memory
        self._any_text |= bool(text and text.strip())
        words = any(count_words(self.form, page) for page in pages)
        # White space counts as text only if there are words.
        holds = _Holds(bool(text and (text.strip() or entries or words)), bool(entries), words)
        if self._alone:
            if is_wordless_page(pages):
                self._write_wordless_page(answer, pages)
                pages = ()
        else:
            self._agree(share, pages, holds)
            pages = pages or ({},)
            if len(share.pages) < len(pages):
                text, pages = _part(share, pages, text, entries)
            elif entries:
                entries = self._without_first(share, text, entries)
        if text:
            self._text.write(dumps(text if self._last == "\n" else "\n" + text)[1:-1])
            self._last = text[-1]
        if entries:
            self._entries.write((",\n" if self._any_entry else "") + dumps(entries)[1:-1])
            self._any_entry = True
        for page in pages:
            self._write_unit(page)

    def _write_wordless_page(self, answer: Answer, pages: Sequence[Answer]) -> None:
        self._out.write(self.opening + "".join("\n" + dumps(page) for page in pages))
        self.pages = 1
        self.words = self._measurer.add(Form.RESPONSES, answer)
        if self._plain is not None:
            self._plain.add(page_texts(Form.RESPONSES, answer)[0])

    def _agree(self, share: Share, pages: Sequence[Answer], holds: "_Holds") -> None:
        """Check that all batches have the same kinds of members; otherwise the result would silently lack some."""
        if holds == _Holds():  # blank pages go with anything
            return
        if not pages:
            raise _unmergeable(f"the answer for pages {share.pages} has text but no pages")
        if self._holds not in (None, holds):
            raise _unmergeable(
                f"the answer for pages {share.pages} has different members (text, textAnnotations, words "
                "on pages) than "
                "earlier answers"
            )
        self._holds = holds

    def _without_first(self, share: Share, text: str | None, entries: list[Any]) -> list[Any]:
        first = entries[0]
        description = first.get("description") if isinstance(first, dict) else None
        if not isinstance(description, str) or text is None or description.rstrip() != text.rstrip():
            raise _unmergeable(f"the first of the textAnnotations for pages {share.pages} is not their full text")
        self._first_entry = self._first_entry or first
        return entries[1:]

    def _end(self, head: Answer) -> None:
        if self._plain is not None and self.pages > 1 and not self.words and self._any_text:
            raise undivided()
        annotation = self._annotation or {}
        for key, value in annotation.items():
            if key != "text":
                self._member(key, dumps(value))
        if self._has_text:
            self._member("text", "")
            self._write_text()
        elif "text" in annotation:
            self._member("text", "null")
        self._out.write("}")
        super()._end({key: value for key, value in head.items() if key != "textAnnotations"})
        if self._has_entries:
            self._member("textAnnotations", "[")
            self._write_entries()
            self._out.write("]")
        elif "textAnnotations" in head:
            self._member("textAnnotations", "null")

    def _write_text(self) -> None:
        self._out.write('"')
        copy(self._text, self._out)
        self._out.write('"')

    def _write_entries(self) -> None:
        if self._first_entry is not None:
            for place, (key, value) in enumerate(self._first_entry.items()):
                self._out.write(("{" if place == 0 else ", ") + dumps(key) + ": ")
                if key == "description":
                    self._write_text()
                else:
                    self._out.write(dumps(value))
            self._out.write("},\n" if self._any_entry else "}")
        copy(self._entries, self._out)


@dataclass(frozen=True)
class _Holds:
    """The kinds of members that a batch has besides pages; none if its pages are blank."""

    text: bool = False
    entries: bool = False
    words: bool = False


def _part(
    share: Share, pages: Sequence[Answer], text: str | None, entries: Sequence[Any]
) -> tuple[str | None, Sequence[Answer]]:
    """Return the text and the pages of a share that is only a part of its batch."""
    if entries:
        raise _cut(share, "arrived together with other pages, and their words cannot be separated")
    texts = [page_texts(Form.DOCUMENT, page)[0] for page in pages]
    if text is not None and _lines(texts).rstrip() != text.rstrip():
        raise _cut(share, "arrived together with other pages, and their text cannot be separated")
    part = slice(share.offset, share.offset + len(share.pages))
    return (None if text is None else _lines(texts[part])), pages[part]


def _lines(texts: Sequence[str]) -> str:
    """Concatenate texts, each on a new line."""
    *before, last = [text for text in texts if text] or [""]
    return "".join(text if text.endswith("\n") else text + "\n" for text in before) + last


def _cut(share: Share, why: str) -> DocumentFault:
    """Return the fault for pages that cannot be separated from the other pages of their batch."""
    return _unmergeable(f"pages {share.pages} {why}")


def _unmergeable(problem: str) -> DocumentFault:
    return DocumentFault(FailureCode.UNMERGEABLE, f"{problem}: nothing was published; {ASK_OTHERWISE}")
