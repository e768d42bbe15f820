"""A list of results with their quality, and each of them in the viewer, served on this machine alone."""

import html
import io
import json
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from tasks.documents.results.read import read_pages
from tasks.documents.results.words import Size
from tasks.faults import EndsDocument, Fault
from tasks.outputs.originals import Original
from tasks.outputs.page_layout import place_words
from tasks.outputs.results import ResultFile, Results, storable
from tasks.outputs.viewer.page_pictures import MEDIA_TYPE, PagePictures
from tasks.outputs.viewer.viewer_page import (
    Viewed,
    content_policy,
    viewer_asset,
    without_pictures,
    write_served_viewer,
)

MOST_LISTED = 20_000
_KEPT_OPEN = 4  # documents and results that are looked at now
_DOUBT = 0.8

FindOriginal = Callable[[ResultFile, Path], AbstractContextManager[Original]]
"""Gets the document of a result, given a file of the result; it lives as long as the context."""


@dataclass
class _Opened:
    """A result that is looked at, with its document."""

    result: ResultFile
    file: Path
    pictures: PagePictures | None
    notice: str
    sizes: dict[int, Size]
    stack: ExitStack


class ResultsServer:
    """Serves results on the loopback address, behind a path that nobody can guess. Use it as a context manager.

    Args:
        results: which ones; the first 20,000 are listed.
        find_original: gets a result's document.
        folder: for results and documents that are looked at; its owner deletes it.
        port: where to listen; any free one when 0.
    """

    def __init__(self, results: Results, find_original: FindOriginal, folder: Path, port: int = 0) -> None:
        self._results = results
        self._files = list(islice(results.files(), MOST_LISTED + 1))
        self._find_original = find_original
        self._folder = folder
        self._opened: OrderedDict[int, _Opened] = OrderedDict()
        self._opening = threading.Lock()
        self._token = secrets.token_urlsafe(16)
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True

    def __enter__(self) -> "ResultsServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()
        with self._opening:
            for opened in self._opened.values():
                opened.stack.close()
            self._opened.clear()

    @property
    def url(self) -> str:
        """The address of the list."""
        return f"http://127.0.0.1:{self._server.server_port}/{self._token}/"

    @property
    def count(self) -> int:
        """How many results are listed."""
        return min(len(self._files), MOST_LISTED)

    def serve(self) -> None:
        """Answer requests until `stop` is called."""
        self._server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """Stop serving, from another thread."""
        self._server.shutdown()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version, sys_version = "bulk-ocr", ""

            def do_GET(self) -> None:  # the library's name
                with suppress(ConnectionError):
                    server.answer(self)

            def log_message(self, format: str, *args: Any) -> None:  # the library's name
                """Nothing is logged: addresses hold the path that nobody can guess."""

        return Handler

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        port = self._server.server_port
        # Another site's page can have its name lead to this machine, but not send this name.
        if request.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            _send(request, 403, "text/plain", b"only from this machine")
            return
        parts = urlsplit(request.path).path.strip("/").split("/")
        if not secrets.compare_digest(parts[0].encode(), self._token.encode()):
            _send(request, 404, "text/plain", b"there is nothing here")
            return
        try:
            match parts[1:]:
                case []:
                    _send(request, 200, "text/html; charset=utf-8", self._list().encode())
                case ["results", number]:
                    _send(request, 200, "text/html; charset=utf-8", self._viewer(int(number)))
                case ["results", number, "quality"]:
                    _send(request, 200, "application/json", json.dumps(self._quality(int(number))).encode())
                case ["results", number, "pictures", page]:
                    with self._open(int(number)) as opened:
                        if opened.pictures is None:
                            raise LookupError
                        _send(request, 200, MEDIA_TYPE, opened.pictures.draw(int(page)).data, cached=True)
                case _:
                    raise LookupError
        except (LookupError, ValueError):
            _send(request, 404, "text/plain", b"there is nothing here")
        except Fault as fault:
            page = f"<!DOCTYPE html><meta charset=utf-8><title>Not shown</title><p>{html.escape(str(fault))}</p>"
            _send(request, 500, "text/html; charset=utf-8", page.encode("utf-8", "replace"))

    def _result(self, number: int) -> ResultFile:
        if not 0 <= number < self.count:
            raise LookupError(number)
        return self._files[number]

    @contextmanager
    def _open(self, number: int) -> Iterator[_Opened]:
        """A result that is looked at, and its document: fetched once, kept while it is among the last few."""
        with self._opening:
            opened = self._opened.get(number)
            if opened is None:
                opened = self._opened[number] = self._fetch(self._result(number))
                while len(self._opened) > _KEPT_OPEN:
                    self._opened.popitem(last=False)[1].stack.close()
            self._opened.move_to_end(number)
        yield opened

    def _fetch(self, result: ResultFile) -> _Opened:
        with ExitStack() as stack:
            folder = self._folder / secrets.token_hex(8)
            folder.mkdir()
            file = self._results.fetch(result, folder)
            if file.parent == folder:
                stack.callback(file.unlink, missing_ok=True)
            original = stack.enter_context(self._find_original(result, folder))
            pictures, notice = None, ""
            if original.file is None:
                notice = without_pictures(original.reason)
            else:
                try:
                    pictures = stack.enter_context(PagePictures(original.file, original.name))
                except EndsDocument as fault:
                    notice = without_pictures(str(fault))
            sizes = pictures.sizes() if pictures is not None else {}
            return _Opened(result, file, pictures, notice, sizes, stack.pop_all())

    def _viewer(self, number: int) -> bytes:
        with self._open(number) as opened:
            out = io.StringIO()
            viewed = Viewed(opened.result.document, opened.result.address)
            write_served_viewer(opened.file, out, viewed, opened.sizes, opened.notice)
            return out.getvalue().encode("utf-8", "replace")

    def _quality(self, number: int) -> dict[str, object]:
        result, folder = self._result(number), self._folder / secrets.token_hex(8)
        folder.mkdir()
        file = self._results.fetch(result, folder)
        try:
            return quality_of(file)
        except EndsDocument as fault:
            return {"reason": str(fault)}
        finally:
            if file.parent == folder:
                file.unlink(missing_ok=True)
            folder.rmdir()

    def _list(self) -> str:
        style, body, code = (viewer_asset(name) for name in ("list.css", "list.html", "list.js"))
        rows = "".join(_row(number, self._files[number]) for number in range(self.count))
        more = len(self._files) > MOST_LISTED
        counted = f"the first {self.count:,}" if more else f"{self.count:,}"
        place = html.escape(storable(self._results.place))
        policy = content_policy(style, code, "connect-src 'self'")
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta name="referrer" content="no-referrer">\n<title>Results at {place}</title>\n<style>{style}</style>\n'
            f"</head>\n<body>\n{_filled(body, place=place, count=counted, rows=rows)}"
            f"<script>{code}</script>\n</body>\n</html>\n"
        )


