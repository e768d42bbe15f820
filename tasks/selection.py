"""Which documents of the source are meant: one object for submitting, planning and backfills."""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Self

import bracex
from pydantic import Field, StringConstraints, field_validator, model_validator
from wcmatch import fnmatch

from tasks.documents.files.formats import EXTENSIONS
from tasks.faults import SetupFault
from tasks.partitions import SCHEMES, is_scheme, partition_of
from tasks.settings_model import SettingsModel
from tasks.store.listings import is_address, object_address
from tasks.store.location import ending

_MOST_PATTERNS = 500  # after braces were written out; each costs time for every key
_MOST_KEY_BYTES = 400_000  # Prefect takes parameters of a run of half a megabyte
_MOST_FOLDERS = 20  # more listings than that are no saving over one
_FLAGS = fnmatch.CASE | fnmatch.DOTMATCH | fnmatch.FORCEUNIX
_BRACKET = re.compile(r"\[[!^]?+\]?+[^\]]*\]")
_MAGIC = re.compile(r"[*?\[\\]")

Glob = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=2048)]


class Selection(SettingsModel):
    """What a run looks at. Everything under the source, unless it says otherwise."""

    include: tuple[Glob, ...] = Field(
        (),
        max_length=_MOST_PATTERNS,
        description="Only keys that match this glob, relative to the source: * within a folder, ** across folders, "
        "{a,b} alternatives; without a slash it matches the file name. Repeatable",
    )
    exclude: tuple[Glob, ...] = Field(
        (), max_length=_MOST_PATTERNS, description="Skip keys that match this glob, even if included. Repeatable"
    )
    min_bytes: int | None = Field(None, ge=0, description="Only documents of at least this many bytes")
    max_bytes: int | None = Field(None, ge=0, description="Only documents of at most this many bytes")
    modified_after: datetime | None = Field(
        None, description="Only documents modified at this time or later; UTC unless it has an offset"
    )
    modified_before: datetime | None = Field(
        None, description="Only documents modified before this time; UTC unless it has an offset"
    )
    key: tuple[Key, ...] = Field(
        (),
        max_length=10_000,
        description="Only this document: its full key, or s3://bucket/key. Nothing is listed. Repeatable",
    )
    manifest: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="Only the documents named in this file, in S3 or on the machine that runs: CSV, or JSON lines if "
        "it ends in .jsonl, .ndjson or .json. Nothing is listed",
    )
    inventory: str | None = Field(
        None,
        max_length=4096,
        description="Take the documents from an S3 Inventory instead of listing: s3://bucket/…/manifest.json",
    )
    by: str = Field(
        "month",
        description="How documents are divided into partitions: by the year or month in the key, by modified (the "
        "month of the last change), or by prefix:N (the first N folders)",
    )
    partition: tuple[Key, ...] = Field(
        (), max_length=1000, description="Only this partition, as in 2021-03 with --by month. Repeatable"
    )
    only_supported: bool = Field(False, description="Skip unsupported file extensions without downloading")

    @field_validator("include", "exclude", "key", "partition", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @field_validator("include", "exclude")
    @classmethod
    def _readable(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        _globs(patterns)
        return patterns

    @field_validator("modified_after", "modified_before")
    @classmethod
    def _utc(cls, moment: datetime | None) -> datetime | None:
        return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment

    @field_validator("by")
    @classmethod
    def _scheme(cls, by: str) -> str:
        if not is_scheme(by):
            raise ValueError(f"documents can be divided by {SCHEMES}")
        return by

    @field_validator("inventory")
    @classmethod
    def _address(cls, address: str | None) -> str | None:
        if address is not None:
            _check_address(address)
        return address

    @field_validator("key", "manifest")
    @classmethod
    def _address_or_else(cls, places: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        for place in (places,) if isinstance(places, str) else places or ():
            if is_address(place):
                _check_address(place)
        return places

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        origins = [name for name in ("key", "manifest", "inventory") if getattr(self, name)]
        if len(origins) > 1:
            raise ValueError(f"{' and '.join(origins)} each say which documents are meant: give one of them")
        if sum(len(key.encode("utf-8", "surrogatepass")) + 3 for key in self.key) > _MOST_KEY_BYTES:
            raise ValueError("that many keys are too long to travel with a run: name them in a file with --manifest")
        if self.min_bytes is not None and self.max_bytes is not None and self.min_bytes > self.max_bytes:
            raise ValueError("min_bytes is more than max_bytes, so there is no such document")
        after, before = self.modified_after, self.modified_before
        if after is not None and before is not None and after > before:
            raise ValueError("modified_after is later than modified_before, so there is no such document")
        return self

    def takes(self, relative_key: str, size: int, last_modified: datetime) -> bool:
        """Whether a document is meant, as far as its key as seen from the source, its size and its time tell."""
        return (
            (self.min_bytes is None or size >= self.min_bytes)
            and (self.max_bytes is None or size <= self.max_bytes)
            and (self.modified_after is None or last_modified >= self.modified_after)
            and (self.modified_before is None or last_modified < self.modified_before)
            and self.takes_name(relative_key)
            and (not self.partition or self.partition_of(relative_key, last_modified) in self.partition)
        )

    def of_all_partitions(self) -> Self:
        """The same without regard to partitions."""
        return self.model_validate({**dict(self), "partition": ()})

    def partition_of(self, relative_key: str, last_modified: datetime) -> str:
        """The partition that a document is in."""
        return partition_of(self.by, relative_key, last_modified)

    def takes_name(self, relative_key: str) -> bool:
        """Whether a document can be meant, by its key alone."""
        if self.only_supported and ending(relative_key) not in ("", *EXTENSIONS):
            return False
        if self.include and not _globs(self.include).match(relative_key):
            return False
        return not (self.exclude and _globs(self.exclude).match(relative_key))

    def doubts(self) -> list[str]:
        """What may be wrong with the patterns, in words, for when nothing is like them.

        As in a shell, whatever is no pattern is taken for the letters it consists of, so none of these is an error.
        """
        return [doubt for pattern in (*self.include, *self.exclude) if (doubt := _doubt(pattern)) is not None]

    def folders(self) -> Sequence[str]:
        """The folders, as seen from the source, outside of which nothing is meant; in order, none within another."""
        return _globs(self.include).folders if self.include else ("",)


def _check_address(uri: str) -> None:
    try:
        object_address(uri)
    except SetupFault as fault:
        raise ValueError(str(fault)) from fault


def _doubt(pattern: str) -> str | None:
    shown = repr(pattern[:60])
    if pattern.endswith("/"):
        return f"{shown} ends with a slash, which no document does: {pattern[:60]}** selects its contents"
    braces = 0
    for part in pattern.split("/"):
        letters = iter(range(len(part)))
        for index in letters:
            if part[index] == "\\":
                next(letters, None)
            elif part[index] == "[":
                end = _BRACKET.match(part, index)
                if end is None:
                    return f"{shown} has a [ that no ] closes, so it stands for itself"
                for _ in range(end.end() - index - 1):
                    next(letters)
            elif part[index] in "{}":
                braces = max(0, braces + (1 if part[index] == "{" else -1))
    return f"{shown} has a {{ that no }} closes, so it stands for itself" if braces else None


class _Globs:
    """Patterns over keys, compiled.

    A key is no path, so each part of it between slashes is matched by itself, whether it is `..` or empty, and
    how `**` shares the parts out is decided here: as one regular expression, a few `**/a/**/a/` would take years.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        written_out: list[str] = []
        for pattern in patterns:
            try:
                written_out += bracex.expand(pattern, keep_escapes=True, limit=_MOST_PATTERNS)
            except (bracex.ExpansionLimitException, RecursionError) as error:
                raise ValueError(
                    f"the braces of {pattern[:60]!r} stand for more than {_MOST_PATTERNS} patterns: use fewer"
                ) from error
        if len(written_out) > _MOST_PATTERNS:
            raise ValueError(f"these are {len(written_out)} patterns, and {_MOST_PATTERNS} can be given: use fewer")
        self._globs = [_Glob(pattern) for pattern in written_out]
        self.folders = _outermost(glob.folder for glob in self._globs)

    def match(self, key: str) -> bool:
        parts = key.split("/")
        return any(glob.match(parts) for glob in self._globs)


class _Glob:
    def __init__(self, pattern: str) -> None:
        parts = pattern.split("/")
        self._name_only = len(parts) == 1 and parts != ["**"]
        literal = next((index for index, part in enumerate(parts[:-1]) if _MAGIC.search(part)), len(parts) - 1)
        self.folder = "".join(f"{part}/" for part in parts[:literal])
        # None stands for `**`: any number of parts. At the end it stands for one at least: what is in the folder.
        self._parts = [None if part == "**" else _part(part) for part in parts]
        if parts[-1] == "**":
            self._parts.append(_anything)

    def match(self, key: Sequence[str]) -> bool:
        if self._name_only:
            return self._fits(0, key[-1])
        # Greedy: only the latest `**` ever has to take more, so the time is bounded by both lengths.
        at = here = 0
        resume: tuple[int, int] | None = None
        while at < len(key):
            if here < len(self._parts) and self._parts[here] is None:
                resume = here, at
                here += 1
            elif here < len(self._parts) and self._fits(here, key[at]):
                at, here = at + 1, here + 1
            elif resume is not None:
                resume = resume[0], resume[1] + 1
                here, at = resume[0] + 1, resume[1]
            else:
                return False
        return all(part is None for part in self._parts[here:])

    def _fits(self, index: int, part: str) -> bool:
        fits = self._parts[index]
        return fits is not None and fits(part)


def _anything(_part: str) -> bool:
    return True


def _part(pattern: str) -> Callable[[str], bool]:
    """What tells whether a part of a key, which holds no slash, is like the pattern."""
    if not _MAGIC.search(pattern):
        return pattern.__eq__
    [expression], _ = fnmatch.translate(pattern, flags=_FLAGS)
    expression_fits = re.compile(expression).fullmatch
    return lambda part: expression_fits(part) is not None


def _outermost(folders: Iterable[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for folder in sorted(set(folders)):
        if not kept or not folder.startswith(kept[-1]):
            kept.append(folder)
    return tuple(kept) if len(kept) <= _MOST_FOLDERS else ("",)


@lru_cache(maxsize=64)
def _globs(patterns: tuple[str, ...]) -> _Globs:
    return _Globs(patterns)


EVERYTHING = Selection()
"""Everything under the source."""
