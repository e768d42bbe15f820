"""The model of `places.yaml`: places, environments, and the settings that one layer inherits from another."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self
from zoneinfo import available_timezones

from prefect.client.schemas.schedules import CronSchedule
from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from tasks.backfills.record import BackfillName
from tasks.faults import SetupFault
from tasks.options import DEFAULTS, ENVIRONMENT, Credentials, Options
from tasks.selection import EVERYTHING, Selection
from tasks.settings_model import SettingsModel
from tasks.store.location import Location
from tasks.store.queue import check_url

FLOWS = ("submit", "collect", "backfill")

_SECRET_NAME = re.compile(r"(?i)(secret|password|token|credential|(^|[_-])key($|[_-])|access_key|auth_string)")
_REFERENCE = re.compile(r"(?i)[_-](arn|name|ref)$")  # the location of a secret, not the secret itself
_BLOCK = re.compile(r"\{\{\s*prefect\.(blocks|variables)\.")
_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=60)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class Schedule(SettingsModel):
    """The schedule of a flow."""

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
                raise ValueError(f"{cron!r} is not a cron expression; use five fields, like '*/10 * * * *'") from error
        return cron

    @field_validator("timezone")
    @classmethod
    def _known(cls, timezone: str) -> str:
        if timezone not in available_timezones():
            raise ValueError(f"{timezone!r} is not a time zone; write it like Europe/Berlin")
        return timezone

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.cron is None) == (self.every is None):
            raise ValueError("give either cron or every")
        return self


class FlowSettings(SettingsModel):
    """The settings of a single flow."""

    schedule: Schedule | None = Field(None, description="null: started manually or through the API only")
    options: Options = DEFAULTS


class ListenSettings(FlowSettings):
    """The settings of `listen`, which is deployed if a place has a queue."""

    schedule: Schedule | None = Field(Schedule(every=600), description="null: started manually or through the API only")
    # A run takes some seconds to start and to end. The next one is cancelled if it is due while this one is active.
    seconds: float = Field(570, ge=0, description="How long each run listens: until shortly before the next")


class Layer(SettingsModel):
    """One layer of settings: the defaults, an environment or a place. Later layers override earlier ones, by name."""

    work_pool: Text | None = None
    work_queue: Text | None = None
    shards: int | None = Field(None, ge=1, le=100, description="How many runs of each flow share the place's jobs")
    backfill_name: BackfillName | None = Field(None, description="The backfill for submit, listen and backfill")
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
                    f"{name} looks like a secret, which everybody who can see the deployment could read: "
                    "set it in the worker's environment, or in the work pool by reference"
                )
            if isinstance(value, str) and _BLOCK.search(value):
                raise ValueError(
                    f"{name} refers to a block or variable, which `prefect deploy` would replace with its content, "
                    "for everybody to read: put the reference into the work pool's base job template"
                )
            for wanted in re.findall(r"\{\{\s*\$(\w+)\s*\}\}", value) if isinstance(value, str) else ():
                if _SECRET_NAME.search(wanted):
                    raise ValueError(f"{name} would put ${wanted} into the deployment, for everybody to read")
        return variables

    def given(self) -> dict[str, Any]:
        """Return the settings given in this layer, without defaults."""
        return self.model_dump(
            mode="json",
            by_alias=True,
            exclude_unset=True,
            exclude={"name", "source", "destination", "queue", "only", "values"},
        )

    def options_of(self, flow: str) -> dict[str, Any]:
        """Return the options given for a flow, without defaults."""
        given = self.given()
        return {**given.get("options", {}), **given.get(flow, {}).get("options", {})}


class Environment(Layer):
    """Where deployments run."""

    values: dict[str, str] = Field(default_factory=dict, description="Values for ${name} in sources and destinations")


class Place(Layer):
    """A source and its destination, with the deployments submit-NAME, collect-NAME and backfill-NAME.

    With `queue`, there is also listen-NAME. With `shards`, there are that many of each of the three: submit-NAME-1-of-3
    and so on; the options apply to all of them together.
    """

    name: Name
    source: Text
    destination: Text
    queue: Text | None = Field(None, description="URL of the SQS queue in which S3 announces the source's documents")
    only: tuple[Name, ...] | None = Field(None, description="The environments it is in; all by default")

    @property
    def flows(self) -> tuple[str, ...]:
        """The flows that are deployed."""
        return FLOWS if self.queue is None else (*FLOWS, "listen")


class Places(SettingsModel):
    """The whole file."""

    defaults: Layer = Layer()
    environments: dict[Name, Environment] = Field(min_length=1)
    places: tuple[Place, ...] = Field(min_length=1)

    def problems(self) -> Iterable[tuple[tuple[str | int, ...], str]]:
        """Yield the problems that concern more than a single field, each as location and message."""
        numbers: dict[str, int] = {}
        for index, place in enumerate(self.places):
            if place.name in numbers:
                yield ("places", index, "name"), f"there is another place {place.name!r}, number {numbers[place.name]}"
            numbers[place.name] = index + 1
            for name in place.only or ():
                if name not in self.environments:
                    yield ("places", index, "only"), f"{name!r} is not one of {', '.join(self.environments)}"
            for name in self.environments_of(place):
                yield from self._problems(index, place, name)

    def _problems(self, index: int, place: Place, name: str) -> Iterable[tuple[tuple[str | int, ...], str]]:
        locations = []
        for field in ("source", "destination"):
            try:
                locations.append(str(Location.parse(filled(getattr(place, field), self.environments[name].values))))
            except (SetupFault, KeyError) as error:
                reason = error if isinstance(error, SetupFault) else f"${{{error.args[0]}}} is not one of its values"
                yield ("places", index, field), f"in the environment {name}: {reason}"
        if place.queue is not None:
            try:
                check_url(filled(place.queue, self.environments[name].values))
            except (SetupFault, KeyError) as error:
                reason = error if isinstance(error, SetupFault) else f"${{{error.args[0]}}} is not one of its values"
                yield ("places", index, "queue"), f"in the environment {name}: {reason}"
        if len(locations) == 2 and locations[0] == locations[1]:
            yield ("places", index, "destination"), f"in the environment {name}: source and destination are the same"
        settings = self.settings(name, place)
        which = settings.selection
        if place.queue is not None and (which.key or which.manifest or which.inventory):
            yield ("places", index, "queue"), "the queue selects the documents, and so does the selection: use only one"
        if settings.work_pool is None:
            yield ("environments", name), "no work_pool, neither here nor in the defaults"
        try:
            for flow in FLOWS:
                options = settings.options_of(flow)
                if {"shard", "shards"} & set(options):
                    raise ValueError("the options shard and shards are derived: set 'shards' beside the options")
                share = Options.model_validate(options).of_one_shard(settings.shards or 1)
                Options.model_validate(share.model_dump(by_alias=True))
        except ValueError as error:
            problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            yield ("places", index, "shards"), f"in the environment {name}: {problem}"

    def environments_of(self, place: Place) -> tuple[str, ...]:
        """Return the names of the environments that a place is in."""
        return tuple(name for name in self.environments if place.only is None or name in place.only)

    def settings(self, environment: str, place: Place) -> Layer:
        """Return the settings of a place in an environment."""
        merged: dict[str, Any] = {}
        for layer in (self.defaults, self.environments[environment], place):
            merged = _over(merged, layer.given())
        return Layer.model_validate(merged)


def filled(text: str, values: Mapping[str, str]) -> str:
    """Replace each ${name} in a source or destination with its value.

    Raises:
        KeyError: a name has no value.
    """
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], text)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mappings by name. A schedule is replaced as a whole, so that cron and every are not combined."""
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