def quality_of(result: Path) -> dict[str, object]:
    """How surely a result was recognised: pages, words, mean and lowest confidence, words below 80%.

    Raises:
        DocumentFault: it is no result.
    """
    pages = words = known = doubtful = 0
    total, lowest = 0.0, 1.0
    for page in read_pages(result):
        pages += 1
        for word in place_words(page).words:
            words += 1
            if word.confidence is not None:
                known += 1
                total += word.confidence
                lowest = min(lowest, word.confidence)
                doubtful += word.confidence < _DOUBT
    mean = total / known if known else None
    return {"pages": pages, "words": words, "mean": mean, "lowest": lowest if known else None, "doubtful": doubtful}


def _filled(body: str, **values: str) -> str:
    """A page with values in its gaps; whatever looks like a gap in a value is none."""
    return re.sub(r"\{(\w+)\}", lambda gap: values[gap[1]], body)


def _row(number: int, result: ResultFile) -> str:
    document, address = html.escape(storable(result.document)), html.escape(storable(result.address))
    return (
        f'<tr data-number="{number}"><th scope="row"><a href="results/{number}" title="{address}">{document}</a></th>'
        '<td class="number"></td><td class="number"></td><td class="number"></td><td class="number"></td>'
        '<td class="number"></td></tr>\n'
    )


def _send(
    request: BaseHTTPRequestHandler, status: int, media_type: str, body: bytes | IO[bytes], *, cached: bool = False
) -> None:
    content = body if isinstance(body, bytes) else body.read()
    request.send_response(status)
    request.send_header("Content-Type", media_type)
    request.send_header("Content-Length", str(len(content)))
    request.send_header("X-Content-Type-Options", "nosniff")
    request.send_header("Cross-Origin-Resource-Policy", "same-origin")
    request.send_header("Cache-Control", "private, max-age=3600" if cached else "no-store")
    request.end_headers()
    request.wfile.write(content)
