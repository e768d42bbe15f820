"""Looking through a bucket costs listings only, where everything is done or nothing is due."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.clock import Clock
from tasks.context import RunContext
from tasks.options import Options, RunSettings
from tasks.steps.discover import discover
from tasks.steps.poll import OpenJobs
from tasks.store.objects import Objects, connect
from tasks.tally import KnownJobs
from tests.bench.stub_s3 import BUCKET, MODEL, Stub

DOCUMENTS, OPEN = 9000, 30


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(DOCUMENTS, OPEN)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def known(tmp_path: Path) -> Iterator[KnownJobs]:
    with KnownJobs(tmp_path) as jobs:
        yield jobs


@pytest.fixture
def context(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> RunContext:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "bench")
    settings = RunSettings(source=f"s3://{BUCKET}/in/", destination=f"s3://{BUCKET}/out/", options=Options(model=MODEL))
    url = f"http://127.0.0.1:{stub.server_address[1]}"
    return RunContext(settings, Objects(connect(url), Clock()), key="unused")


def test_a_pass_over_documents_that_have_their_jobs_lists_and_reads_nothing(
    stub: Stub, context: RunContext, known: KnownJobs
) -> None:
    known.load(context.ledger)
    states = Counter(found.state for found in discover(context, known))
    assert states == {"done": DOCUMENTS - OPEN, "open": OPEN}
    pages = 2 * DOCUMENTS // 1000
    assert set(stub.calls) == {"LIST"}
    assert stub.calls["LIST"] <= pages + 2 * 8 + 3, "and a page more for each stretch that is listed beside others"


def test_open_jobs_of_which_none_is_due_cost_a_listing(stub: Stub, context: RunContext) -> None:
    jobs = OpenJobs(context)
    assert len(jobs.survey().open) == OPEN
    stub.calls.clear()
    second = jobs.survey()
    assert (len(second.open), second.due, second.ready) == (OPEN, [], [])
    assert stub.calls == {"LIST": 1}
