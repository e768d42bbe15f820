"""The stand-in's state, in a folder that survives restarts."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, TypeAdapter

from deployments.local.upstage.errors import no_credit
from deployments.local.upstage.formats import Format
from deployments.local.upstage.recognise import Page

Fate = Literal["plain", "failed", "dropped", "duplicated", "short"]

_PAGES = TypeAdapter(list[Page])


class AnswerSchema(StrEnum):
    """The forms of other services in which an answer can be requested."""

    CLOVA = "clova"
    GOOGLE = "google"


class Batch(BaseModel):
    """Up to ten pages of a request; pages are numbered from 1 over the document."""

    id: int
    start_page: int
    end_page: int
    status: Literal["scheduled", "started", "completed", "failed"] = "scheduled"
    fate: Fate = "plain"
    failure_message: str = ""
    requested_at: str
    updated_at: str

    @property
    def finished(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status in ("completed", "failed")


def plan_batches(pages: int, batch_pages: int, at: str) -> list[Batch]:
    """Return the batches of a request with this many pages, created at the time `at`."""
    return [
        Batch(
            id=number,
            start_page=start,
            end_page=min(start + batch_pages - 1, pages),
            requested_at=at,
            updated_at=at,
        )
        for number, start in enumerate(range(1, pages + 1, batch_pages))
    ]


class OcrRequest(BaseModel):
    """A request that was accepted, and therefore billed."""

    id: str
    mode: Literal["async", "sync"]
    model: str
    file_name: str
    format: Format
    answer_schema: AnswerSchema | None = None
    sha256: str
    size: int
    pages: int
    accepted: float
    requested_at: str
    status: Literal["submitted", "started", "completed", "failed"] = "submitted"
    hangs: bool = False
    failure_message: str = ""
    completed_pages: int = 0
    completed: float | None = None
    completed_at: str | None = None
    batches: list[Batch] | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status in ("completed", "failed")


class Store:
    """Requests, their documents and their results, in one folder.

    Nothing is flushed to disk: the data has to survive a crash of the stand-in, but not of the machine.

    Args:
        folder: the folder; created if missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        shutil.rmtree(folder / "uploads", ignore_errors=True)  # uploads that an earlier process did not accept
        for name in ("uploads", "documents", "requests", "results"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        texts = (path.read_bytes() for path in (folder / "requests").glob("*.json"))
        stored = sorted((OcrRequest.model_validate_json(text) for text in texts), key=lambda r: r.accepted)
        self._requests = {request.id: request for request in stored}
        self._billed = sum(request.pages for request in stored)

    def upload_path(self, request_id: str) -> Path:
        """Return the path of a document while it is being uploaded."""
        return self._folder / "uploads" / request_id

    def document_path(self, request_id: str) -> Path:
        """Return the path of an accepted request's document."""
        return self._folder / "documents" / request_id

    def accept(self, request: OcrRequest, credit_pages: int | None) -> None:
        """Accept a request with its uploaded document, and bill it.

        Args:
            request: the request.
            credit_pages: pages that may be billed in total.

        Raises:
            ApiError: the credit is not sufficient (403); nothing is stored or billed then.
        """
        with self._lock:
            if credit_pages is not None and self._billed + request.pages > credit_pages:
                raise no_credit()
            self.upload_path(request.id).replace(self.document_path(request.id))
            self._write(request)
            self._requests[request.id] = request
            self._billed += request.pages

    def get(self, request_id: str) -> OcrRequest | None:
        """Return a copy of a request; None if it is unknown."""
        with self._lock:
            request = self._requests.get(request_id)
            return request.model_copy(deep=True) if request else None

    def summaries(self) -> list[OcrRequest]:
        """Return copies of all requests without their batches, oldest first."""
        with self._lock:
            return [request.model_copy(update={"batches": None}) for request in self._requests.values()]

    def unfinished(self) -> list[OcrRequest]:
        """Return the unfinished asynchronous requests, oldest first."""
        return [r for r in self.summaries() if r.mode == "async" and not r.finished]

    @contextmanager
    def change(self, request_id: str, *, keep: bool = True) -> Iterator[OcrRequest]:
        """Change a request while no other thread can.

        Args:
            request_id: the request.
            keep: whether to write the change to the folder; False for changes that a restart derives again.

        Yields:
            The request itself, to be changed in the `with` block.
        """
        with self._lock:
            request = self._requests[request_id]
            yield request
            if keep:
                self._write(request)

    def write_result(self, request_id: str, batch: int, pages: list[Page]) -> None:
        """Store the pages of a batch."""
        path = self._result_path(request_id, batch)
        path.parent.mkdir(exist_ok=True)
        _replace(path, _PAGES.dump_json(pages))

    def read_result(self, request_id: str, batch: int) -> list[Page] | None:
        """Return the pages of a batch; None if it has none yet."""
        try:
            return _PAGES.validate_json(self._result_path(request_id, batch).read_bytes())
        except FileNotFoundError:
            return None

    def bill(self, since: int = 0, sha256: Collection[str] = ()) -> dict[str, object]:
        """Return the billed requests, oldest first, and the total numbers of requests and pages.

        Args:
            since: the number of oldest requests to omit.
            sha256: hashes of documents; if given, only their requests are listed.
        """
        with self._lock:
            documents = [
                {
                    "id": request.id,
                    "mode": request.mode,
                    "sha256": request.sha256,
                    "pages": request.pages,
                    "file_name": request.file_name,
                    "requested_at": request.requested_at,
                }
                for request in islice(self._requests.values(), since, None)
                if not sha256 or request.sha256 in sha256
            ]
            return {"requests": len(self._requests), "pages": self._billed, "documents": documents}

    def secret(self, fresh: bytes) -> bytes:
        """Return the key for signing URLs; in a new folder, `fresh` is stored as the key."""
        path = self._folder / "signing-key"
        if not path.exists():
            _replace(path, fresh)
        return path.read_bytes()

    def _result_path(self, request_id: str, batch: int) -> Path:
        return self._folder / "results" / request_id / f"{batch}.json"

    def _write(self, request: OcrRequest) -> None:
        _replace(self._folder / "requests" / f"{request.id}.json", request.model_dump_json().encode())


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)
