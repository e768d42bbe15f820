"""The current time in the API's format."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def timestamp() -> str:
    """Return the current time in RFC 3339 format with up to nine fraction digits, without trailing zeros."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{nanoseconds:09d}".rstrip("0")
    return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"
