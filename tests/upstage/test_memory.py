"""What a process remembers of the API's answers: enough to notice an id that is given out twice, and no more."""

from tasks.upstage.memory import RequestOwners


def test_a_request_belongs_to_one_job() -> None:
    owners = RequestOwners()
    assert owners.claim("request", "job")
    assert owners.claim("request", "job")
    assert not owners.claim("request", "another job")


def test_of_very_many_requests_the_last_are_remembered() -> None:
    """A run of millions must not hold them all; the ledger does."""
    owners = RequestOwners()
    for number in range(20_001):
        assert owners.claim(str(number), "job")
    assert not owners.claim("1", "another job")
    assert owners.claim("0", "another job"), "the first one is forgotten"
