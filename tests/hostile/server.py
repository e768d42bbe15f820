"""The API and its storage host in one small server that gives back whatever bytes it is told to."""

import contextlib
import gzip
import io
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

import pypdfium2

from tests.serving import Serving

KEY = "up_hostile_tests_key"
SECRET = "presigned-topsecret"
Json = dict[str, Any]
Change = Callable[[Json], bytes]
_RENDERING = threading.Lock()


def plain(answer: Json) -> bytes:
    """An answer as it should be."""
    return json.dumps(answer).encode()


class Body:
    """An answer's bytes, and how they are sent.

    Args:
        pieces: the bytes, as lazily as they are sent.
        status: the HTTP status.
        headers: header lines, written as they are.
    """

    def __init__(self, pieces: Iterable[bytes], status: int = 200, headers: Iterable[bytes] = ()) -> None:
        self.pieces, self.status, self.headers = pieces, status, tuple(headers)

    @classmethod
    def zipped(cls, fill: bytes, megabytes: int) -> "Body":
        """A small body that inflates to a large one."""
        out = io.BytesIO()
        with gzip.GzipFile(fileobj=out, mode="wb") as packed:
            for _ in range(megabytes):
                packed.write(fill * (1 << 20))
        return cls([out.getvalue()], headers=[b"Content-Encoding: gzip"])


class HostileApi(Serving):
    """Use as a context manager. Well-behaved until told otherwise.

    Attributes:
        submitted: makes the receipt of a submission.
        status: makes the status answer.
        batch: makes a batch.
        changes: how often the above are used before all is well again; -1 for ever.
        override: answers instead, or what makes them, by path prefix.
        sent: bytes of bodies that went out.
        seen: method, path and Authorization header of every call.
        uploads: the body of every submission.
        texts: the pages' texts of each submission.
    """

    def __init__(self) -> None:
        self.submitted: Change = plain
        self.status: Change = plain
        self.batch: Change = plain
        self.changes = -1
        self.override: Mapping[str, Body | Callable[[], Body]] = {}
        self.sent = 0
        self.seen: list[tuple[str, str, str | None]] = []
        self.uploads: list[bytes] = []
        self.texts: list[list[str]] = []
        hostile = self

        class Handler(_Handler):
            api = hostile

        super().__init__(Handler)
        self.base_url = f"{self.url}/v1"

    def reset(self) -> None:
        """Well-behaved again, and everything forgotten."""
        self.submitted = self.status = self.batch = plain
        self.changes = -1
        self.override, self.seen, self.uploads, self.texts, self.sent = {}, [], [], [], 0

    def calls(self, path: str) -> int:
        """How many calls came in under a path."""
        return sum(seen[1].startswith(path) for seen in self.seen)

    def changed(self, change: Change, answer: Json) -> bytes:
        """An answer, changed as often as the test wants it."""
        if change is plain or self.changes == 0:
            return plain(answer)
        self.changes -= 1
        return change(answer)

    def accept(self, upload: bytes) -> bytes:
        """Take a submission."""
        document = upload[upload.index(b"%PDF") : upload.rindex(b"%%EOF") + 6]
        with _RENDERING, pypdfium2.PdfDocument(document) as pdf:
            texts = [page.get_textpage().get_text_range() for page in pdf]
        self.texts.append(texts)
        return self.changed(self.submitted, {"request_id": f"request-{len(self.texts) - 1}"})

    def stands(self, path: str) -> bytes | None:
        """Answer how a request stands; always finished, ten pages a batch."""
        number = path.rpartition("-")[2]
        if not number.isdecimal() or int(number) >= len(self.texts):
            return None
        total = len(self.texts[int(number)])
        batches = [
            {
                "id": first // 10,
                "model": "ocr-250904",
                "status": "completed",
                "failure_message": "",
                "download_url": f"{self.url}/storage/{number}/{first}?X-Signature={SECRET}",
                "start_page": first + 1,
                "end_page": min(first + 10, total),
                "requested_at": "2026-07-01T14:47:01.863880448Z",
            }
            for first in range(0, total, 10)
        ]
        return self.changed(
            self.status,
            {
                "id": f"request-{number}",
                "status": "completed",
                "model": "ocr",
                "failure_message": "",
                "total_pages": total,
                "completed_pages": total,
                "batches": batches,
                "completed_at": None,
            },
        )

    def stored(self, path: str) -> bytes:
        """A batch, in the older shape."""
        number, first = map(int, path.partition("?")[0].split("/")[2:4])
        texts = self.texts[number][first : first + 10]
        words = [{"id": 0, "text": "page", "confidence": 0.9, "boundingBox": {"vertices": [{"x": 1, "y": 2}] * 4}}]
        pages = [
            {"id": place, "width": 7, "height": 9, "confidence": 0.9, "text": text, "mark": text, "words": words}
            for place, text in enumerate(texts)
        ]
        sizes = [{"page": place + 1, "width": 7, "height": 9} for place in range(len(texts))]
        return self.changed(
            self.batch,
            {
                "apiVersion": "1.1",
                "confidence": 0.9,
                "metadata": {"pages": sizes},
                "numBilledPages": len(texts),
                "pages": pages,
                "stored": True,
                "text": "\n".join(texts),
            },
        )


class _Handler(BaseHTTPRequestHandler):
    api: HostileApi

    def _handle(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.api.seen.append((self.command, self.path, self.headers.get("Authorization")))
        if self.command == "POST":
            self.api.uploads.append(sent)
        override = next((body for start, body in self.api.override.items() if self.path.startswith(start)), None)
        if override is not None:
            self._send(override if isinstance(override, Body) else override())
            return
        answer: bytes | None = None
        if self.path.endswith("/async"):
            answer = self.api.accept(sent)
        elif "/requests/" in self.path:
            answer = self.api.stands(self.path)
        elif self.path.startswith("/storage/"):
            answer = self.api.stored(self.path)
        elif self.path.endswith("/requests"):
            answer = b'{"requests":[]}'
        self._send(Body([answer]) if answer is not None else Body([b"{}"], 404))

    def _send(self, body: Body) -> None:
        lines = [b"HTTP/1.0 %d told" % body.status, *body.headers, b"", b""]
        with contextlib.suppress(ConnectionError):
            self.wfile.write(b"\r\n".join(lines))
            for piece in body.pieces:
                self.wfile.write(piece)
                self.api.sent += len(piece)
        self.close_connection = True

    do_GET = do_POST = _handle  # noqa: N815 - the base class names them so

    def log_message(self, *_args: object) -> None:
        """Say nothing."""
