"""What `places.yaml` may say: places, environments, and the settings that one layer takes over from another."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self
from zoneinfo import available_timezones

from prefect.client.schemas.schedules import CronSchedule
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from tasks.backfills.record import BackfillName
from tasks.faults import SetupFault
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options
from tasks.selection import EVERYTHING, Selection
from tasks.store.location import Location
from tasks.store.queue import check_url

FLOWS = ("submit", "collect", "backfill")

_SECRET_NAME = re.compile(r"(?i)(secret|password|token|credential|(^|[_-])key($|[_-])|access_key|auth_string)")
_REFERENCE = re.compile(r"(?i)[_-](arn|name|ref)$")  # says where a secret is, not what it is
_BLOCK = re.compile(r"\{\{\s*prefect\.(blocks|variables)\.")
_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=60)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Schedule(_Strict):
    """When a flow starts by itself."""

    cron: str | None = Field(None, description="Five fields, as in crontab")
    every: float | None = Field(None, ge=1, description="Seconds between two starts, instead of cron")
    timezone: str = Field("UTC", description="Of the cron expression")

    @field_validator("cron")
    @classmethod
    def _readable(cls, cron: str | None) -> str | None:
        if cron is not None:
            try:
                CronSchedule(cron=cron)
            except ValidationError as error:
                raise ValueError(f"{cron!r} is no cron expression; write five fields, as in '*/10 * * * *'") from error
        return cron

    @field_validator("timezone")
    @classmethod
    def _known(cls, timezone: str) -> str:
        if timezone not in available_timezones():
            raise ValueError(f"{timezone!r} is no time zone; write it like Europe/Berlin")
        return timezone

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.cron is None) == (self.every is None):
            raise ValueError("give either cron or every")
        return self


class FlowSettings(_Strict):
    """What holds for one of the flows only."""

    schedule: Schedule | None = Field(None, description="null: started by hand or by the API only")
    options: Options = DEFAULTS


class ListenSettings(FlowSettings):
    """What holds for `listen` only; it is deployed where a place has a queue."""

    schedule: Schedule | None = Field(Schedule(every=600), description="null: started by hand or by the API only")
    # A run needs some seconds to start and to end; one that is still there when the next is due costs it its turn.
    seconds: float = Field(570, ge=0, description="How long each run listens: until shortly before the next")


class Layer(_Strict):
    """Settings of everything, of an environment or of a place; the later one wins, name by name."""

    work_pool: Text | None = None
    work_queue: Text | None = None
    shards: int | None = Field(None, ge=1, le=100, description="How many runs of each flow share the place's jobs")
    backfill_name: BackfillName | None = Field(None, description="The backfill that submit, listen and backfill serve")
    job_variables: dict[str, Any] = Field(default_factory=dict)
    tags: tuple[Text, ...] = ()
    credentials: Credentials = ENVIRONMENT
    selection: Selection = EVERYTHING
    options: Options = DEFAULTS
    submit: FlowSettings = FlowSettings()
    listen: ListenSettings = ListenSettings()
    collect: FlowSettings = FlowSettings()
    backfill: FlowSettings = FlowSettings()

    @field_validator("job_variables")
    @classmethod
    def _no_secrets(cls, variables: dict[str, Any]) -> dict[str, Any]:
        for name, value in _leaves(variables):
            if _SECRET_NAME.search(name) and not _REFERENCE.search(name):
                raise ValueError(
                    f"{name} looks like a secret, and everybody who sees the deployment would see it: "
                    "set it in the worker's environment, or in the work pool by reference"
                )
            if isinstance(value, str) and _BLOCK.search(value):
                raise ValueError(
                    f"{name} refers to a block or variable, which `prefect deploy` would replace by what is in it, "
                    "for everybody to read: put the reference into the work pool's base job template"
                )
            for wanted in re.findall(r"\{\{\s*\$(\w+)\s*\}\}", value) if isinstance(value, str) else ():
                if _SECRET_NAME.search(wanted):
                    raise ValueError(f"{name} would put ${wanted} into the deployment, for everybody to read")
        return variables

    def said(self) -> dict[str, Any]:
        """Only what was said, not the defaults."""
        return self.model_dump(
            mode="json",
            by_alias=True,
            exclude_unset=True,
            exclude={"name", "source", "destination", "queue", "only", "values"},
        )

    def options_of(self, flow: str) -> dict[str, Any]:
        """The options of one of the flows, as far as anybody said some."""
        said = self.said()
        return {**said.get("options", {}), **said.get(flow, {}).get("options", {})}


class Environment(Layer):
    """Where deployments run."""

    values: dict[str, str] = Field(default_factory=dict, description="What ${name} in sources and destinations means")


class Place(Layer):
    """A source and its destination; makes the deployments submit-NAME, collect-NAME and backfill-NAME.

    With `queue`, the deployment listen-NAME as well. With `shards`, so many of each of the three: submit-NAME-1-of-3
    and so on. What the options say is for all of them together.
    """

    name: Name
    source: Text
    destination: Text
    queue: Text | None = Field(None, description="URL of the SQS queue in which S3 tells of the source's documents")
    only: tuple[Name, ...] | None = Field(None, description="The environments it is in; all when left out")

    @property
    def flows(self) -> tuple[str, ...]:
        """The flows that are deployed."""
        return FLOWS if self.queue is None else (*FLOWS, "listen")


class Places(_Strict):
    """The whole file."""

    defaults: Layer = Layer()
    environments: dict[Name, Environment] = Field(min_length=1)
    places: tuple[Place, ...] = Field(min_length=1)

    def problems(self) -> Iterable[tuple[tuple[str | int, ...], str]]:
        """What is wrong beyond the single fields: where, and what."""
        seen: dict[str, int] = {}
        for index, place in enumerate(self.places):
            if place.name in seen:
                yield ("places", index, "name"), f"place {place.name!r} is there already, as number {seen[place.name]}"
            seen[place.name] = index + 1
            for name in place.only or ():
                if name not in self.environments:
                    yield ("places", index, "only"), f"{name!r} is none of {', '.join(self.environments)}"
            for name in self.environments_of(place):
                yield from self._problems(index, place, name)

    def _problems(self, index: int, place: Place, name: str) -> Iterable[tuple[tuple[str | int, ...], str]]:
        locations = []
        for field in ("source", "destination"):
            try:
                locations.append(str(Location.parse(filled(getattr(place, field), self.environments[name].values))))
            except (SetupFault, KeyError) as error:
                said = error if isinstance(error, SetupFault) else f"${{{error.args[0]}}} is none of its values"
                yield ("places", index, field), f"in the environment {name}: {said}"
        if place.queue is not None:
            try:
                check_url(filled(place.queue, self.environments[name].values))
            except (SetupFault, KeyError) as error:
                why = error if isinstance(error, SetupFault) else f"${{{error.args[0]}}} is none of its values"
                yield ("places", index, "queue"), f"in the environment {name}: {why}"
        if len(locations) == 2 and locations[0] == locations[1]:
            yield ("places", index, "destination"), f"in the environment {name}: source and destination are the same"
        settings = self.settings(name, place)
        which = settings.selection
        if place.queue is not None and (which.key or which.manifest or which.inventory):
            yield ("places", index, "queue"), "the queue says which documents, and so does the selection: give one"
        if settings.work_pool is None:
            yield ("environments", name), "no work_pool, neither here nor in the defaults"
        try:
            for flow in FLOWS:
                options = settings.options_of(flow)
                if {"shard", "shards"} & set(options):
                    raise ValueError("the options shard and shards are made of it: say 'shards' beside the options")
                share = Options.model_validate(options).of_one_shard(settings.shards or 1)
                Options.model_validate(share.model_dump(by_alias=True))
        except ValueError as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            yield ("places", index, "shards"), f"in the environment {name}: {reason}"

    def environments_of(self, place: Place) -> tuple[str, ...]:
        """The names of the environments a place is in."""
        return tuple(name for name in self.environments if place.only is None or name in place.only)

    def settings(self, environment: str, place: Place) -> Layer:
        """What holds for a place in an environment."""
        said: dict[str, Any] = {}
        for layer in (self.defaults, self.environments[environment], place):
            said = _over(said, layer.said())
        return Layer.model_validate(said)


def filled(text: str, values: Mapping[str, str]) -> str:
    """A source or destination with its ${name}s replaced.

    Raises:
        KeyError: a name has no value.
    """
    return _PLACEHOLDER.sub(lambda found: values[found.group(1)], text)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings name by name; a schedule is taken whole, or cron and every would meet."""
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _over(merged[name], value) if both and name != "schedule" else value
    return merged


def _leaves(value: Any, name: str = "job_variables") -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, name)
    else:
        yield name, value
