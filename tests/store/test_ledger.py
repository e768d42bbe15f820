"""The ledger: one owner for every job, whatever races, and no news lost, whatever the store answers."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from tasks.faults import RecordUnreadable, Superseded, TransientFault
from tasks.job.record import DoneJob, FailedJob, Job, Lease, PageRange, Request
from tasks.job.transitions import Change
from tasks.store.ledger import Held, Ledger
from tasks.store.location import Location
from tasks.store.objects import Objects
from tests.store.conftest import NOON, job
from tests.store.flaky_s3 import FlakyS3, Rule


def leased(owner: str, key: str = "a.pdf", until: datetime = NOON) -> Job:
    """A job claimed by somebody."""
    return job(key).model_copy(update={"lease": Lease(owner=owner, since=until, until=until, doing="reading")})


def request(number: int) -> Request:
    """A request about one page."""
    return Request(id=f"r{number}", pages=PageRange(first=number, last=number), submitted_at=NOON)


def with_request(number: int, current: Job) -> Job:
    """The job with one request more."""
    return current.model_copy(update={"requests": (*current.requests, request(number))})


def adding(number: int) -> Callable[[Job], Change]:
    """The change that adds a request."""
    return lambda current: Change(with_request(number, current))


def done(of: Job) -> DoneJob:
    """The record of a published result."""
    return DoneJob(job=of, pages=1, finished_at=NOON)


def failed(of: Job) -> FailedJob:
    """The record of a job given up."""
    return FailedJob(job=of, stage="read", code="broken", reason="broken", retry_helps=False, failed_at=NOON)


def open_ids(ledger: Ledger) -> list[str]:
    """The jobs that lie open."""
    return [entry.id for entry in ledger.entries("open")]


def test_a_record_comes_back_as_it_was_written(ledger: Ledger) -> None:
    written = with_request(1, leased("me", "ümlaut/日本 \n|`<b>.pdf"))
    held = ledger.claim(written)
    assert held is not None
    assert ledger.read(written.id) == held
    assert held.job == written


def test_exactly_one_of_many_claims_the_job(ledger: Ledger) -> None:
    ready = threading.Barrier(8)

    def claim(number: int) -> bool:
        ready.wait()
        return ledger.claim(leased(f"worker {number}")) is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1
    assert len(open_ids(ledger)) == 1


def test_a_finished_job_is_not_claimed_again_and_nothing_stays_open(ledger: Ledger) -> None:
    held = ledger.claim(leased("me"))
    assert held is not None
    ledger.finish(held, done(held.job))
    assert ledger.claim(leased("other")) is None
    assert open_ids(ledger) == []
    assert ledger.done(held.job.id) == done(held.job)


def test_a_failed_job_is_not_claimed_again_and_nothing_stays_open(ledger: Ledger) -> None:
    held = ledger.claim(leased("me"))
    assert held is not None
    ledger.fail(held, failed(held.job))
    assert ledger.claim(leased("other")) is None
    assert open_ids(ledger) == []
    assert ledger.failed(held.job.id) == failed(held.job)


def test_a_claim_that_slips_in_while_the_job_is_finished_is_given_back(
    flaky: FlakyS3, ledger: Ledger, destination: Location
) -> None:
    """The claimer wins the empty place of the open record just deleted, and must then see that it is done."""
    held = ledger.claim(leased("closer"))
    assert held is not None
    claims: list[object] = []
    late = flaky.fail(Rule("pass", "_jobs/open/", "DELETE", after=lambda: claims.append(ledger.claim(leased("late")))))
    Ledger(flaky.objects(), destination).finish(held, done(held.job))
    assert (late.hits, claims) == (1, [None])
    assert open_ids(ledger) == []


def test_a_job_given_back_can_be_claimed_again(ledger: Ledger) -> None:
    held = ledger.claim(leased("me"))
    assert held is not None
    ledger.close(held)
    assert ledger.claim(leased("other")) is not None


def test_of_two_who_close_the_same_job_one_deletes(flaky: FlakyS3, ledger: Ledger, destination: Location) -> None:
    """The second comes between the first one's two writes; were it to delete too, it could hit a later claim."""
    held = ledger.claim(leased("me"))
    assert held is not None
    through = Ledger(flaky.objects(), destination)
    flaky.fail(Rule("pass", "_jobs/open/", "DELETE", before=lambda: through.close(held)))
    through.close(held)
    assert flaky.calls("DELETE", "_jobs/open/") == 1
    assert open_ids(ledger) == []


