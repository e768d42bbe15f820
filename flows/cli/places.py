"""Names of places: what `places.yaml` calls a source and its destination, for commands that take either."""

import os
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.faults import SetupFault
from tasks.store.location import Location

FILE_VARIABLE = "BULK_OCR_PLACES"
ENVIRONMENT_VARIABLE = "BULK_OCR_ENVIRONMENT"
_FILE = Path("deployments/places.yaml")
_ENVIRONMENT = "local"
_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")


class _Lenient(BaseModel):
    """Only what a name stands for; the rest of the file is for the deployments."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Environment(_Lenient):
    values: dict[str, str] = {}


class _Place(_Lenient):
    name: str
    source: str
    destination: str
    only: tuple[str, ...] | None = None


class _Places(_Lenient):
    environments: dict[str, _Environment] = {}
    places: tuple[_Place, ...] = ()


class Place(BaseModel):
    """A source and its destination, under a name."""

    name: str
    source: str
    destination: str


def destination_of(name_or_address: str) -> str:
    """The address of a destination, which a person may call by the name of its place.

    Raises:
        SetupFault: it is neither an address nor the name of a place.
    """
    if "://" in name_or_address:
        return str(Location.parse(name_or_address))
    places = known_places()
    found = next((place for place in places if place.name == name_or_address), None)
    if found is not None:
        return found.destination
    from tasks.steps.nearest import did_you_mean  # brings the clients of S3: not for a command that only shows its help

    file, environment = _where()
    nearest = did_you_mean(name_or_address, [place.name for place in places])
    asked = f". Did you mean {nearest}?" if nearest else ""
    there = f"no place of that name in {file} for {environment}" if places else f"there is no {file} with places"
    raise SetupFault(f"'{name_or_address}' is no S3 address (s3://bucket/prefix), and {there}{asked}")


def known_places() -> list[Place]:
    """The places of this environment, in the order of the file; none where there is no file.

    The file is `deployments/places.yaml` below the working folder, or what BULK_OCR_PLACES names; the environment is
    `local`, or what BULK_OCR_ENVIRONMENT names.

    Raises:
        SetupFault: the file cannot be read, or has no such environment.
    """
    file, environment = _where()
    if not file.exists() and FILE_VARIABLE not in os.environ:
        return []
    import yaml

    try:
        listed = _Places.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise SetupFault(f"the places in {file} cannot be read ({reason}): correct it, or {FILE_VARIABLE}") from error
    if environment not in listed.environments:
        names = ", ".join(listed.environments) or "none"
        raise SetupFault(f"{file} has no environment '{environment}' (it has {names}): set {ENVIRONMENT_VARIABLE}")
    values = listed.environments[environment].values
    return [
        Place(name=place.name, source=_filled(place.source, values), destination=_filled(place.destination, values))
        for place in listed.places
        if place.only is None or environment in place.only
    ]


def _where() -> tuple[Path, str]:
    file = os.environ.get(FILE_VARIABLE)
    return Path(file) if file else _FILE, os.environ.get(ENVIRONMENT_VARIABLE) or _ENVIRONMENT


def _filled(text: str, values: dict[str, str]) -> str:
    def value(found: re.Match[str]) -> Any:
        if found[1] not in values:
            raise SetupFault(
                f"${{{found[1]}}} in '{text}' is none of the environment's values: add it in {_where()[0]}"
            )
        return values[found[1]]

    return str(Location.parse(_PLACEHOLDER.sub(value, text)))
