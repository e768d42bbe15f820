"""The account's rates: reported in the headers of every answer, and enforced if the settings require it."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from email.utils import format_datetime

from deployments.local.upstage.errors import ApiError
from deployments.local.upstage.settings import LiveSettings, Settings

_NAME = "X-Upstage-RateLimit"


class _Window:
    """The usage of a limit in the current window of time."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._begun = 0
        self._used = 0

    def used(self) -> int:
        now = int(time.time() / self._seconds)
        if now != self._begun:
            self._begun, self._used = now, 0
        return self._used

    def use(self, count: int) -> None:
        self._used = self.used() + count

    @property
    def ends(self) -> int:
        """When the next window begins, as a UNIX time."""
        return (int(time.time() / self._seconds) + 1) * self._seconds


class Rates:
    """Counts requests per second and pages per minute. Used only by the event loop's thread."""

    def __init__(self, live: LiveSettings) -> None:
        self._live = live
        self._requests, self._pages = _Window(1), _Window(60)

    def take_request(self) -> None:
        """Count a call.

        Raises:
            ApiError: too many calls in this second (429).
        """
        if self._live.now.keep_rates and self._requests.used() >= self._live.now.requests_per_second:
            raise self._refusal("Requests", self._requests)
        self._requests.use(1)

    def take_pages(self, pages: int) -> None:
        """Count the pages of a document. A document above the limit is accepted if it is the first in its minute.

        Raises:
            ApiError: too many pages in this minute (429).
        """
        used = self._pages.used()
        if self._live.now.keep_rates and used and used + pages > self._live.now.pages_per_minute:
            raise self._refusal("Pages", self._pages)
        self._pages.use(pages)

    def headers(self) -> dict[str, str]:
        """Return the headers of every answer, with the vendor's names and UNIX times."""
        settings = self._live.now
        limits = {
            "Requests": (settings.requests_per_second, self._requests),
            "Pages": (settings.pages_per_minute, self._pages),
        }
        headers: dict[str, str] = {}
        for kind, (limit, window) in limits.items():
            headers[f"{_NAME}-Limit-{kind}"] = str(limit)
            headers[f"{_NAME}-Remaining-{kind}"] = str(max(0, limit - window.used()))
            headers[f"{_NAME}-Reset-{kind}"] = str(window.ends)
        return headers

    def _refusal(self, kind: str, window: _Window) -> ApiError:
        headers = {f"{_NAME}-Retry-After-{kind}": str(window.ends)} | _retry_after(self._live.now, window.ends)
        return ApiError(429, f"Too many requests: the limit of {kind.lower()} is reached.", headers)


def _retry_after(settings: Settings, moment: int) -> dict[str, str]:
    values = {
        "seconds": str(math.ceil(moment - time.time())),
        "date": format_datetime(datetime.fromtimestamp(moment, UTC), usegmt=True),
        "unix": str(moment),
    }
    return {"Retry-After": values[settings.retry_after]} if settings.retry_after != "none" else {}
