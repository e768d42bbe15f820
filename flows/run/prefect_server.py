"""Calls to Prefect's server that update the UI: their share of a run's time is limited, and failures are tolerated."""

import logging
from collections.abc import Callable

import httpx
from prefect.exceptions import PrefectException

from tasks.clock import Clock

log = logging.getLogger(__name__)

# Prefect's client raises RuntimeError if it reaches no API, and ValueError for a proxy's page with status 200.
_UNAVAILABLE = (httpx.HTTPError, PrefectException, RuntimeError, ValueError)
_SILENCE_SECONDS = 300  # a call to an unavailable server takes a minute of retries
_SHARE = 0.05  # maximum share of the time spent on showing progress


class PrefectServer:
    """Prefect's server, as used for the UI. The run's work does not depend on it.

    After a failed call, there are no calls for five minutes; after a slow one, there is a proportionate pause.

    Args:
        clock: the timer.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._silent_until = self._resting_until = clock.monotonic()

    def tell(self, call: Callable[[], object], *, once: bool = False) -> None:
        """Make a call that updates the UI, if the server is available.

        Args:
            call: the call.
            once: whether the call is made only once, so that it is not omitted during a pause after a slow one.
        """
        now = self._clock.monotonic()
        if now < self._silent_until or (now < self._resting_until and not once):
            return
        try:
            call()
        except _UNAVAILABLE as error:
            log.warning(
                "Prefect's server did not take the run's progress (%s); the run continues", type(error).__name__
            )
            self._silent_until = self._clock.monotonic() + _SILENCE_SECONDS
        ended = self._clock.monotonic()
        self._resting_until = ended + (ended - now) * (1 / _SHARE - 1)