def test_of_two_who_finish_at_once_one_deletes(flaky: FlakyS3, ledger: Ledger, destination: Location) -> None:
    through, ready = Ledger(flaky.objects(), destination), threading.Barrier(2)

    def finish(held: Held) -> None:
        ready.wait()
        through.finish(held, done(held.job))

    for number in range(5):
        held = ledger.claim(leased("me", f"{number}.pdf"))
        assert held is not None
        with ThreadPoolExecutor(2) as pool:
            for _ in range(2):
                pool.submit(finish, held)
    assert flaky.calls("DELETE", "_jobs/open/") == 5
    assert open_ids(ledger) == []


def test_a_closer_who_comes_late_does_not_delete_a_later_claim(ledger: Ledger) -> None:
    first = ledger.claim(leased("me"))
    assert first is not None
    ledger.close(first)
    second = ledger.claim(leased("other"))
    assert second is not None
    ledger.close(first)
    assert ledger.read(second.job.id) == second


def test_a_closer_who_was_overtaken_leaves_the_job_open(ledger: Ledger) -> None:
    held = ledger.claim(leased("me"))
    assert held is not None
    taken = ledger.update(held, leased("other"))
    ledger.close(held)
    assert ledger.read(held.job.id) == taken


def test_a_record_that_another_wrote_is_superseded(ledger: Ledger) -> None:
    held = ledger.claim(leased("me"))
    assert held is not None
    other_held = ledger.update(held, leased("other"))
    with pytest.raises(Superseded):
        ledger.update(held, with_request(1, held.job))
    assert ledger.read(held.job.id) == other_held


def test_a_record_that_was_closed_is_superseded_not_written_anew(ledger: Ledger) -> None:
    held = ledger.claim(leased("me"))
    assert held is not None
    ledger.close(held)
    with pytest.raises(Superseded):
        ledger.update(held, with_request(1, held.job))
    assert open_ids(ledger) == []


def test_no_request_is_lost_when_many_record_theirs_at_once(ledger: Ledger) -> None:
    held = ledger.claim(leased("me"))
    assert held is not None
    ready = threading.Barrier(4)

    def record(worker: int) -> None:
        ready.wait()
        for number in range(5):
            # All from the same old copy: what the others wrote meanwhile has to be read again.
            assert ledger.amend(held, adding(worker * 5 + number + 1))[0] is not None

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(record, range(4)))
    stored = ledger.read(held.job.id)
    assert stored is not None
    assert sorted(request.id for request in stored.job.requests) == sorted(f"r{number}" for number in range(1, 21))


def test_news_of_a_closed_job_have_nowhere_to_go(flaky: FlakyS3, ledger: Ledger, destination: Location) -> None:
    held = ledger.claim(leased("me"))
    assert held is not None
    ledger.finish(held, done(held.job))
    assert ledger.amend(held, adding(1))[0] is None

    other = ledger.claim(leased("me", "b.pdf"))
    assert other is not None
    flaky.fail(Rule("refuse", "_jobs/open/", "DELETE", status=403, code="AccessDenied"))
    assert Ledger(flaky.objects(), destination).finish(other, done(other.job)), "tidying up is not what counts"
    assert ledger.amend(other, adding(1))[0] is None
    assert open_ids(ledger) == [other.job.id], "closed, but not deleted"
    left = ledger.read(other.job.id)
    assert left is not None
    ledger.sweep(left)
    assert open_ids(ledger) == []


