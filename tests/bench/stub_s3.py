"""An S3 server that answers listings of any number of objects, as fast as Python can; what they hold is not stored.

`python -m tests.bench.stub_s3 DOCUMENTS OPEN`: prints its port. `in/` holds the documents in ten folders, and under
`out/_jobs/` lie the jobs of them all: the first so many are open, the others done. What is written is kept in memory,
with conditions. `GET /_calls` tells the calls so far, by method.
"""

import hashlib
import json
import sys
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tasks.job.record import Document, Job, PageRange, Request, job_id

BUCKET = "bench"
MODEL = "ocr"
ETAG = "0123456789abcdef0123456789abcdef"
MODIFIED = datetime.now(UTC).replace(microsecond=0)
_PAGE = 1000
_FOLDERS = 10


def _item(modified: datetime) -> str:
    """What a listing says of every object, after its key."""
    return (
        f"</Key><LastModified>{modified:%Y-%m-%dT%H:%M:%S}.000Z</LastModified><ETag>&quot;{ETAG}&quot;</ETag>"
        "<Size>1000</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def document(number: int, documents: int) -> Document:
    """A document of the source."""
    key = f"in/{number * _FOLDERS // documents}/{number:09}.pdf"
    return Document(bucket=BUCKET, key=key, etag=ETAG, size=1000, last_modified=MODIFIED)


def open_job(number: int, documents: int) -> Job:
    """The open job of a document: its request is at the API, and is to be asked for in an hour."""
    found, now = document(number, documents), datetime.now(UTC)
    return Job(
        id=job_id(found, MODEL),
        document=found,
        model=MODEL,
        result=f"s3://{BUCKET}/out/{found.key.removeprefix('in/')}.ocr.json",
        claimed_at=now,
        pages=3,
        estimate=3,
        rounds=1,
        requests=(Request(id=f"request-{number}", pages=PageRange(first=1, last=3), submitted_at=now, status="open"),),
        poll_after=now + timedelta(hours=1),
    )


class Stub(ThreadingHTTPServer):
    """The server.

    Args:
        documents: how many there are.
        still_open: how many of them have an open job.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, documents: int, still_open: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.written: dict[str, tuple[bytes, str]] = {}  # with the ETag that listings tell
        self.calls: Counter[str] = Counter()
        self.lock = threading.Lock()
        self._item = _item(datetime.now(UTC))  # as old as the jobs: a record's own times are held against it
        keys: list[str] = []
        for number in range(documents):
            found = document(number, documents)
            keys.append(found.key)
            if number < still_open:
                job = open_job(number, documents)
                keys.append(f"out/_jobs/open/{job.id}.json")
                self.written[keys[-1]] = job.model_dump_json().encode(), ETAG
            else:
                keys.append(f"out/_jobs/done/{job_id(found, MODEL)}.json")
        self.keys: Sequence[str] = sorted(keys)

    def page(self, query: dict[str, list[str]]) -> bytes:
        """The answer to ListObjectsV2."""
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        after = query.get("continuation-token", query.get("start-after", [""]))[0]
        start = bisect_right(self.keys, max(after, prefix[:-1] + chr(ord(prefix[-1]) - 1) + "\U0010ffff"))
        found, folders, last = list[str](), list[str](), ""
        while start < len(self.keys) and len(found) + len(folders) < _PAGE:
            last = self.keys[start]
            if not last.startswith(prefix):
                break
            name = last[len(prefix) :]
            if delimiter and delimiter in name:
                folders.append(prefix + name[: name.index(delimiter) + 1])
                start = bisect_right(self.keys, folders[-1] + "\U0010ffff")
            else:
                found.append(last)
                start += 1
        more = start < len(self.keys) and self.keys[start].startswith(prefix)
        body = "".join(f"<Contents><Key>{quote(key)}{self._item}" for key in found)
        body += "".join(f"<CommonPrefixes><Prefix>{quote(folder)}</Prefix></CommonPrefixes>" for folder in folders)
        if more:
            body += f"<NextContinuationToken>{quote(last)}</NextContinuationToken>"
        return (
            "<ListBucketResult><EncodingType>url</EncodingType>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{body}</ListBucketResult>"
        ).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Stub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes = b"", etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", format_datetime(datetime.now(UTC), usegmt=True))
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _counted(self) -> tuple[str, dict[str, list[str]]]:
        path = urlsplit(self.path)
        query = parse_qs(path.query, keep_blank_values=True)
        with self.server.lock:
            self.server.calls["LIST" if "list-type" in query else self.command] += 1
        return unquote(path.path).removeprefix(f"/{BUCKET}").lstrip("/"), query

    def do_GET(self) -> None:
        if self.path == "/_calls":
            self._answer(200, json.dumps(self.server.calls).encode())
            return
        key, query = self._counted()
        if "list-type" in query:
            self._answer(200, self.server.page(query))
            return
        found = self.server.written.get(key)
        if found is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._answer(200, *found)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        key, _ = self._counted()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            before = self.server.written.get(key)
            condition = self.headers.get("If-Match")
            refused = (self.headers.get("If-None-Match") == "*" and before is not None) or (
                condition is not None and (before is None or condition.strip('"') != before[1])
            )
            if not refused:
                self.server.written[key] = body, _etag(body)
        self._answer(412 if refused else 200, etag="" if refused else _etag(body))

    def do_DELETE(self) -> None:
        key, _ = self._counted()
        with self.server.lock:
            self.server.written.pop(key, None)
        self._answer(204)


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    server = Stub(int(sys.argv[1]), int(sys.argv[2]))
    print(server.server_address[1], flush=True)
    server.serve_forever()
