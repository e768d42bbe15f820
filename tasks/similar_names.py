"""Finds the existing name that was probably meant by one that does not exist."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

SETTING_SIMILARITY = 0.75  # names of settings are long, and have parts in common

_MISTYPED = 0.8  # a similarity: one wrong letter in five
_SHORT = 2  # letters in what tells the names of a series apart
_DIGITS = re.compile(r"\d+")
_SEPARATORS = re.compile(r"[-_. ]")


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
