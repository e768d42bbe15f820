"""Suggestions for an address or a pattern that matches nothing: the most similar ones that exist."""

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

from tasks.context import RunContext
from tasks.faults import Fault
from tasks.selection import EVERYTHING, Selection
from tasks.similar_names import did_you_mean
from tasks.store.location import LEDGER_FOLDER, Location, is_marker, is_output
from tasks.store.object_store import Entry, ObjectStore

log = logging.getLogger(__name__)

_LOOKED_AT = 1000  # objects: a page of a listing
_NAMED = 3
_LEDGERS = 20  # folders in which a ledger is looked for
_MAGIC = re.compile(r"[*?\[\\{]")
_BY_NAME = ("key", "manifest", "inventory")


def why_nothing(context: RunContext) -> str:
    """Explain why a run finds no document: what exists instead, and what may have been meant.

    Raises:
        SetupFault, TransientFault: the source cannot be listed.
    """
    source, selection = context.source, context.settings.selection
    option = next((name for name in _BY_NAME if getattr(selection, name)), None)
    if option is not None:
        return f"the {option} names no document at {source}: correct it, or the source"
    entries = _some(context.objects, source.bucket, source.prefix)
    if not entries:
        return f"there is nothing at {source}{instead_of_empty(context.objects, source)}"
    keys = [source.relative(entry.key) for entry in entries if not _is_none(entry)]
    if not keys:
        return f"there is no document at {source}: only folders, and files that this program has written"
    doubts = "".join(f"; {doubt}" for doubt in selection.doubts())
    return (
        f"no document at {source} matches {_described(selection)}: there are {_listed(keys)}{doubts}"
        f"{_question(_nearest_include(selection.include, keys))}"
    )


def instead_of_empty(objects: ObjectStore, empty: Location) -> str:
    """Return what was probably meant instead of an empty location, as the end of a sentence.

    Args:
        objects: the store.
        empty: the location at which nothing is listed.

    Returns:
        A question with the most similar folder; otherwise some names in the nearest folder above it that is not empty.
        "" if the bucket is empty, or may not be listed as a whole.
    """
    try:
        nearest = _nearest_folder(objects, empty)
        if nearest is not None:
            return _question(str(nearest))
        folder = empty.prefix.rstrip("/")
        while folder:
            folder = folder.rpartition("/")[0]
            above = Location(empty.bucket, f"{folder}/" if folder else "")
            names = objects.names(above.bucket, above.prefix)
            if names:
                return f"; in {above} there are {_listed(sorted(names, key=lambda name: not name.endswith('/')))}"
    except Fault as fault:
        log.debug("no suggestion for %s: %s", empty, fault)  # permissions often end at a prefix
    return ""


def why_no_ledger(objects: ObjectStore, destination: Location) -> str | None:
    """Explain that a destination has no ledger, with a suggestion; None if it has one.

    Raises:
        SetupFault, TransientFault: it cannot be listed.
    """
    if _has_ledger(objects, destination):
        return None
    nearest = _nearest_folder(objects, destination)
    if nearest is None or not _has_ledger(objects, nearest):
        parent = destination.prefix.rstrip("/").rpartition("/")[0]
        beside = Location(destination.bucket, f"{parent}/" if parent else "")
        below = (_folders(objects, place) for place in (destination, beside))
        places = [beside, *(place for folders in below for place in folders)]
        nearest = next((place for place in places[:_LEDGERS] if _has_ledger(objects, place)), None)
    question = _question(str(nearest) if nearest else None)
    return f"there is no ledger at {destination}: no run has used this destination{question}"


def ledgers_near(objects: ObjectStore, bucket: str, key: str) -> list[Location]:
    """Return destinations in the folders beside a document, or beside a folder above it, the nearest ones only.

    Args:
        objects: the store.
        bucket: the document's bucket.
        key: the document's key.

    Returns:
        The destinations that have a ledger; none if the bucket may not be listed. Only some folders are looked at.
    """
    looked_at, folder = 0, key
    with suppress(Fault):
        while folder and looked_at < _LEDGERS:
            folder = folder.rpartition("/")[0]
            places = _folders(objects, Location(bucket, f"{folder}/" if folder else ""))[: _LEDGERS - looked_at]
            looked_at += len(places)
            if found := [place for place in places if _has_ledger(objects, place)]:
                return found
    return []


def _question(name: str | None) -> str:
    return f". Did you mean {name}?" if name else ""


def _some(objects: ObjectStore, bucket: str, prefix: str) -> list[Entry]:
    return list(islice(objects.list(bucket, prefix), _LOOKED_AT))


def _is_none(entry: Entry) -> bool:
    return is_marker(entry.key, entry.size) or is_output(entry.key)


def _listed(keys: Sequence[str]) -> str:
    names = ", ".join(keys[:_NAMED])
    return f"{names}, …" if len(keys) > _NAMED else names


def _has_ledger(objects: ObjectStore, place: Location) -> bool:
    return next(objects.list(place.bucket, place.key(LEDGER_FOLDER)), None) is not None


def _folders(objects: ObjectStore, place: Location) -> list[Location]:
    """Return the folders at a location."""
    names = objects.names(place.bucket, place.prefix)
    return [Location(place.bucket, place.key(name)) for name in names if name.endswith("/")]


def _nearest_folder(objects: ObjectStore, wrong: Location) -> Location | None:
    """Return the folder most similar to a wrong one, part by part; None if none is similar."""
    right = ""
    for part in wrong.prefix.rstrip("/").split("/"):
        if next(objects.list(wrong.bucket, f"{right}{part}/"), None) is None:
            names = (name.rstrip("/") for name in objects.names(wrong.bucket, right))
            nearest = did_you_mean(part, names)
            if nearest is None:
                return None
            part = nearest
        right += f"{part}/"
    candidate = Location(wrong.bucket, right)
    return None if candidate == wrong else candidate


def _described(selection: Selection) -> str:
    """Describe a selection as flags."""
    flags = []
    for name in type(selection).model_fields:
        value = getattr(selection, name)
        if value != getattr(EVERYTHING, name):
            values = value if isinstance(value, tuple) else (value,)
            flag = f"--{name.replace('_', '-')}"
            flags += [flag if pattern is True else f"{flag} '{pattern}'" for pattern in values]
    return " ".join(flags)


def _nearest_include(patterns: Sequence[str], keys: Sequence[str]) -> str | None:
    """Return a pattern that is similar to one of these and matches some of the keys."""
    parts = {part for key in keys for part in key.split("/")}
    endings = {part.rpartition(".")[2] for part in parts if "." in part}
    for pattern in patterns:
        nearest = "/".join(_nearest_of_pattern(part, parts, endings) for part in pattern.split("/"))
        if nearest != pattern and any(Selection(include=(nearest,)).takes_name(key) for key in keys):
            return f"--include '{nearest}'"
    return None


def _nearest_of_pattern(part: str, names: set[str], endings: set[str]) -> str:
    if not _MAGIC.search(part):
        return did_you_mean(part, names) or part
    stem, dot, ending = part.rpartition(".")
    if dot and ending and not _MAGIC.search(ending):
        return f"{stem}.{did_you_mean(ending, endings) or ending}"
    return part
