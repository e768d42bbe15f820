"""Assembles the stand-in."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from deployments.local.upstage.api import Api
from deployments.local.upstage.calls import CallCounter, Calls
from deployments.local.upstage.control import control_plane
from deployments.local.upstage.errors import ApiError, error_answer
from deployments.local.upstage.faults import FaultBook, FaultMiddleware
from deployments.local.upstage.jobs import Jobs
from deployments.local.upstage.rates import Rates
from deployments.local.upstage.recognise import Recogniser
from deployments.local.upstage.settings import LiveSettings, Settings
from deployments.local.upstage.storage import Signer, storage_routes
from deployments.local.upstage.store import Store


def create_app(folder: Path, settings: Settings, recogniser: Recogniser) -> Starlette:
    """Create the application.

    Args:
        folder: the folder for its state.
        settings: the initial settings.
        recogniser: reads the pages.

    Returns:
        The application. Fault rules that break connections require `BreakableProtocol`, and the server must call
        `state.going_down()` before it waits for open calls to end.
    """
    store = Store(folder)
    live = LiveSettings(settings)
    signer = Signer(store.secret(fresh=secrets.token_bytes(32)))
    jobs = Jobs(store, live, recogniser)
    calls, faults = Calls(), FaultBook()

    @asynccontextmanager
    async def working(app: Starlette) -> AsyncIterator[None]:
        del app
        jobs.start()
        try:
            yield
        finally:
            jobs.stop()

    async def http_error(request: Request, error: Exception) -> Response:
        del request
        if not isinstance(error, HTTPException):
            raise error
        return error_answer(ApiError(error.status_code, error.detail, error.headers), live.now.nested_errors)

    async def internal_error(request: Request, error: Exception) -> Response:
        del request, error
        return error_answer(ApiError(500, "internal server error"), live.now.nested_errors)

    def going_down() -> None:
        jobs.let_go()
        faults.let_go()

    app = Starlette(
        routes=[
            *Api(store, live, jobs, signer, Rates(live)).routes(),
            *storage_routes(store, live, signer),
            control_plane(store, live, jobs, calls, faults),
        ],
        middleware=[Middleware(CallCounter, calls=calls), Middleware(FaultMiddleware, book=faults)],
        exception_handlers={HTTPException: http_error, Exception: internal_error},
        lifespan=working,
    )
    app.state.going_down = going_down
    return app
