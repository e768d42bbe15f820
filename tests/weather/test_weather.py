"""Bad weather and partial results: nothing lost, nothing paid twice but what is counted, and a bounded cost."""

import pytest

from tests.weather.drive import Calm, Scenario, play
from tests.weather.ground import Ground
from tests.weather.scenarios import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_nothing_is_lost_and_nothing_paid_twice(scenario: Scenario, ground: Ground, undisturbed: Calm) -> None:
    measured = play(scenario, ground, undisturbed)
    assert measured.hits, "the weather was calm"
    assert (measured.lost, measured.done) == (0, measured.documents)
    assert measured.failed == scenario.fails
    assert measured.beyond_need == 0
    assert (measured.left_over, measured.leaked_keys) == ((), 0)
    assert measured.uncounted == ()
    if scenario.counted:
        assert measured.counted_duplicates <= measured.hits
    else:
        assert (measured.billed_twice_pages, measured.counted_duplicates) == (0, 0)
    if not measured.deaths:  # the outcome of a step that died is not heard of
        assert measured.reported_duplicates == measured.counted_duplicates
    assert measured.api_ratio <= scenario.api_bound
    assert measured.s3_ratio <= scenario.s3_bound
