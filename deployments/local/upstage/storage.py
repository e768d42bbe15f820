"""The storage host for downloading results: signed URLs without the API key."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deployments.local.upstage import answers
from deployments.local.upstage.calls import STORAGE
from deployments.local.upstage.settings import LiveSettings
from deployments.local.upstage.store import Store


class Signer:
    """Creates and checks signed download URLs, which cannot be changed without the key.

    Args:
        key: the secret.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def path(self, request_id: str, batch: int, seconds: float) -> str:
        """Return the path and query of a URL that is valid for some seconds; no two are equal."""
        path = f"{STORAGE}/{request_id}/{batch}"
        expires, nonce = f"{time.time() + seconds:.3f}", secrets.token_hex(8)
        query = {"X-Expires": expires, "X-Nonce": nonce, "X-Signature": self._sign(path, expires, nonce)}
        return f"{path}?{urlencode(query)}"

    def problem(self, request: Request) -> tuple[str, str] | None:
        """Return the problem with a URL as code and message; None if it is valid."""
        query = request.query_params
        expires, nonce = query.get("X-Expires", ""), query.get("X-Nonce", "")
        good = self._sign(request.url.path, expires, nonce)
        if not hmac.compare_digest(good.encode(), query.get("X-Signature", "").encode()):
            return "SignatureDoesNotMatch", "The request signature we calculated does not match yours."
        if time.time() >= float(expires):
            return "AccessDenied", "Request has expired"
        return None

    def _sign(self, path: str, expires: str, nonce: str) -> str:
        return hmac.new(self._key, f"{path}\n{expires}\n{nonce}".encode(), hashlib.sha256).hexdigest()


def storage_routes(store: Store, live: LiveSettings, signer: Signer) -> list[Route]:
    """Return the routes of the storage host."""

    # A plain function, so that Starlette runs it in a thread: formatting a large result would block all other calls.
    def download(request: Request) -> Response:
        if "authorization" in request.headers:
            return _xml(400, "InvalidArgument", "Only one auth mechanism allowed")
        problem = signer.problem(request)
        if problem:
            return _xml(403, *problem)
        request_id, number = request.path_params["id"], int(request.path_params["batch"])
        known = store.get(request_id)
        pages = store.read_result(request_id, number)
        if known is None or pages is None or not known.batches or answers.expired(known, live.now):
            return _xml(404, "NoSuchKey", "The specified key does not exist.")
        first_page = known.batches[number].start_page
        return JSONResponse(answers.body(known, pages, first_page, live.now))

    return [Route(f"{STORAGE}/{{id}}/{{batch:int}}", download, methods=["GET"])]


def _xml(status: int, code: str, message: str) -> Response:
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{error}', status, media_type="application/xml")
