"""Reads `places.yaml`; what is wrong with it is told with the line and the place."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from deployments.render.places import Places


class PlacesError(Exception):
    """The file cannot be used; one line a problem, each with where it is."""


def read_places(path: Path) -> Places:
    """The list of places.

    Raises:
        PlacesError: with every problem found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlacesError(f"{path}: {error}") from error
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_twins(tree, path)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PlacesError(f"{path}: {error}") from error
    try:
        places = Places.model_validate(data)
    except ValidationError as error:
        found = [(each["loc"], _words(each["msg"])) for each in error.errors(include_url=False)]
    else:
        found = list(places.problems())
        if not found:
            return places
    lines = (f"{path}:{_line(tree, where)}: {_name(data, where)}: {what}" for where, what in found)
    raise PlacesError("\n".join(dict.fromkeys(lines)))


def _words(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return "there is no such setting" if message == "Extra inputs are not permitted" else message


def _name(data: Any, where: Sequence[str | int]) -> str:
    """A setting as a person calls it: `place scans, submit.schedule`."""
    parts = list(where)
    head = ""
    if len(parts) > 1 and parts[0] == "places" and isinstance(parts[1], int):
        place = data["places"][parts[1]]
        called = place.get("name") if isinstance(place, dict) else None
        head, parts = f"place {called or parts[1] + 1}", parts[2:]
    elif len(parts) > 1 and parts[0] == "environments":
        head, parts = f"environment {parts[1]}", parts[2:]
    return ", ".join(filter(None, [head, ".".join(map(str, parts))])) or "the file"


def _line(tree: Any, where: Sequence[str | int]) -> int:
    """The line of what is named, or of the nearest thing around it."""
    line = 1
    node = tree
    for part in where:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = (node.value[part], node.value[part])
        else:
            found = None
        if found is None:
            break
        key, node = found
        line = key.start_mark.line + 1
    return line


def _refuse_twins(node: Any, path: Path) -> None:
    """A key that stands twice: YAML's loaders take the last one and say nothing."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise PlacesError(f"{path}:{line}: {key.value!r} stands in line {seen[key.value]} already")
            seen[key.value] = line
            _refuse_twins(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_twins(value, path)