@pytest.mark.parametrize("action", ["lose", "hang_up"])
@pytest.mark.parametrize("attempts", [1, 2])
def test_an_answer_lost_does_not_lose_the_job(
    flaky: FlakyS3, ledger: Ledger, destination: Location, action: str, attempts: int
) -> None:
    def lose() -> None:
        flaky.fail(Rule("lose" if action == "lose" else "hang_up", "_jobs/open/", "PUT", status=500, code="Internal"))

    unsure = Ledger(flaky.objects(attempts), destination)
    lose()
    held = unsure.claim(leased("me"))
    assert held is not None
    lose()
    held = unsure.update(held, with_request(1, held.job))
    lose()
    amended, _ = unsure.amend(held, adding(2))
    assert amended is not None
    assert [request.id for request in amended.job.requests] == ["r1", "r2"]
    assert ledger.read(held.job.id) == amended
    lose()
    unsure.close(amended)
    assert open_ids(ledger) == []


def test_an_answer_lost_while_another_overtakes_is_a_defeat_and_loses_no_news(
    flaky: FlakyS3, ledger: Ledger, destination: Location
) -> None:
    held = ledger.claim(leased("me"))
    assert held is not None

    def overtake() -> None:
        current = ledger.read(held.job.id)
        assert current is not None
        ledger.update(current, with_request(9, current.job))

    flaky.fail(Rule("hang_up", "_jobs/open/", "PUT", after=overtake))
    written, _ = Ledger(flaky.objects(attempts=2), destination).amend(
        held,
        lambda current: Change(current if request(1) in current.requests else with_request(1, current)),
    )
    assert written is not None
    assert [request.id for request in written.job.requests] == ["r1", "r9"]


def test_a_store_that_is_down_is_not_taken_for_a_lost_race(flaky: FlakyS3, destination: Location) -> None:
    down = Ledger(flaky.objects(), destination)
    flaky.fail(Rule("refuse", times=-1))
    with pytest.raises(TransientFault):
        down.claim(leased("me"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"format": 4}',
        b"\xff\xfe",
        job().model_dump_json().replace('"format":3', '"format":4').encode(),
        job().model_dump_json().replace('"rounds":0', '"rounds":0,"news":1').encode(),
        job().model_dump_json().encode()[:-20],
    ],
)
def test_a_record_nobody_understands_is_left_as_it_is(
    ledger: Ledger, objects: Objects, destination: Location, body: bytes
) -> None:
    identity = job().id
    for state in ("open", "done", "failed"):
        objects.put(destination.bucket, f"{ledger.folder}{state}/{identity}.json", body, {}, "application/json")
    for read in (ledger.read, ledger.done, ledger.failed):
        with pytest.raises(RecordUnreadable, match=f"{identity}.*left alone"):
            read(identity)
    assert ledger.claim(leased("me")) is None
    stored = objects.get(destination.bucket, f"{ledger.folder}open/{identity}.json")
    assert stored is not None
    assert stored.body == body


def test_a_claimer_stopped_before_it_saw_that_the_job_is_finished_leaves_a_settled_job(
    flaky: FlakyS3, ledger: Ledger, destination: Location
) -> None:
    first = ledger.claim(leased("me"))
    assert first is not None
    ledger.finish(first, done(first.job))
    flaky.fail(Rule("refuse", "_jobs/done/", "HEAD"))
    with pytest.raises(TransientFault):
        Ledger(flaky.objects(), destination).claim(leased("late"))
    left = ledger.read(first.job.id)
    assert left is not None
    assert ledger.settled(left.job)


def test_a_failed_job_is_settled_until_it_is_put_back(ledger: Ledger) -> None:
    held = ledger.claim(with_request(1, leased("me")))
    assert held is not None
    assert not ledger.settled(held.job)
    record = failed(held.job)
    ledger.fail(held, record)
    assert ledger.settled(held.job)

    assert ledger.put_back(record)
    again = ledger.read(held.job.id)
    assert again is not None
    assert (again.job.requests, again.job.retries) == (held.job.requests, 1)
    assert again.job.lease is None, "free for anybody at once"
    assert not ledger.put_back(record), "nor is it put back a second time"
    assert not ledger.settled(again.job)
    assert ledger.failed(held.job.id) is None


