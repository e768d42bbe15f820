"""What the stand-in remembers, kept in a folder so that a restart forgets nothing."""

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
    """The shapes of others that an answer can be asked for in."""

    CLOVA = "clova"
    GOOGLE = "google"


class Batch(BaseModel):
    """Up to ten pages of a request; pages count from 1 over the document."""

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
    """Return the batches that a request of so many pages is divided into, as of the moment `at`."""
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
    """A request that was accepted, and thereby billed."""

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

    Nothing is flushed to the disk: the stand-in has to live through its own death, not through the machine's.

    Args:
        folder: where to keep them; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        shutil.rmtree(folder / "uploads", ignore_errors=True)  # what an earlier process never accepted
        for name in ("uploads", "documents", "requests", "results"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        texts = (path.read_bytes() for path in (folder / "requests").glob("*.json"))
        found = sorted((OcrRequest.model_validate_json(text) for text in texts), key=lambda r: r.accepted)
        self._requests = {request.id: request for request in found}
        self._billed = sum(request.pages for request in found)

    def upload_path(self, request_id: str) -> Path:
        """Where a document goes while it is being sent."""
        return self._folder / "uploads" / request_id

    def document_path(self, request_id: str) -> Path:
        """Where the document of an accepted request lies."""
        return self._folder / "documents" / request_id

    def accept(self, request: OcrRequest, credit_pages: int | None) -> None:
        """Take a request on, with the document that was uploaded for it, and bill it.

        Args:
            request: the request.
            credit_pages: pages that may be billed in total.

        Raises:
            ApiError: the credit does not suffice (403); nothing is kept or billed then.
        """
        with self._lock:
            if credit_pages is not None and self._billed + request.pages > credit_pages:
                raise no_credit()
            self.upload_path(request.id).replace(self.document_path(request.id))
            self._write(request)
            self._requests[request.id] = request
            self._billed += request.pages

    def get(self, request_id: str) -> OcrRequest | None:
        """A copy of a request as it stands now."""
        with self._lock:
            request = self._requests.get(request_id)
            return request.model_copy(deep=True) if request else None

    def summaries(self) -> list[OcrRequest]:
        """Copies of all requests without their batches, oldest first."""
        with self._lock:
            return [request.model_copy(update={"batches": None}) for request in self._requests.values()]

    def unfinished(self) -> list[OcrRequest]:
        """The asynchronous requests that are still to be worked on, oldest first."""
        return [r for r in self.summaries() if r.mode == "async" and not r.finished]

    @contextmanager
    def change(self, request_id: str, *, keep: bool = True) -> Iterator[OcrRequest]:
        """Change a request, alone.

        Args:
            request_id: which.
            keep: write the change to the folder; False for what a restart works out again.

        Yields:
            The request itself, to be changed within the `with` block.
        """
        with self._lock:
            request = self._requests[request_id]
            yield request
            if keep:
                self._write(request)

    def write_result(self, request_id: str, batch: int, pages: list[Page]) -> None:
        """Keep the pages of a batch."""
        path = self._result_path(request_id, batch)
        path.parent.mkdir(exist_ok=True)
        _replace(path, _PAGES.dump_json(pages))

    def read_result(self, request_id: str, batch: int) -> list[Page] | None:
        """The pages of a batch, if it has any yet."""
        try:
            return _PAGES.validate_json(self._result_path(request_id, batch).read_bytes())
        except FileNotFoundError:
            return None

    def bill(self, since: int = 0, sha256: Collection[str] = ()) -> dict[str, object]:
        """What was billed: how many requests and pages in all, and each of them, oldest first.

        Args:
            since: leave out so many of the oldest.
            sha256: leave out all but those of these documents, unless it is empty.
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
        """The key that URLs are signed with; `fresh` becomes it in a new folder."""
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
