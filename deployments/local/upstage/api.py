"""The calls of the API itself."""

from __future__ import annotations

import hmac
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deployments.local.upstage import answers
from deployments.local.upstage.calls import API
from deployments.local.upstage.clock import timestamp
from deployments.local.upstage.documents import inspect
from deployments.local.upstage.errors import ApiError, CorruptedDocumentError, error_answer, invalid_model, no_async
from deployments.local.upstage.formats import Format, contradicts, sniff
from deployments.local.upstage.jobs import Jobs
from deployments.local.upstage.rates import Rates
from deployments.local.upstage.settings import LiveSettings, Settings
from deployments.local.upstage.storage import Signer
from deployments.local.upstage.store import AnswerSchema, OcrRequest, Store
from deployments.local.upstage.uploads import Upload, read_form

_Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


class Api:
    """The four calls.

    Args:
        store: where requests are kept.
        live: the settings.
        jobs: processes requests.
        signer: creates download URLs.
        rates: counts calls and pages against the account's rates.
    """

    def __init__(self, store: Store, live: LiveSettings, jobs: Jobs, signer: Signer, rates: Rates) -> None:
        self._store = store
        self._live = live
        self._jobs = jobs
        self._signer = signer
        self._rates = rates
        self._numbers = count(int(time.time() * 1000))
        self._first: tuple[Settings | None, str] = None, ""  # the id to repeat, under settings that require it
        self._fresh: set[str] = set()  # accepted by this process
        self._polls: Counter[str] = Counter()

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(API, self._guarded(self._sync), methods=["POST"]),
            Route(f"{API}/async", self._guarded(self._submit), methods=["POST"]),
            Route(f"{API}/requests", self._guarded(self._list), methods=["GET"]),
            Route(f"{API}/requests/{{id}}", self._guarded(self._status), methods=["GET"]),
        ]

    def _guarded(self, call: _Endpoint) -> _Endpoint:
        async def endpoint(request: Request) -> Response:
            try:
                answer = await self._answer(call, request)
            except ApiError as error:
                answer = error_answer(error, self._live.now.nested_errors)
            except ClientDisconnect:
                return Response(status_code=400)  # the caller is gone
            answer.headers.update(self._rates.headers())
            return answer

        return endpoint

    async def _answer(self, call: _Endpoint, request: Request) -> Response:
        authorization = request.headers.get("authorization", "")
        if not hmac.compare_digest(authorization.encode(), f"Bearer {self._live.now.api_key}".encode()):
            raise ApiError(401, "API key is invalid, please check the API key and try again.")
        self._rates.take_request()
        return await call(request)

    async def _sync(self, request: Request) -> Response:
        accepted = await self._accept(request, "sync")
        pages = await run_in_threadpool(self._jobs.recognise_now, accepted)
        with self._store.change(accepted.id) as mine:
            mine.status, mine.completed_pages = "completed", len(pages)
            mine.completed, mine.completed_at = time.time(), timestamp()
        body = await run_in_threadpool(answers.body, accepted, pages, 1, self._live.now)
        return JSONResponse(body)

    async def _submit(self, request: Request) -> Response:
        accepted = await self._accept(request, "async")
        self._fresh.add(accepted.id)
        self._jobs.add(accepted)
        shown, settings = accepted.id, self._live.now
        if settings.request_ids == "same":
            if self._first[0] is not settings:
                self._first = settings, accepted.id
            shown = self._first[1]
        return JSONResponse({"request_id": answers.shown_id(shown)})

    async def _list(self, request: Request) -> Response:
        del request
        return JSONResponse(answers.request_list(self._store.summaries(), self._live.now))

    async def _status(self, request: Request) -> Response:
        request_id, settings = request.path_params["id"], self._live.now
        known = self._store.get(request_id)
        self._polls[request_id] += 1
        unseen = request_id in self._fresh and self._polls[request_id] <= settings.not_found_polls
        if known is None or known.mode == "sync" or unseen or answers.expired(known, settings):
            raise ApiError(404, "request not found")
        base = (settings.storage_base_url or str(request.base_url)).rstrip("/")

        def sign(batch: int) -> str:
            return base + self._signer.path(request_id, batch, settings.url_seconds)

        return JSONResponse(answers.status(known, settings, sign))

    async def _accept(self, request: Request, mode: Literal["async", "sync"]) -> OcrRequest:
        """Receive a form, check it, and bill it."""
        numbered = self._live.now.request_ids == "number"
        request_id = str(next(self._numbers)) if numbered else str(uuid.uuid4())
        path = self._store.upload_path(request_id)
        try:
            settings = self._live.now
            upload = await read_form(request, path, settings.limits.max_bytes, settings.extra_fields)
            self._check_fields(upload, mode)
            accepted = await run_in_threadpool(self._examine, request_id, upload, mode)
            self._rates.take_pages(accepted.pages)
            await run_in_threadpool(self._store.accept, accepted, self._live.now.credit_pages)
            return accepted
        finally:
            path.unlink(missing_ok=True)

    def _check_fields(self, upload: Upload, mode: Literal["async", "sync"]) -> None:
        model = upload.fields.get("model")
        if model is None:
            raise ApiError(400, "model is required")
        known = re.fullmatch(r"ocr(-[\w.-]+)?", model, re.ASCII) or model in self._live.now.other_models
        if not known:
            raise invalid_model()
        if mode == "async" and self._live.now.refuse_async:
            raise no_async(self._live.now.refuse_async_status)
        _schema(upload)

    def _examine(self, request_id: str, upload: Upload, mode: Literal["async", "sync"]) -> OcrRequest:
        limits = self._live.now.limits
        if upload.size > limits.max_bytes:
            raise ApiError(413, f"the document is larger than {limits.max_bytes} bytes")
        if not upload.size:
            raise ApiError(400, "the document is empty")
        form, pages, pixels = _look_over(upload.path)
        most = limits.async_pages if mode == "async" else limits.sync_pages
        if pages > most:
            if self._live.now.over_page_limit == "refuse":
                raise ApiError(413, f"The document exceeds the page limit. The maximum allowed is {most} pages.")
            pages = most
        if pixels > limits.page_pixels:
            raise ApiError(413, f"a page has {pixels} pixels, more than {limits.page_pixels}")
        bad_name = len(upload.file_name.encode()) > limits.file_name_bytes or contradicts(upload.file_name, form)
        return OcrRequest(
            id=request_id,
            mode=mode,
            model=upload.fields["model"],
            file_name=upload.file_name,
            format=form,
            answer_schema=_schema(upload),
            sha256=upload.sha256,
            size=upload.size,
            pages=pages,
            accepted=time.time(),
            requested_at=timestamp(),
            hangs=bad_name and self._live.now.hang_on_bad_names,
        )


def _schema(upload: Upload) -> AnswerSchema | None:
    asked = upload.fields.get("schema")
    try:
        return None if asked is None else AnswerSchema(asked)
    except ValueError:
        raise ApiError(400, "invalid schema") from None


def _look_over(path: Path) -> tuple[Format, int, int]:
    """Return the format, the number of pages, and the pixels of the largest page."""
    try:
        form = sniff(path)
        if form is None:
            raise ApiError(415, "unsupported document format")
        return form, *inspect(path, form)
    except CorruptedDocumentError as error:
        raise ApiError(422, f"corrupted document: {error}") from error
