"""Prefect's server as a run sees it: told what the UI shows, and never waited for longer than that is worth."""

import logging
from collections.abc import Callable

import httpx
from prefect.exceptions import PrefectException

from tasks.clock import Clock

log = logging.getLogger(__name__)

_SILENCE_SECONDS = 300  # a call to a server that is gone takes a minute of retries
_SHARE = 0.05  # of the time, at most, goes into telling how far the run is


class PrefectServer:
    """Prefect's server, as far as the UI is concerned: the work does not depend on it.

    A call that fails is followed by five minutes without any, and a slow one by a rest that makes it cheap.

    Args:
        clock: the time to go by.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._silent_until = self._resting_until = clock.monotonic()

    def tell(self, call: Callable[[], object], *, once: bool = False) -> None:
        """Make a call that puts something into the UI, if the server is there.

        Args:
            call: the call.
            once: whether it is made once only, so that it does not wait for a better moment.
        """
        now = self._clock.monotonic()
        if now < self._silent_until or (now < self._resting_until and not once):
            return
        try:
            call()
        except (httpx.HTTPError, PrefectException) as error:
            log.warning(
                "Prefect's server did not take the run's progress (%s); the run continues", type(error).__name__
            )
            self._silent_until = self._clock.monotonic() + _SILENCE_SECONDS
        ended = self._clock.monotonic()
        self._resting_until = ended + (ended - now) * (1 / _SHARE - 1)