@pytest.mark.parametrize("lost_before", [False, True])
def test_who_gives_up_a_job_that_was_taken_over_leaves_the_failed_record_of_its_owner(
    ledger: Ledger, lost_before: bool
) -> None:
    late = ledger.claim(leased("late"))
    assert late is not None
    taken_over = ledger.update(late, with_request(1, leased("owner")))
    rightful = failed(taken_over.job)
    if lost_before:  # another failed record in its place must not come back either, nor stay
        assert not ledger.fail(late, failed(late.job))
        assert ledger.failed(late.job.id) is None
    assert ledger.fail(taken_over, rightful)
    assert not ledger.fail(late, failed(late.job))
    assert ledger.failed(late.job.id) == rightful, "the requests that were paid for are known"


def test_who_knows_of_another_request_and_comes_late_leaves_the_failed_record_too(ledger: Ledger) -> None:
    late = ledger.claim(leased("late"))
    assert late is not None
    rightful = failed(late.job)
    taken_over = ledger.update(late, leased("owner"))
    assert ledger.fail(taken_over, rightful)
    knows_more = Held(with_request(2, late.job), late.etag)
    assert not ledger.fail(knows_more, failed(knows_more.job))
    assert ledger.failed(late.job.id) == rightful


def test_a_job_that_is_open_is_not_put_back(ledger: Ledger) -> None:
    held = ledger.claim(with_request(1, leased("me")))
    assert held is not None
    record = failed(held.job)
    assert not ledger.put_back(record)
    assert ledger.read(held.job.id) == held


def test_putting_back_that_was_stopped_half_way_leaves_the_job_open(
    flaky: FlakyS3, ledger: Ledger, destination: Location
) -> None:
    held = ledger.claim(with_request(1, leased("me")))
    assert held is not None
    record = failed(held.job)
    ledger.fail(held, record)
    flaky.fail(Rule("refuse", "_jobs/failed/", "DELETE"))
    with pytest.raises(TransientFault):
        Ledger(flaky.objects(), destination).put_back(record)
    again = ledger.read(held.job.id)
    assert again is not None
    assert not ledger.settled(again.job)
    ledger.finish(again, done(again.job))
    assert (ledger.failed(held.job.id), open_ids(ledger)) == (None, [])


def test_exactly_one_job_recognises_a_content(ledger: Ledger) -> None:
    ready = threading.Barrier(8)

    def claim(number: int) -> str:
        ready.wait()
        return ledger.claim_content("c" * 64, "ocr", f"job {number}")

    with ThreadPoolExecutor(8) as pool:
        owners = set(pool.map(claim, range(8)))
    assert len(owners) == 1
    assert ledger.claim_content("c" * 64, "another model", "job 9") == "job 9"


def test_a_content_whose_job_has_no_result_is_taken_by_one(ledger: Ledger) -> None:
    assert ledger.claim_content("c" * 64, "ocr", "dead") == "dead"
    assert ledger.take_content("c" * 64, "ocr", "ann", "dead")
    assert not ledger.take_content("c" * 64, "ocr", "bob", "dead")
    assert ledger.claim_content("c" * 64, "ocr", "bob") == "ann"


def test_a_listing_tells_the_states_apart(ledger: Ledger) -> None:
    ends = {"open": None, "done": ledger.finish, "failed": ledger.fail}
    for state in ends:
        held = ledger.claim(leased("me", f"{state}-{uuid.uuid4().hex}.pdf"))
        assert held is not None
        if state == "done":
            ledger.finish(held, done(held.job))
        elif state == "failed":
            ledger.fail(held, failed(held.job))
    listed = [[entry.id for entry in ledger.entries(state)] for state in ("open", "done", "failed")]
    assert [len(ids) for ids in listed] == [1, 1, 1]
    assert len({ids[0] for ids in listed}) == 3


def test_a_record_says_when_its_lease_is_over(ledger: Ledger) -> None:
    until = NOON + timedelta(minutes=10)
    held = ledger.claim(leased("me", until=until))
    assert held is not None
    stored = ledger.read(held.job.id)
    assert stored is not None
    assert stored.job.lease == Lease(owner="me", since=until, until=until, doing="reading")
