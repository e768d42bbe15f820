"""Suggestions for an address, a pattern or a name that matches nothing: the most similar ones that exist."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import islice

from tasks.context import RunContext
from tasks.selection import EVERYTHING, Selection
from tasks.store.location import LEDGER_FOLDER, Location, is_marker, is_output
from tasks.store.object_store import Entry, ObjectStore

_LOOKED_AT = 1000  # objects: a page of a listing
_NAMED = 3
_LEDGERS = 20  # folders in which a ledger is looked for
_MAGIC = re.compile(r"[*?\[\\{]")
_MISTYPED = 0.8  # a similarity: one wrong letter in five
_SHORT = 2  # letters in what tells the names of a series apart
_DIGITS = re.compile(r"\d+")
_SEPARATORS = re.compile(r"[-_. ]")
_BY_NAME = ("key", "manifest", "inventory")


def did_you_mean(wrong: str, names: Iterable[str], similarity: float = 0.6) -> str | None:
    """Return the name most similar to a wrong one; None if none is at least that similar, from 0 to 1."""
    candidates = sorted(set(names))
    letters = sorted(wrong)
    # Transposed letters are the most common mistake, and make up much of a short name.
    same_letters = (name for name in candidates if sorted(name) == letters)
    return next(same_letters, next(iter(get_close_matches(wrong, candidates, 1, similarity)), None))


def mistyped(name: str, names: Iterable[str]) -> str | None:
    """Return the existing name that a new one is probably a misspelling of; None if it looks like a name of its own.

    Names that form a series are not taken for misspellings: `scans-2021` beside `scans-2022`, `site-a` beside `site-b`.
    """
    return did_you_mean(name, (known for known in names if not _of_one_series(name, known)), _MISTYPED)


def _of_one_series(name: str, other: str) -> bool:
    if _DIGITS.sub("", name) == _DIGITS.sub("", other):
        return True
    parts, others = _SEPARATORS.split(name), _SEPARATORS.split(other)
    differing = [pair for pair in zip(parts, others, strict=False) if pair[0] != pair[1]]
    return len(parts) == len(others) > 1 and len(differing) == 1 and max(map(len, differing[0])) <= _SHORT


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
        nearest = _nearest_folder(context.objects, source)
        return f"there is nothing at {source}{_question(str(nearest) if nearest else None)}"
    keys = [source.relative(entry.key) for entry in entries if not _is_none(entry)]
    if not keys:
        return f"there is no document at {source}: only folders, and files that this program has written"
    doubts = "".join(f"; {doubt}" for doubt in selection.doubts())
    return (
        f"no document at {source} matches {_described(selection)}: there are {_listed(keys)}{doubts}"
        f"{_question(_nearest_include(selection.include, keys))}"
    )


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
