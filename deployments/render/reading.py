"""Reads `places.yaml`, and reports each problem with its line and place."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from deployments.render.places import Places


class PlacesError(Exception):
    """The file cannot be used. The message has one line for each problem, with its location."""


def read_places(path: Path) -> Places:
    """Read the list of places.

    Raises:
        PlacesError: the file has problems; all of them are reported.
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
        problems = [(problem["loc"], _words(problem["msg"])) for problem in error.errors(include_url=False)]
    else:
        problems = list(places.problems())
        if not problems:
            return places
    lines = (f"{path}:{_line(tree, where)}: {_name(data, where)}: {message}" for where, message in problems)
    raise PlacesError("\n".join(dict.fromkeys(lines)))


def _words(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return "there is no such setting" if message == "Extra inputs are not permitted" else message


def _name(data: Any, where: Sequence[str | int]) -> str:
    """Return a readable name of a setting, such as `place scans, submit.schedule`."""
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
    """Return the line of a setting, or of the closest enclosing one."""
    line = 1
    node = tree
    for part in where:
        if isinstance(node, yaml.MappingNode):
            child = next(((key, value) for key, value in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            child = (node.value[part], node.value[part])
        else:
            child = None
        if child is None:
            break
        key, node = child
        line = key.start_mark.line + 1
    return line


def _refuse_twins(node: Any, path: Path) -> None:
    """Reject duplicate keys: YAML loaders silently use the last one."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in lines:
                raise PlacesError(f"{path}:{line}: {key.value!r} is already in line {lines[key.value]}")
            lines[key.value] = line
            _refuse_twins(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_twins(value, path)
