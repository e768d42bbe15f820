"""The control plane: tests use it to control and inspect the stand-in. It is not part of the API and needs no key."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from deployments.local.upstage.calls import CONTROL, Calls
from deployments.local.upstage.faults import FAULTS, FaultBook
from deployments.local.upstage.jobs import Jobs
from deployments.local.upstage.settings import LiveSettings, Settings
from deployments.local.upstage.store import Store


def control_plane(store: Store, live: LiveSettings, jobs: Jobs, calls: Calls, faults: FaultBook) -> Mount:
    """Return the routes of the control plane."""

    async def health(request: Request) -> Response:
        del request
        return JSONResponse({"status": "ok"})

    async def bill(request: Request) -> Response:
        query = request.query_params
        return JSONResponse(store.bill(int(query.get("since", 0)), query.getlist("sha256")))

    async def count(request: Request) -> Response:
        if request.method == "DELETE":
            calls.clear()
        return JSONResponse(calls.report())

    async def settings(request: Request) -> Response:
        if request.method == "PATCH":
            changes = await request.json()
            if not isinstance(changes, dict):
                return JSONResponse({"error": "settings are a JSON object"}, 400)
            try:
                live.patch(changes)
            except ValidationError as error:
                return _invalid(error)
            jobs.wake()
        return JSONResponse(live.now.model_dump(mode="json"))

    async def settings_schema(request: Request) -> Response:
        del request
        return JSONResponse(Settings.model_json_schema())

    async def fault_rules(request: Request) -> Response:
        if request.method == "POST":
            try:
                faults.rules = FAULTS.validate_json(await request.body())
            except ValidationError as error:
                return _invalid(error)
        return JSONResponse(FAULTS.dump_python(faults.rules, mode="json"))

    async def reset(request: Request) -> Response:
        del request
        faults.rules = []
        live.restore()
        jobs.wake()
        calls.clear()
        return Response(status_code=204)

    return Mount(
        CONTROL,
        routes=[
            Route("/health", health, methods=["GET"]),
            Route("/bill", bill, methods=["GET"]),
            Route("/calls", count, methods=["GET", "DELETE"]),
            Route("/settings", settings, methods=["GET", "PATCH"]),
            Route("/settings/schema", settings_schema, methods=["GET"]),
            Route("/faults", fault_rules, methods=["GET", "POST"]),
            Route("/reset", reset, methods=["POST"]),
        ],
    )


def _invalid(error: ValidationError) -> Response:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return JSONResponse({"error": problems}, 400)
