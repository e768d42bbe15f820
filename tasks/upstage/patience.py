"""Trying again after faults of the moment: how often, and after how long."""

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from tasks.clock import Clock
from tasks.faults import Passes
from tasks.upstage.throttle import LONGEST_PAUSE

log = logging.getLogger(__name__)

ATTEMPTS = 8
_LONGEST_WAIT = 30.0
_SHORTEST_ASKED = 1.0  # seconds; waiting less, all attempts would be made in one burst

Answer = TypeVar("Answer")


def patiently(call: Callable[[], Answer], what: str, clock: Clock, attempts: int = ATTEMPTS) -> Answer:
    """Make a call until it meets no fault of the moment.

    With exponential backoff and full jitter, for a number of attempts. A wait that the other side asks for is waited,
    and is no attempt, until such waits add up to minutes: longer ones are the caller's to deal with.

    Args:
        call: what to do.
        what: the same in words, for the log: "submit a.pdf".
        clock: the time to wait by.
        attempts: how often to try.

    Raises:
        Passes: the last fault, once there were too many.
        Cancelled: the run is being ended.
    """
    backoff = wait_random_exponential(multiplier=1, max=_LONGEST_WAIT)
    failed, asked = 0, 0.0

    def wait(state: RetryCallState) -> float:
        asked_for = _fault(state).retry_after or 0.0
        return asked_for if asked_for >= _SHORTEST_ASKED else backoff(state)

    def give_up(state: RetryCallState) -> bool:
        nonlocal failed, asked
        seconds = _fault(state).retry_after or 0.0
        asked += seconds
        failed += seconds < _SHORTEST_ASKED
        return failed >= attempts or asked > LONGEST_PAUSE

    def tell(state: RetryCallState) -> None:
        seconds = state.next_action.sleep if state.next_action else 0
        # The words alone: a record may live on, and a fault holds the frames and bodies it came from.
        words = str(_fault(state))
        log.warning("could not %s: %s; retrying in %.1f s (attempt %d)", what, words, seconds, state.attempt_number)

    retrying = Retrying(
        retry=retry_if_exception_type(Passes),
        wait=wait,
        stop=give_up,
        sleep=clock.sleep,
        before_sleep=tell,
        reraise=True,
    )
    return retrying(call)


def _fault(state: RetryCallState) -> Passes:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, Passes) else Passes("")
