"""Names of places: `bulk-ocr.toml` and `places.yaml` give names to pairs of source and destination."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from flows.cli.configuration import Configuration, ConfiguredPlace, read_configuration
from tasks.faults import SetupFault
from tasks.similar_names import did_you_mean
from tasks.store.location import Location

FILE_VARIABLE = "BULK_OCR_PLACES"
ENVIRONMENT_VARIABLE = "BULK_OCR_ENVIRONMENT"
_FILE = Path("deployments/places.yaml")
_ENVIRONMENT = "local"
_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")


class _Lenient(BaseModel):
    """Ignores unknown fields: the rest of the file is for the deployments."""

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
    """Return the address of a destination, given as an address or as the name of a place.

    Raises:
        SetupFault: it is neither an address nor the name of a place.
    """
    return _address(name_or_address, "destination")


def source_of(name_or_address: str) -> str:
    """Return the address of a source, given as an address or as the name of a place.

    Raises:
        SetupFault: it is neither an address nor the name of a place.
    """
    return _address(name_or_address, "source")


def _address(name_or_address: str, side: Literal["source", "destination"]) -> str:
    if "/" in name_or_address:
        return str(Location.parse(name_or_address))
    configuration = read_configuration()
    places = _all_places(configuration)
    match = next((place for place in places if place.name == name_or_address), None)
    if match is not None:
        return match.source if side == "source" else match.destination
    file, environment = _where(configuration)
    nearest = did_you_mean(name_or_address, [place.name for place in places])
    question = f". Did you mean {nearest}?" if nearest else ""
    if not places:
        unknown = f"there is no {file} with places"
    elif configuration.places:
        unknown = "no place of that name is configured"
    else:
        unknown = f"no place of that name in {file} for {environment}"
    raise SetupFault(f"'{name_or_address}' is not an S3 address (s3://bucket/prefix), and {unknown}{question}")


def known_places() -> list[Place]:
    """Return the places of `bulk-ocr.toml`, then those of `places.yaml` for this environment, in the files' order.

    The latter is `deployments/places.yaml` in the working folder, or the file named by BULK_OCR_PLACES; the environment
    is `local`, or the one named by BULK_OCR_ENVIRONMENT. If both files define a name, `bulk-ocr.toml` wins.

    Raises:
        SetupFault: a file cannot be read, or `places.yaml` has no such environment.
    """
    return _all_places(read_configuration())


def _all_places(configuration: Configuration) -> list[Place]:
    configured = [
        Place(name=place.name, source=_parsed(place.source, place), destination=_parsed(place.destination, place))
        for place in configuration.places.values()
    ]
    return configured + [place for place in _listed_places(configuration) if place.name not in configuration.places]


def _parsed(address: str, place: ConfiguredPlace) -> str:
    try:
        return str(Location.parse(address))
    except SetupFault as fault:
        raise SetupFault(f"{place.origin}: {fault}") from fault


def _listed_places(configuration: Configuration) -> list[Place]:
    """Return the places of `places.yaml`; empty if no file was named and there is none."""
    file, environment = _where(configuration)
    if not file.exists() and "places_file" not in configuration.settings:
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
        Place(
            name=place.name,
            source=_filled(place.source, values, file),
            destination=_filled(place.destination, values, file),
        )
        for place in listed.places
        if place.only is None or environment in place.only
    ]


def _where(configuration: Configuration) -> tuple[Path, str]:
    file = configuration.text("places_file")
    return Path(file) if file else _FILE, configuration.text("environment") or _ENVIRONMENT


def _filled(text: str, values: dict[str, str], file: Path) -> str:
    def value(match: re.Match[str]) -> Any:
        if match[1] not in values:
            raise SetupFault(f"${{{match[1]}}} in '{text}' is none of the environment's values: add it in {file}")
        return values[match[1]]

    return str(Location.parse(_PLACEHOLDER.sub(value, text)))
