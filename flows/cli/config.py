"""The command `config`: which settings are in force, and where each comes from."""

import os
import re
from typing import Annotated

from cyclopts import Parameter
from pydantic import BaseModel, Field

from flows.cli.arguments import Json
from flows.cli.configuration import Value, known_settings, read_configuration, variable_of, written
from flows.cli.output import Page, Styled, show
from flows.cli.places import known_places
from tasks.faults import ExitStatus
from tasks.options import Credentials, FileOptions, Options

_DEFAULT = "default"
# For these, only whether they are set is shown.
_SECRETS = ("UPSTAGE_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PREFECT_API_KEY")
_OTHERS = (
    "UPSTAGE_BASE_URL",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "PREFECT_API_URL",
)


class SettingInForce(BaseModel):
    """A setting."""

    name: str = Field(description="as it is written in bulk-ocr.toml")
    value: Value | None = Field(description="null if it is not set and has no default")
    origin: str = Field(description="the variable, the file and its line, or 'default'")
    variable: str | None = Field(description="the environment variable that sets it")


class PlaceInForce(BaseModel):
    """A source and its destination, under a name."""

    name: str
    source: str
    destination: str
    origin: str


class ConfigReport(BaseModel):
    """The settings in force, apart from the command line."""

    files: list[str] = Field(description="the files that were read; the first wins")
    settings: list[SettingInForce]
    places: list[PlaceInForce]
    secrets: dict[str, bool] = Field(description="which variables with secrets are set; their values are never shown")
    variables: dict[str, str] = Field(description="other variables that are set and take effect")
    ignored: list[str] = Field(description="variables that begin with BULK_OCR_ but are not settings")

    def show(self, page: Page) -> None:
        """Print for a person."""
        rows = [
            (setting.name, "" if setting.value is None else str(setting.value), Styled(setting.origin, "dim"))
            for setting in self.settings
        ]
        rows += [(name, value, Styled("environment", "dim")) for name, value in self.variables.items()]
        rows += [
            (name, "set, not shown", Styled("environment", "dim")) for name, is_set in self.secrets.items() if is_set
        ]
        if rows:
            page.table(rows, ("setting", "value", "from"))
        if self.places:
            page.say("")
            places = [
                (place.name, place.source, place.destination, Styled(place.origin, "dim")) for place in self.places
            ]
            page.table(places, ("place", "source", "destination", "from"))
        if rows or self.places:
            page.say("")
        files = (
            ", ".join(self.files) or "no bulk-ocr.toml, neither here, nor above, nor in the user's configuration folder"
        )
        page.say(f"read: {files}")
        if self.ignored:
            page.say(f"not settings, and ignored: {', '.join(self.ignored)}")


def config(
    *,
    everything: Annotated[
        bool, Parameter(name="--all", negative="", help="Every setting, with those that have their default.")
    ] = False,
    json: Json = False,
) -> ExitStatus:
    """Show the settings in force, and where each comes from.

    In order of precedence: the command line, variables (BULK_OCR_MAX_COST=20), bulk-ocr.toml in this folder or above
    it, bulk-ocr.toml in the user's configuration folder. BULK_OCR_CONFIG names one file to read instead of those.
    """
    configuration = read_configuration()
    defaults = _defaults()
    settings = []
    for name in known_settings():
        made = configuration.settings.get(name)
        if made is not None or everything:
            settings.append(
                SettingInForce(
                    name=written(name),
                    value=defaults.get(name) if made is None else made.value,
                    origin=_DEFAULT if made is None else made.origin,
                    variable=variable_of(name),
                )
            )
    places = [
        PlaceInForce(
            name=place.name,
            source=place.source,
            destination=place.destination,
            origin=configuration.places[place.name].origin if place.name in configuration.places else "places.yaml",
        )
        for place in known_places()
    ]
    report = ConfigReport(
        files=[str(file) for file in configuration.files],
        settings=settings,
        places=places,
        secrets={name: name in os.environ for name in _SECRETS},
        variables={name: _without_password(os.environ[name]) for name in _OTHERS if name in os.environ},
        ignored=list(configuration.ignored),
    )
    show(report, json=json)
    return ExitStatus.DONE


def _defaults() -> dict[str, Value | None]:
    defaults: dict[str, Value | None] = {}
    for table, model in {"options": Options(), "file": FileOptions(), "blocks": Credentials()}.items():
        _flatten(model, table, defaults)
    return defaults


def _flatten(model: BaseModel, above: str, defaults: dict[str, Value | None]) -> None:
    for name, value in model:
        if isinstance(value, BaseModel):
            _flatten(value, f"{above}.{name}", defaults)
        else:
            defaults[f"{above}.{name}"] = value


def _without_password(address: str) -> str:
    return re.sub(r"://[^/@]*@", "://…@", address)
