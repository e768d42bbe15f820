"""Reads a multipart form, streaming the document to disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from deployments.local.upstage.errors import ApiError

_FIELD_BYTES = 1024
_HEADER_BYTES = 65536  # file names far beyond the API's limit must reach the check for that limit


@dataclass(frozen=True)
class Upload:
    """A form as it was sent; the document is at `path`, complete unless `size` exceeds the limit."""

    fields: dict[str, str]
    file_name: str
    path: Path
    size: int
    sha256: str


class _Form:
    """Collects the fields that the parser reports."""

    def __init__(self, target: BinaryIO, max_bytes: int, others: Literal["refuse", "ignore"]) -> None:
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None
        self.size = 0
        self.digest = hashlib.sha256()
        self.problem: str | None = None
        self._target = target
        self._max_bytes = max_bytes
        self._others = others
        self._ignored = False
        self._header = (b"", b"")
        self._disposition = b""
        self._name = ""
        self._value = b""
        self._is_file = False

    def on_part_begin(self) -> None:
        self._disposition = self._value = b""
        self._name = ""
        self._is_file = self._ignored = False

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end], self._header[1])

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])

    def on_header_end(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1]
        self._header = (b"", b"")

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = b"filename" in options
        self._ignored = self._others == "ignore" and self._name not in ("document", "model", "schema")
        if self._ignored:
            return
        if not self._name:
            self._complain("a form field has no name")
        elif self._name in self.fields or (self._name == "document" and self.file_name is not None):
            self._complain(f"field {self._name} is given twice")
        elif self._name not in ("document", "model", "schema"):
            self._complain(f"unknown field: {self._name}")
        elif self._is_file != (self._name == "document"):
            self._complain(f"field {self._name} must {'not ' if self._is_file else ''}be a file")
        elif self._is_file:
            self.file_name = options[b"filename"].decode("utf-8", "replace")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self.problem or self._ignored:
            return
        if not self._is_file:
            self._value += data[start:end]
            if len(self._value) > _FIELD_BYTES:
                self._complain(f"field {self._name} is too long")
            return
        self.size += end - start
        if self.size <= self._max_bytes:
            chunk = data[start:end]
            self.digest.update(chunk)
            self._target.write(chunk)

    def on_part_end(self) -> None:
        if not self._is_file and self._name and not self._ignored:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _complain(self, problem: str) -> None:
        self.problem = self.problem or problem


async def read_form(
    request: Request, target: Path, max_bytes: int, others: Literal["refuse", "ignore"] = "refuse"
) -> Upload:
    """Read the form of a request to its end.

    Bytes beyond `max_bytes` are read and discarded: otherwise, a client that is still sending would see a broken
    connection instead of the answer.

    Args:
        request: the request, whose body has not been read yet.
        target: the file for the document.
        max_bytes: the maximum number of bytes of the document to write.
        others: what to do with fields of other names.

    Returns:
        The form.

    Raises:
        ApiError: the API does not accept the form (400).
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        async for _ in request.stream():
            pass
        raise ApiError(400, "the body must be multipart/form-data")
    with target.open("wb") as file:
        form = _Form(file, max_bytes, others)
        feed = _parser(boundary, form)
        async for chunk in request.stream():
            feed(chunk)
    if form.problem:
        raise ApiError(400, form.problem)
    if form.file_name is None:
        raise ApiError(400, "document is required")
    return Upload(form.fields, form.file_name, target, form.size, form.digest.hexdigest())


def _parser(boundary: bytes, form: _Form) -> Callable[[bytes], None]:
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": form.on_part_begin,
            "on_header_field": form.on_header_field,
            "on_header_value": form.on_header_value,
            "on_header_end": form.on_header_end,
            "on_headers_finished": form.on_headers_finished,
            "on_part_data": form.on_part_data,
            "on_part_end": form.on_part_end,
        },
        max_header_size=_HEADER_BYTES,
    )

    def feed(chunk: bytes) -> None:
        if not chunk:
            return
        try:
            parser.write(chunk)
        except FormParserError:
            form.problem = form.problem or "the form cannot be read"

    return feed
