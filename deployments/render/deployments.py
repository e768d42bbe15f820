"""The deployments of an environment, as Prefect reads them from `prefect.yaml`."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from deployments.render.places import Layer, Place, Places, Schedule, filled
from tasks.options import Options

_HEAD = """\
# Made by `python -m deployments.render --environment {environment}` of deployments/places.yaml. Change that, not this.
# Deployed with `prefect --no-prompt deploy --all`; see docs/deploy.md.
"""

# The next submit or collect comes by itself and finds all that this one would have: nothing is lost when a run is
# cancelled because one is at work. A backfill was asked for by somebody, so it waits its turn.
_COLLISION = {"submit": "CANCEL_NEW", "listen": "CANCEL_NEW", "collect": "CANCEL_NEW", "backfill": "ENQUEUE"}
_DESCRIPTION = {
    "submit": "Sends the new documents of {source}; the ledger is at {destination}.",
    "listen": "Sends the documents of {source} that {queue} tells of; the ledger is at {destination}.",
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
            for flow in place.flows
            for deployment in _deployments(places, environment, place, flow)
        ],
    }
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118, default_flow_style=False
    )
    return _HEAD.format(environment=environment) + text


def _deployments(places: Places, environment: str, place: Place, flow: str) -> Iterator[dict[str, Any]]:
    settings = places.settings(environment, place)
    values = places.environments[environment].values
    source, destination = filled(place.source, values), filled(place.destination, values)
    queue = None if place.queue is None else filled(place.queue, values)
    shards = 1 if flow == "listen" else settings.shards or 1  # SQS shares out its messages by itself
    for shard in range(1, shards + 1):
        share = f"-{shard}-of-{shards}" if shards > 1 else ""
        deployment: dict[str, Any] = {
            "name": f"{flow}-{place.name}{share}",
            "description": _DESCRIPTION[flow].format(source=source, destination=destination, queue=queue),
            # A module, not a file: it is found wherever the package is installed, whatever the working folder.
            "entrypoint": f"flows.{flow}.{flow}",
            "tags": list(dict.fromkeys(["bulk-ocr", environment, place.name, *settings.tags])),
            "parameters": {
                **_parameters(flow, settings, source, destination, shard),
                **({"queue": queue, "seconds": settings.listen.seconds} if flow == "listen" else {}),
            },
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


def _parameters(flow: str, settings: Layer, source: str, destination: str, shard: int) -> dict[str, Any]:
    """The parameters of a flow; what nobody said is left to the flow's defaults."""
    parameters: dict[str, Any] = {"destination": destination}
    said = settings.said()
    if flow != "collect":
        parameters = {"source": source, **parameters}
        if selection := said.get("selection"):
            parameters["selection"] = selection
        if settings.backfill_name is not None:
            parameters["name"] = settings.backfill_name
    if credentials := said.get("credentials"):
        parameters["credentials"] = credentials
    options = settings.options_of(flow)
    if flow != "listen" and settings.shards is not None and settings.shards > 1:
        options |= {"shard": shard, "shards": settings.shards, **_shared_out(options, settings.shards)}
    return {**parameters, "options": options} if options else parameters


def _shared_out(options: Mapping[str, Any], shards: int) -> dict[str, Any]:
    """What each shard has of the account's rates, and of the place's budget and window."""
    whole = Options.model_validate(options)
    share = whole.of_one_shard(shards).model_dump(mode="json")
    return {name: share[name] for name, value in whole.model_dump(mode="json").items() if share[name] != value}


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
