"""How often a call to AWS is made, and how long the waits are: decided here, as nothing ends those of botocore."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from tasks.clock import Clock
from tasks.faults import Cancelled
from tasks.store.pace import ended_with

Value = TypeVar("Value")
Passing = Callable[[BaseException], bool]

ATTEMPTS = 6
"""How often a call is made, the first included, while it fails for reasons that may pass."""

_FIRST_PAUSE_SECONDS = 0.5  # at most; each pause is drawn at random, and its bound doubles
_LONGEST_PAUSE_SECONDS = 10.0
_LAST_PAUSE_SECONDS = 2.0  # once the run is being ended, for what still has to be put on record


class Attempts:
    """Makes calls, and makes them again while they fail for the moment.

    Args:
        clock: paces them.
        most: how often a call is made, the first included.
        passing: whether the same call may succeed a moment later.
    """

    def __init__(self, clock: Clock, most: int, passing: Passing) -> None:
        self._clock = clock
        self._most = most
        self._passing = passing

    def on_record(self, call: Callable[[], Value], passing: Passing | None = None) -> Value:
        """Make a call that puts something on record, or reads what is. The end of the run shortens the waits only.

        Args:
            call: what to do.
            passing: decides instead of the usual.
        """

        def pause(seconds: float) -> None:
            try:
                self._clock.sleep(seconds)
            except Cancelled:
                self._clock.sleep_through(min(seconds, _LAST_PAUSE_SECONDS))

        return self._retrying(pause, passing or self._passing)(call)

    def until_the_end(self, call: Callable[[], Value]) -> Value:
        """Make a call that need not be put on record: the call itself and the waits end with the run.

        Raises:
            Cancelled: the run is being ended. During the call it comes as the cause of the client's own error.
        """
        with ended_with(self._clock):
            return self._retrying(self._clock.sleep, self._passing)(call)

    def _retrying(self, pause: Callable[[float], None], passing: Passing) -> Retrying:
        return Retrying(
            sleep=pause,
            stop=stop_after_attempt(self._most),
            wait=wait_random_exponential(multiplier=_FIRST_PAUSE_SECONDS, max=_LONGEST_PAUSE_SECONDS),
            retry=retry_if_exception(passing),
            reraise=True,
        )
