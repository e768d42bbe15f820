"""What a document costs in calls to S3, while nothing goes wrong."""

from collections import Counter

from tasks.steps.collect import collect_job
from tasks.steps.poll import OpenJobs, poll_job
from tasks.steps.submit import submit_document
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3


def life(world: World, flaky: FlakyS3, pages: int) -> tuple[Counter[str], int]:
    """The calls about the open record by method, and all calls but listings, from claim to end."""
    document, context = world.put(pdf(pages)), world.context(objects=flaky.objects())
    assert submit_document(context, document).kind == "open"
    world.recognised(world.context(), document)
    (held,) = OpenJobs(context).survey().due
    assert poll_job(context, held)
    assert collect_job(context, held).kind == "done"
    about_record = Counter({method: flaky.calls(method, "_jobs/open/.*json") for method in ("GET", "PUT", "DELETE")})
    return about_record, sum(flaky.calls(method, "/(in|out)/") for method in ("GET", "PUT", "HEAD", "DELETE"))


def test_the_open_record_of_a_short_document_is_read_once_and_written_four_times(world: World, flaky: FlakyS3) -> None:
    record, calls = life(world, flaky, 3)
    assert record == Counter(GET=1, PUT=4, DELETE=1)
    assert calls == 14, "one look before the DELETE: this store ignores its condition"


def test_a_document_of_several_batches_takes_a_lease_more(world: World, flaky: FlakyS3) -> None:
    record, calls = life(world, flaky, 25)
    assert record == Counter(GET=1, PUT=5, DELETE=1)
    assert calls == 15
