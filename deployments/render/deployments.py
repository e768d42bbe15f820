"""The deployments of an environment, as Prefect reads them from `prefect.yaml`."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from deployments.render.places import FLOWS, Layer, Place, Places, Schedule, filled

_HEAD = """\
# Made by `python -m deployments.render --environment {environment}` of deployments/places.yaml. Change that, not this.
# Deployed with `prefect --no-prompt deploy --all`; see docs/deploy.md.
"""

# The next submit or collect comes by itself and finds all that this one would have: nothing is lost when a run is
# cancelled because one is at work. A backfill was asked for by somebody, so it waits its turn.
_COLLISION = {"submit": "CANCEL_NEW", "collect": "CANCEL_NEW", "backfill": "ENQUEUE"}
_DESCRIPTION = {
    "submit": "Sends the new documents of {source}; the ledger is at {destination}.",
    "collect": "Asks for the open jobs of {destination} and publishes the finished ones.",
    "backfill": "Brings every document of {source} to a result at {destination}, here and now.",
}
# Without a fixed one, Prefect counts an interval from each deploy anew.
_ANCHOR = datetime(2024, 1, 1, tzinfo=UTC)


def render(places: Places, environment: str) -> str:
    """The text of `prefect.yaml`."""
    content = {
        "name": "bulk-ocr",
        # An explicit empty list: the code is installed where the flows run, and nothing has to be fetched.
        "pull": [],
        "deployments": [
            deployment
            for place in places.places
            if environment in places.environments_of(place)
            for deployment in _deployments(places, environment, place)
        ],
    }
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118, default_flow_style=False
    )
    return _HEAD.format(environment=environment) + text


def _deployments(places: Places, environment: str, place: Place) -> Iterator[dict[str, Any]]:
    settings = places.settings(environment, place)
    values = places.environments[environment].values
    source, destination = filled(place.source, values), filled(place.destination, values)
    for flow in FLOWS:
        deployment: dict[str, Any] = {
            "name": f"{flow}-{place.name}",
            "description": _DESCRIPTION[flow].format(source=source, destination=destination),
            # A module, not a file: it is found wherever the package is installed, whatever the working folder.
            "entrypoint": f"flows.{flow}.{flow}",
            "tags": list(dict.fromkeys(["bulk-ocr", environment, place.name, *settings.tags])),
            "parameters": _parameters(flow, settings, source, destination),
            "enforce_parameter_schema": True,
            "concurrency_limit": {"limit": 1, "collision_strategy": _COLLISION[flow]},
            "work_pool": _work_pool(settings),
        }
        if (schedule := getattr(settings, flow).schedule) is not None:
            # The slug is how Prefect knows the schedule again at the next deploy.
            deployment["schedules"] = [{"slug": deployment["name"], **_when(flow, schedule)}]
        yield deployment


def _when(flow: str, schedule: Schedule) -> dict[str, Any]:
    if schedule.every is None:
        return {"cron": schedule.cron, "timezone": schedule.timezone}
    # Half an interval after submitting: at the same moment, collecting would not see what is being sent.
    later = timedelta(seconds=schedule.every / 2 if flow == "collect" else 0)
    anchor = (_ANCHOR + later).isoformat()
    return {"interval": schedule.every, "anchor_date": anchor, "timezone": schedule.timezone}


def _parameters(flow: str, settings: Layer, source: str, destination: str) -> dict[str, Any]:
    """The parameters of a flow; what nobody said is left to the flow's defaults."""
    parameters: dict[str, Any] = {"destination": destination}
    said = settings.said()
    if flow != "collect":
        parameters = {"source": source, **parameters}
        if selection := said.get("selection"):
            parameters["selection"] = selection
    options = {**said.get("options", {}), **said.get(flow, {}).get("options", {})}
    return {**parameters, "options": options} if options else parameters


def _work_pool(settings: Layer) -> dict[str, Any]:
    pool: dict[str, Any] = {"name": settings.work_pool}
    if settings.work_queue is not None:
        pool["work_queue_name"] = settings.work_queue
    pool["job_variables"] = settings.job_variables
    return pool


class _Dumper(yaml.SafeDumper):
    """Writes everything out: anchors and aliases help nobody who reads it."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  # the base class asks with it
        return True
