"""Processes asynchronous requests page by page in one thread."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import deque

from deployments.local.upstage.clock import timestamp
from deployments.local.upstage.documents import open_pages
from deployments.local.upstage.errors import ApiError, CorruptedDocumentError
from deployments.local.upstage.recognise import Page, Recogniser
from deployments.local.upstage.settings import LiveSettings
from deployments.local.upstage.store import Batch, Fate, OcrRequest, Store, plan_batches

_logger = logging.getLogger(__name__)


class Jobs:
    """Processes requests in order, ten pages at a time, so that a long one does not block the others.

    Args:
        store: the requests and results.
        live: the settings.
        recogniser: reads the pages.
    """

    def __init__(self, store: Store, live: LiveSettings, recogniser: Recogniser) -> None:
        self._store = store
        self._live = live
        self._recogniser = recogniser
        self._queued: deque[tuple[float, str]] = deque()
        self._running: list[tuple[float, str]] = []
        self._pages: dict[str, list[Page]] = {}  # of each request's current batch
        self._wake = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recognition", daemon=True)

    def start(self) -> None:
        """Start, first with the requests that an earlier process left unfinished."""
        for request in self._store.unfinished():
            if request.status == "submitted":
                self._queued.append((request.accepted, request.id))
            else:
                done = sum(_length(b) for b in self._batches(request.id) if b.status == "completed")
                with self._store.change(request.id, keep=False) as mine:
                    mine.completed_pages = done
                heapq.heappush(self._running, (request.accepted, request.id))
        self._thread.start()

    def let_go(self) -> None:
        """Start nothing new, and answer the waiting sync requests."""
        self._stopped.set()
        self.wake()

    def stop(self) -> None:
        """Stop after the current page."""
        self.let_go()
        self._thread.join(timeout=30)

    def wake(self) -> None:
        """Recompute what is due. Call it after the settings have changed."""
        with self._wake:
            self._wake.notify_all()

    def add(self, request: OcrRequest) -> None:
        """Put an accepted request into the queue."""
        with self._wake:
            self._queued.append((request.accepted, request.id))
            self._wake.notify_all()

    def recognise_now(self, request: OcrRequest) -> list[Page]:
        """Recognise a whole sync request in the calling thread.

        Args:
            request: the request.

        Returns:
            All its pages.

        Raises:
            ApiError: it took too long (504), a page is damaged (422), or the server is going down (503).
        """
        deadline = time.monotonic() + self._live.now.limits.sync_seconds
        done: list[Page] = []
        try:
            with open_pages(self._store.document_path(request.id), request.format) as pages:
                for index in range(request.pages):
                    wait = self._live.now.seconds_per_page
                    if self._stopped.wait(min(wait, max(0.0, deadline - time.monotonic()))):
                        raise ApiError(503, "the server is going down")
                    if time.monotonic() > deadline:
                        raise ApiError(504, "the request took too long")
                    done.append(self._recogniser.page(pages, index))
        except CorruptedDocumentError as error:
            raise ApiError(422, f"corrupted document: {error}") from error
        return done

    def _run(self) -> None:
        while (request_id := self._next()) is not None:
            try:
                self._advance(request_id)
            except Exception as error:
                _logger.exception("request %s", request_id)
                self._end(request_id, f"internal error: {type(error).__name__}")

    def _next(self) -> str | None:
        """Wait for the request that is due first. Returns None when it is time to stop."""
        with self._wake:
            while not self._stopped.is_set():
                soonest = self._running[0][0] if self._running else float("inf")
                arriving = self._queued[0][0] + self._live.now.queue_seconds if self._queued else float("inf")
                wait = min(soonest, arriving) - time.time()
                if wait > 0:
                    self._wake.wait(None if wait == float("inf") else min(wait, 60))
                elif arriving < soonest:
                    return self._queued.popleft()[1]
                else:
                    return heapq.heappop(self._running)[1]
        return None

    def _later(self, request_id: str, seconds: float) -> None:
        with self._wake:
            heapq.heappush(self._running, (time.time() + seconds, request_id))

    def _advance(self, request_id: str) -> None:
        request = self._store.get(request_id)
        if request is None or request.finished:
            return
        pause = self._live.now.seconds_per_page
        if request.status == "submitted":
            self._begin(request)
            if pause and not request.hangs:
                self._later(request_id, pause)
                return
        if request.hangs:
            return
        batch = next((b for b in self._batches(request_id) if not b.finished), None)
        if batch is None:
            self._end(request_id, "")
        elif not self._work(request, batch, pause):
            self._later(request_id, pause)
        elif batch.end_page == request.pages:
            self._end(request_id, "")
        else:
            self._later(request_id, pause)

    def _begin(self, request: OcrRequest) -> None:
        request.hangs = request.hangs or self._live.take("hang_requests", request.sha256)
        fails = self._live.take("fail_requests", request.sha256)
        with self._store.change(request.id) as mine:
            mine.status = "started"
            mine.hangs = request.hangs
            if fails:
                mine.batches = []
                mine.failure_message = "the request failed"
                return
            mine.batches = plan_batches(mine.pages, self._live.now.limits.batch_pages, timestamp())

    def _work(self, request: OcrRequest, batch: Batch, pause: float) -> bool:
        """Recognise one page of a batch, or all if there is no pause between them. Returns whether it is finished."""
        if batch.status == "scheduled":
            self._set(request.id, batch.id, "started")
        done = self._pages.setdefault(request.id, [])
        try:
            with open_pages(self._store.document_path(request.id), request.format) as pages:
                while len(done) < _length(batch) and not self._stopped.is_set():
                    done.append(self._recogniser.page(pages, batch.start_page - 1 + len(done)))
                    with self._store.change(request.id, keep=False) as mine:
                        mine.completed_pages += 1
                    if pause:
                        break
        except CorruptedDocumentError as error:
            self._finish(request, batch, "failed", str(error))
            return True
        if len(done) < _length(batch):
            return False
        fate = self._fate(request.sha256, batch.id)
        self._finish(request, batch, fate, "recognition failed" if fate == "failed" else "")
        return True

    def _fate(self, sha256: str, batch: int) -> Fate:
        if self._live.take("fail_batches", sha256, batch):
            return "failed"
        if self._live.take("drop_batches", sha256, batch):
            return "dropped"
        if self._live.take("short_batches", sha256, batch):
            return "short"
        if self._live.take("duplicate_batches", sha256, batch):
            return "duplicated"
        return "plain"

    def _finish(self, request: OcrRequest, batch: Batch, fate: Fate, message: str) -> None:
        done = self._pages.pop(request.id)
        if fate == "failed":
            with self._store.change(request.id, keep=False) as mine:
                mine.completed_pages -= len(done)
            self._set(request.id, batch.id, "failed", fate, message)
            return
        self._store.write_result(request.id, batch.id, done[:-1] if fate == "short" else done)
        self._set(request.id, batch.id, "completed", fate)

    def _set(self, request_id: str, number: int, status: str, fate: Fate = "plain", message: str = "") -> None:
        with self._store.change(request_id) as mine:
            batch = (mine.batches or [])[number]
            changed = {"status": status, "fate": fate, "failure_message": message, "updated_at": timestamp()}
            (mine.batches or [])[number] = batch.model_copy(update=changed)

    def _end(self, request_id: str, error: str) -> None:
        self._pages.pop(request_id, None)
        with self._store.change(request_id) as mine:
            failed = [batch.id for batch in mine.batches or [] if batch.status == "failed"]
            mine.failure_message = mine.failure_message or error
            if failed and self._live.now.request_status_on_failed_batch == "failed":
                mine.failure_message = mine.failure_message or f"batches failed: {failed}"
            mine.status = "failed" if mine.failure_message else "completed"
            mine.completed = time.time()
            mine.completed_at = timestamp()

    def _batches(self, request_id: str) -> list[Batch]:
        request = self._store.get(request_id)
        return (request.batches or []) if request else []


def _length(batch: Batch) -> int:
    return batch.end_page - batch.start_page + 1
