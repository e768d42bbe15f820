"""S3 refuses us in the middle: credentials that ran out end the work at once, a missing permission says which one.

Either way nothing is lost, and what may be paid for twice is counted.
"""

from typing import Any

import pytest

from tasks.faults import CredentialsRefused, SetupFault
from tasks.steps.collect import collect_job
from tasks.steps.poll import OpenJobs, poll_job
from tasks.steps.submit import submit_document
from tasks.upstage.limits import Limits
from tests.steps.conftest import TEN_PAGES, World, pdf
from tests.steps.kills import passes
from tests.store.flaky_s3 import FlakyS3, Rule

BODY = pdf(25)
IN_PARTS: dict[str, Any] = {"limits": TEN_PAGES}
AT_ONCE: dict[str, Any] = {"mode": "sync", "limits": Limits(sync_pages=10)}


def run_out(flaky: FlakyS3, calls: int) -> None:
    """Let so many calls through, and none after them."""
    flaky.fail(Rule("refuse", times=-1, skip=calls, status=400, code="ExpiredToken"))


@pytest.mark.parametrize(
    ("calls", "options", "paid_twice"),
    [
        (0, IN_PARTS, 0),  # before the claim
        (1, IN_PARTS, 0),  # before the look for earlier records, which is answered with a number only
        (3, IN_PARTS, 0),  # before the document is read
        (5, IN_PARTS, 0),  # before "posting"
        (6, IN_PARTS, 10),  # between the first POST and its record
        (7, IN_PARTS, 0),  # before the second "posting"
        (10, IN_PARTS, 5),  # between the last POST and its record
        (6, AT_ONCE, 10),  # between an answer and the place where it is kept
        (7, AT_ONCE, 0),  # between that and its record
    ],
)
def test_credentials_that_run_out_stop_a_submitter_and_the_next_one_finishes(
    world: World, flaky: FlakyS3, calls: int, options: dict[str, Any], paid_twice: int
) -> None:
    expected = world.undisturbed(world.put(BODY))
    document = world.put(BODY)
    run_out(flaky, calls)
    began = world.clock.now()
    with pytest.raises(CredentialsRefused, match=r"ExpiredToken.*renew them and start again"):
        submit_document(world.context(objects=flaky.objects(), **options), document)
    assert world.clock.now() == began, "nobody waits for what cannot come"
    passes(world, world.context(**options), document)
    record = world.done(document)
    assert world.result(document) == expected
    assert sum(world.billed_pages()) - 25 == paid_twice
    assert record.job.possible_duplicates == (1 if paid_twice else 0)
    assert world.listing("out/_jobs/") == [f"out/_jobs/done/{record.job.id}.json"]


@pytest.mark.parametrize("calls", [0, 2, 4, 5, 6])
def test_credentials_that_run_out_stop_a_collector_and_the_next_one_finishes(
    world: World, flaky: FlakyS3, calls: int
) -> None:
    expected = world.undisturbed(world.put(BODY))
    document = world.put(BODY)
    submit_document(world.context(), document)
    identity = world.recognised(world.context(), document)
    run_out(flaky, calls)
    context = world.context(objects=flaky.objects())
    for work in (lambda: collect_job(context, identity), lambda: poll_job(context, identity), OpenJobs(context).survey):
        with pytest.raises(CredentialsRefused, match="ExpiredToken"):
            work()
    passes(world, world.context(), document)
    assert world.result(document) == expected
    assert world.billed_pages() == [25]
    assert world.done(document).job.possible_duplicates == 0


@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("GET", "prefix=in", "list .*: allow s3:ListBucket"),
        ("PUT", "out/_jobs/", "write .*: allow s3:PutObject"),
        ("DELETE", "out/_jobs/", "delete .*: allow s3:DeleteObject"),
        ("GET", "out/_jobs/check", "read .*: allow s3:GetObject"),
    ],
)
def test_a_missing_permission_is_named_before_anything_is_claimed(
    world: World, flaky: FlakyS3, method: str, path: str, permission: str
) -> None:
    world.put(BODY)
    flaky.fail(Rule("refuse", path, method, times=-1, status=403, code="AccessDenied"))
    with pytest.raises(SetupFault, match=f"no permission to {permission}") as refused:
        world.context(objects=flaky.objects()).prepare()
    assert not isinstance(refused.value, CredentialsRefused)
    assert not world.bill()
    assert [key for key in world.listing("out/") if "check" not in key] == []


def test_documents_that_may_not_be_read_are_named_and_given_back(world: World, flaky: FlakyS3) -> None:
    document = world.put(BODY)
    flaky.fail(Rule("refuse", "in/a.pdf", "GET", times=-1, status=403, code="AccessDenied"))
    outcome = submit_document(world.context(objects=flaky.objects()), document)
    assert outcome.kind == "aside"
    assert "allow s3:GetObject" in outcome.message
    assert world.untouched()


def test_a_ledger_that_may_not_be_read_is_named_and_the_job_stays(world: World, flaky: FlakyS3) -> None:
    document = world.put(BODY)
    context = world.context()
    submit_document(context, document)
    identity = world.recognised(context, document)
    flaky.fail(Rule("refuse", "_jobs/open/", "GET", times=-1, status=403, code="AccessDenied"))
    with pytest.raises(SetupFault, match="allow s3:GetObject"):
        collect_job(world.context(objects=flaky.objects()), identity)
    passes(world, world.context(), document)
    assert world.billed_pages() == [25]
