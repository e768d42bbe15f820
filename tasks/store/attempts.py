"""Retries of calls to AWS. They are made here because botocore's own waits cannot be interrupted."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from tasks.clock import Clock
from tasks.faults import Cancelled
from tasks.store.pace import ended_with

Value = TypeVar("Value")
Passing = Callable[[BaseException], bool]

ATTEMPTS = 6
"""Maximum attempts of a call with transient errors, including the first."""

_FIRST_PAUSE_SECONDS = 0.5  # at most; each pause is random, and its upper bound doubles
_LONGEST_PAUSE_SECONDS = 10.0
_LAST_PAUSE_SECONDS = 2.0  # for writes that must still be recorded while the run is being ended


class Attempts:
    """Makes calls, and retries them after transient errors.

    Args:
        clock: the clock to wait by.
        most: the maximum number of attempts, including the first.
        passing: whether an error is transient.
    """

    def __init__(self, clock: Clock, most: int, passing: Passing) -> None:
        self._clock = clock
        self._most = most
        self._passing = passing

    def on_record(self, call: Callable[[], Value], passing: Passing | None = None) -> Value:
        """Make a call that reads or writes a record. It continues while the run is being ended, with shorter waits.

        Args:
            call: the call.
            passing: whether an error is transient; replaces the instance's rule.
        """

        def pause(seconds: float) -> None:
            try:
                self._clock.sleep(seconds)
            except Cancelled:
                self._clock.sleep_through(min(seconds, _LAST_PAUSE_SECONDS))

        return self._retrying(pause, passing or self._passing)(call)

    def until_the_end(self, call: Callable[[], Value]) -> Value:
        """Make a call that concerns no record: the call and its waits are interrupted when the run is ended.

        Raises:
            Cancelled: the run is being ended. During the call, it is raised as the cause of the client's own error.
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
