"""What the headers of an answer tell about the rate limit: how much is left, and how long to wait.

Moments come as UNIX times, as HTTP dates or as seconds from now, and the vendor's own headers were seen in two
spellings. Whatever can be read is read; the rest is as if it were missing.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

_HEADER = re.compile(r"x-(?:upstage-)?ratelimit-(limit|remaining|reset|retry-after)(?:-([a-z]+))?", re.IGNORECASE)
_UNIX_TIME = 1e8  # a larger number is a moment (1973 or later), a smaller one a span (three years at most)
_UNIX_MILLISECONDS = 1e11
_MOST_SKEW = 300.0  # seconds; a Date header further off says more about the server than about this machine's clock


@dataclass(frozen=True)
class Allowance:
    """What an answer tells about one kind of limit.

    Attributes:
        limit: how many are allowed a window.
        remaining: how many of them are left; less than none was seen.
        reset: seconds until the window begins anew.
        retry_after: seconds to wait before the next call, where the answer asks for that.
    """

    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None
    retry_after: float | None = None


def allowances(headers: Mapping[str, str], now: datetime) -> dict[str, Allowance]:
    """What an answer tells about the account's limits, by kind ("requests", "pages", "tokens").

    Args:
        headers: the answer's headers.
        now: the time, for headers that name a moment.
    """
    reference = _reference(headers, now)
    fields_by_kind: dict[str, dict[str, float | None]] = {}
    for name, value in headers.items():
        match = _HEADER.fullmatch(name)
        if match is None:
            continue
        field_name, kind = match[1].lower().replace("-", "_"), (match[2] or "requests").lower()
        read = _number(value) if field_name in ("limit", "remaining") else _seconds(value, reference)
        fields_by_kind.setdefault(kind, {})[field_name] = read
    return {kind: Allowance(**fields) for kind, fields in fields_by_kind.items()}


def wait_asked(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds that a refusal asks to wait, from `Retry-After` or from the vendor's own headers.

    Args:
        headers: the refusal's headers, case-insensitive.
        now: the time, for headers that name a moment.

    Returns:
        The seconds, 0 where the moment is over; None where nothing is said, or nothing that can be read.
    """
    retry_after = _seconds(headers.get("Retry-After", ""), _reference(headers, now))
    if retry_after is not None:
        return retry_after
    known = allowances(headers, now).values()
    waits = [allowance.retry_after for allowance in known if allowance.retry_after is not None]
    used_up = [
        allowance.reset for allowance in known if allowance.reset is not None and (allowance.remaining or 0) <= 0
    ]
    return max(waits or used_up, default=None)


def _reference(headers: Mapping[str, str], now: datetime) -> datetime:
    """The time that moments in the headers are meant by: the server's own, where it is told and plausible."""
    server_time = _date(headers.get("Date", ""))
    return server_time if server_time is not None and abs((server_time - now).total_seconds()) <= _MOST_SKEW else now


def _seconds(value: str, now: datetime) -> float | None:
    number = _number(value)
    if number is not None:
        if number > _UNIX_TIME:
            number = (number / 1000 if number > _UNIX_MILLISECONDS else number) - now.timestamp()
        return max(0.0, number)
    moment = _date(value)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo is not None else None
