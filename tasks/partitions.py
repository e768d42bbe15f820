"""Partitions: which part of a backfill a document belongs to, by its key or by when it was written."""

import re
from datetime import datetime

_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)|(?<!\d)((?:19|20)\d\d)(?=(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])?(?!\d))")
# 2021/03, 2021-03, 2021_03, 2021.03, 202103 and 20210315; not the first six digits of a longer number.
_MONTH = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_/.]?(0[1-9]|1[0-2])(?=(?:[0-2]\d|3[01])?(?!\d))")
_PREFIX = re.compile(r"prefix:([1-9]\d?)")
OTHER = "other"
"""The partition of documents whose key names none."""

SCHEMES = "year, month, modified or prefix:N"


def is_scheme(by: str) -> bool:
    """Whether this says how to divide."""
    return by in ("year", "month", "modified") or _PREFIX.fullmatch(by) is not None


def partition_of(by: str, relative_key: str, last_modified: datetime) -> str:
    """The partition that a document is in.

    Args:
        by: `year` or `month` found in the key, `modified` for the month in which it was written, `prefix:N` for the
            first N folders of the key.
        relative_key: its key as seen from the source.
        last_modified: when it was written.

    Returns:
        `2021`, `2021-03`, or a folder such as `contracts/north`; `other` where the key has none.
    """
    if by == "modified":
        return f"{last_modified:%Y-%m}"
    if by == "year":
        year = _YEAR.search(relative_key)
        return OTHER if year is None else year[1] or year[2]
    if by == "month":
        month = _MONTH.search(relative_key)
        return OTHER if month is None else f"{month[1]}-{month[2]}"
    prefix = _PREFIX.fullmatch(by)
    depth = int(prefix[1]) if prefix else 1
    folders = relative_key.split("/")[:-1][:depth]
    return "/".join(folders) or OTHER
