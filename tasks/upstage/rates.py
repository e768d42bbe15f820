"""Rate limits reported in an answer's headers: how much is left, and how long to wait.

Times come as UNIX times, HTTP dates or seconds from now, and the vendor's headers have two spellings. Headers that
cannot be parsed are treated as missing.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tasks.upstage.server_time import http_date

_HEADER = re.compile(r"x-(?:upstage-)?ratelimit-(limit|remaining|reset|retry-after)(?:-([a-z]+))?", re.IGNORECASE)
_UNIX_TIME = 1e8  # a larger number is a point in time (1973 or later), a smaller one a span (three years at most)
_UNIX_MILLISECONDS = 1e11


@dataclass(frozen=True)
class Allowance:
    """One kind of limit as reported by an answer.

    Attributes:
        limit: units allowed per window.
        remaining: units left in the window; negative values were seen.
        reset: seconds until the next window.
        retry_after: seconds to wait before the next call, if the answer asks for that.
    """

    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None
    retry_after: float | None = None


def allowances(headers: Mapping[str, str], now: datetime) -> dict[str, Allowance]:
    """Parse the account's limits from an answer, by kind ("requests", "pages", "tokens").

    Args:
        headers: the answer's headers.
        now: the server's time (`ServerTime`), for headers with absolute times.
    """
    fields_by_kind: dict[str, dict[str, float | None]] = {}
    for name, value in headers.items():
        match = _HEADER.fullmatch(name)
        if match is None:
            continue
        field_name, kind = match[1].lower().replace("-", "_"), (match[2] or "requests").lower()
        read = _number(value) if field_name in ("limit", "remaining") else _seconds(value, now)
        fields_by_kind.setdefault(kind, {})[field_name] = read
    return {kind: Allowance(**fields) for kind, fields in fields_by_kind.items()}


def wait_asked(headers: Mapping[str, str], now: datetime) -> float | None:
    """Parse how long a refusal asks to wait, from `Retry-After` or from the vendor's own headers.

    Args:
        headers: the refusal's headers, case-insensitive.
        now: the server's time (`ServerTime`), for headers with absolute times.

    Returns:
        The seconds; 0 if the given time has passed; None if there is no such header, or none that can be parsed.
    """
    retry_after = _seconds(headers.get("Retry-After", ""), now)
    if retry_after is not None:
        return retry_after
    known = allowances(headers, now).values()
    waits = [allowance.retry_after for allowance in known if allowance.retry_after is not None]
    used_up = [
        allowance.reset for allowance in known if allowance.reset is not None and (allowance.remaining or 0) <= 0
    ]
    return max(waits or used_up, default=None)


def _seconds(value: str, now: datetime) -> float | None:
    number = _number(value)
    if number is not None:
        if number > _UNIX_TIME:
            number = (number / 1000 if number > _UNIX_MILLISECONDS else number) - now.timestamp()
        return max(0.0, number)
    moment = http_date(value)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
