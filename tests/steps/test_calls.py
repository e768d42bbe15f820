"""What a document costs in calls to S3, while nothing goes wrong."""

from collections import Counter

from tasks.steps.collect import collect_job
from tasks.steps.poll import OpenJobs, poll_job
from tasks.steps.submit import submit_document
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3


def life(world: World, flaky: FlakyS3, pages: int, *, handed_on: bool = True) -> tuple[Counter[str], int]:
    """The calls about the open record by method, and all calls but listings, from claim to end.

    Args:
        world: the ground.
        flaky: counts.
        pages: of the document.
        handed_on: whether one run submits and collects, and so hands the record on; another has to read it.
    """
    document, context = world.put(pdf(pages)), world.context(objects=flaky.objects())
    submitted = submit_document(context, document)
    assert submitted.kind == "open"
    world.recognised(world.context(), document)
    held = context.records.take(submitted.job_id)
    if not handed_on:
        (held,) = OpenJobs(context).survey().due
    assert held is not None
    assert poll_job(context, held)
    assert collect_job(context, held).kind == "done"
    about_record = Counter({method: flaky.calls(method, "_jobs/open/.*json") for method in ("GET", "PUT", "DELETE")})
    return about_record, sum(flaky.calls(method, "/(in|out)/") for method in ("GET", "PUT", "HEAD", "DELETE"))


def test_the_open_record_of_a_short_document_is_never_read_and_written_four_times(world: World, flaky: FlakyS3) -> None:
    record, calls = life(world, flaky, 3)
    assert record == Counter(PUT=4, DELETE=1)
    assert calls == 12, "whether or not the store heeds a condition on DELETE"


def test_a_run_that_collects_what_another_has_sent_reads_each_record_once(world: World, flaky: FlakyS3) -> None:
    record, calls = life(world, flaky, 3, handed_on=False)
    assert record == Counter(GET=1, PUT=4, DELETE=1)
    assert calls == 13


def test_a_document_of_several_batches_takes_a_lease_more(world: World, flaky: FlakyS3) -> None:
    record, calls = life(world, flaky, 25)
    assert record == Counter(PUT=5, DELETE=1)
    assert calls == 13
