"""Whether submissions and polls are counted together, told from what answers report as left."""

import pytest

from tasks.upstage.one_limit import OneLimit, Sent
from tasks.upstage.rates import Allowance
from tests.fakes import FakeClock

_LIMIT = 10.0


class Windows:
    """Answers of an API whose windows are seconds of the clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.one_limit = OneLimit(self.clock)
        self._begun = self.clock.monotonic()

    @property
    def into_window(self) -> float:
        """Seconds since the window began."""
        return (self.clock.monotonic() - self._begun) % 1.0

    def answer(
        self, *, submitting: bool, used: float, taking: float = 0.0, limit: float = _LIMIT, late: float = 0.0
    ) -> None:
        """Answer a call that was sent `taking` seconds ago; report an end of the window that is `late` seconds off."""
        now = self.clock.monotonic()
        allowance = Allowance(limit=limit, remaining=limit - used, reset=1.0 - self.into_window + late)
        self.one_limit.answered(Sent(submitting, now - taking), allowance, now, 1.0)
        self.clock.advance(0.1)

    def next_window(self) -> None:
        """Let this one pass."""
        self.clock.advance(1.0 - self.into_window)

    def both(self, polls_used: float) -> None:
        """In one window, two submissions that are counted, and a poll whose answer reports `polls_used`."""
        self.next_window()
        self.answer(submitting=True, used=1)
        self.answer(submitting=True, used=2)
        self.answer(submitting=False, used=polls_used)


def test_one_limit_is_not_assumed_before_both_kinds_report_it() -> None:
    windows = Windows()
    windows.answer(submitting=True, used=1)
    assert not windows.one_limit.shared
    windows.answer(submitting=False, used=2)
    assert windows.one_limit.shared


def test_different_limits_are_two() -> None:
    windows = Windows()
    windows.answer(submitting=True, used=1)
    windows.answer(submitting=False, used=2, limit=100)
    assert not windows.one_limit.shared


@pytest.mark.parametrize("polls_used", [0, 1])
def test_polls_that_do_not_count_the_submissions_before_them_prove_two_limits(polls_used: int) -> None:
    windows = Windows()
    for _ in range(2):
        windows.both(polls_used)
        assert windows.one_limit.shared  # a server that restarts reports the same
    windows.both(polls_used)
    assert not windows.one_limit.shared


def test_an_impossible_end_of_a_window_does_not_stop_the_comparison() -> None:
    windows = Windows()
    windows.answer(submitting=True, used=1, late=86_400)
    for _ in range(3):
        windows.both(0)
    assert not windows.one_limit.shared


@pytest.mark.parametrize("polls_used", [3, 8])
def test_calls_of_other_processes_prove_nothing(polls_used: int) -> None:
    windows = Windows()
    for _ in range(10):
        windows.both(polls_used)
    assert windows.one_limit.shared


def test_calls_under_way_at_the_same_time_may_be_counted_in_any_order() -> None:
    windows = Windows()
    for _ in range(10):
        windows.next_window()
        windows.answer(submitting=True, used=2)
        windows.answer(submitting=False, used=1, taking=0.1)  # sent and counted first
    assert windows.one_limit.shared


def test_a_call_sent_before_a_window_may_be_counted_in_the_window_before() -> None:
    windows = Windows()
    for _ in range(10):
        windows.next_window()
        windows.answer(submitting=True, used=0, taking=0.1)
        windows.answer(submitting=False, used=1)
    assert windows.one_limit.shared


def test_a_call_may_be_missing_in_its_own_answer() -> None:
    windows = Windows()
    for _ in range(10):
        windows.next_window()
        windows.answer(submitting=True, used=0)
        windows.answer(submitting=False, used=1)
        windows.answer(submitting=True, used=2)
    assert windows.one_limit.shared


def test_an_answer_that_does_not_say_what_is_left_proves_nothing() -> None:
    clock = FakeClock()
    one_limit = OneLimit(clock)
    for submitting in (True, False, True, False):
        one_limit.answered(Sent(submitting, 0.0), Allowance(limit=_LIMIT), 0.0, 1.0)
    assert one_limit.shared
