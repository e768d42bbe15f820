"""Retries after transient faults: how many, and after how long."""

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from tasks.clock import Clock
from tasks.faults import TransientFault
from tasks.upstage.throttle import LONGEST_PAUSE

log = logging.getLogger(__name__)

ATTEMPTS = 8
_LONGEST_WAIT = 30.0
_SHORTEST_ASKED = 1.0  # seconds; with shorter waits, all attempts would come in one burst

Answer = TypeVar("Answer")


def patiently(call: Callable[[], Answer], what: str, clock: Clock, attempts: int = ATTEMPTS) -> Answer:
    """Make a call, and retry it after transient faults.

    Waits use exponential backoff with full jitter. A wait that the other side asks for is honoured and does not count
    as an attempt, until such waits add up to minutes: then the fault is the caller's to handle.

    Args:
        call: the call.
        what: its description for the log, such as "submit a.pdf".
        clock: the clock to wait by.
        attempts: the maximum number of attempts.

    Raises:
        TransientFault: the last fault, after too many attempts.
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
        # Log the text, not the exception: log records may be kept, and a fault refers to frames and bodies.
        words = str(_fault(state))
        log.warning("could not %s: %s; retrying in %.1f s (attempt %d)", what, words, seconds, state.attempt_number)

    retrying = Retrying(
        retry=retry_if_exception_type(TransientFault),
        wait=wait,
        stop=give_up,
        sleep=clock.sleep,
        before_sleep=tell,
        reraise=True,
    )
    return retrying(call)


def _fault(state: RetryCallState) -> TransientFault:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, TransientFault) else TransientFault("")
