"""Whatever the API answers: a document ends done with the right pages, failed with words, or is open for later."""

import gzip
import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.context import RunContext
from tasks.faults import AnswerLost, Fault, NotUnderstood, TransientFault
from tasks.job.outcome import Outcome
from tasks.job.record import Document, job_id
from tasks.options import Options, RunSettings
from tasks.steps.collect import collect_job
from tasks.steps.poll import poll_job
from tasks.steps.submit import submit_document
from tasks.store.objects import Objects
from tasks.upstage.upload import Upload
from tests.fakes import FakeClock
from tests.hostile.memory import MemoryObjects
from tests.hostile.server import KEY, SECRET, Body, Change, HostileApi, Json, plain
from tests.steps.conftest import pdf

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PAGES = 12
BODY = pdf(PAGES)
TEXTS = [f"page {number} of a test" for number in range(1, PAGES + 1)]
STATUS = "/v1/document-digitization/requests/"
MB = 1 << 20
MOST = 48 * MB  # what the client may have in memory over an answer, whatever its size

HOSTILE: list[Any] = [
    None, True, -1, 0, 1, 2, 11, 10**9, 10**18, 10**400, 1.5, 1e308, float("nan"), float("inf"), -float("inf"),
    "", "x", "1", "completed", "failed", "\ud800", "\x00\x1b[31m\u202e", "| ` <script>", "../..", "x" * 100_000,
    [], {}, [[]], [None], [{}], {"": None}, [1] * 5000, "MANY DIGITS", "DEEP", "DEEPEST",
]  # fmt: skip
KEYS = ["unknown", "id", "status", "batches", "total_pages", "pages", "usage", "metadata", "words", "text", "", "\x00"]


def dumped(answer: Any) -> bytes:
    """JSON, and what only pretends to be: more digits than an int may have, nesting that nobody writes, twin keys."""
    body = json.dumps(answer).encode()
    body = body.replace(b'"MANY DIGITS"', b"9" * 5000).replace(b'"DEEPEST"', b"[" * 100_000 + b"]" * 100_000)
    return body.replace(b'"DEEP"', b'[{"a":' * 300 + b"1" + b"}]" * 300).replace(b'"TWIN ', b'"')


Step = tuple[str, int, int, int]


def mutated(steps: list[Step]) -> Change:
    """The same change to every answer: at each step a place is picked, and something done to it."""

    def change(answer: Json) -> bytes:
        copy = json.loads(json.dumps(answer))
        for what, place, value, key in steps:
            places = list(_places(copy))
            if not places:
                break
            holder, at = places[place % len(places)]
            hostile = HOSTILE[value % len(HOSTILE)]
            if what == "replace":
                holder[at] = hostile
            elif what == "delete":
                del holder[at]
            elif isinstance(holder, list):
                holder.insert(at, holder[value % len(holder)] if what == "twin" else hostile)
            elif what == "twin":
                holder[f"TWIN {at}"] = hostile
            else:
                holder[KEYS[key % len(KEYS)]] = hostile
        return dumped(copy)

    return change


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    inside = list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder))
    for at, value in inside:
        yield holder, at
        if isinstance(value, dict | list):
            yield from _places(value)


steps = st.lists(
    st.tuples(
        st.sampled_from(["replace", "delete", "add", "twin"]),
        st.integers(0, 400),
        st.integers(0, len(HOSTILE) - 1),
        st.integers(0, len(KEYS) - 1),
    ),
    min_size=1,
    max_size=3,
)


class Trial:
    """One document of twelve pages against an API that misbehaves, through the real steps."""

    def __init__(self, hostile: HostileApi, clock: FakeClock, objects: Objects, bucket: str) -> None:
        self.hostile, self.clock, self.objects, self.bucket = hostile, clock, objects, bucket
        hostile.reset()
        options = Options(requests_per_second=1e6, pages_per_minute=1e9, rounds=2)
        self.context = RunContext(
            RunSettings(
                source=f"s3://{bucket}/in",
                destination=f"s3://{bucket}/out",
                options=options,
            ),
            objects,
            clock=clock,
            base_url=hostile.base_url,
            key=KEY,
        )
        objects.put(bucket, "in/a.pdf", BODY, {}, "application/pdf")
        entry = next(objects.list(bucket, "in/a.pdf"))
        self.document = Document(
            bucket=bucket, key=entry.key, etag=entry.etag, size=entry.size, last_modified=entry.last_modified
        )
        self.id = job_id(self.document, "ocr")

    def run(self, passes: int = 5) -> list[Outcome]:
        """Submit and collect, as often as a scheduler would before somebody looks, or until the run is stopped."""
        outcomes: list[Outcome] = []
        with suppress(NotUnderstood):
            self._run(passes, outcomes)
        return outcomes

    def _run(self, passes: int, outcomes: list[Outcome]) -> None:
        outcomes.append(submit_document(self.context, self.document))
        for _ in range(passes):
            held = self.context.ledger.read(self.id)
            if held is None:
                if outcomes[-1].kind != "later":
                    break
                outcomes.append(submit_document(self.context, self.document))
                continue
            if not held.job.open_requests or poll_job(self.context, self.id):
                outcomes.append(collect_job(self.context, self.id))
            self.clock.advance(1000)

    def judged(self, outcomes: list[Outcome], trusted: bool = True) -> str:
        """How it ended, which is proven to be one of the ways it may.

        Args:
            outcomes: what the steps said.
            trusted: whether the batches' bodies were left alone, so that every text has to be there.
        """
        ledger = self.context.ledger
        done, failed = ledger.done(self.id), ledger.failed(self.id)
        for outcome in outcomes:
            assert outcome.message or outcome.kind not in ("failed", "later")
            assert len(outcome.message) < 3000, outcome.message[:100]
            assert SECRET not in outcome.message
            assert outcome.message.isprintable()
        if done is not None:
            assert failed is None
            assert done.pages == PAGES
            result = json.loads(self.published(), parse_constant=pytest.fail)
            assert [page["id"] for page in result["pages"]] == list(range(PAGES))
            marks = [page.get("mark") for page in result["pages"]]
            # A batch that holds other pages than its own cannot be found out; pages of another batch can.
            of_batch = [TEXTS[number // 10 * 10 :][:10] for number in range(PAGES)]
            assert marks == TEXTS if trusted else all(map(_in_place, marks, of_batch))
            return "done"
        if failed is not None:
            assert 10 < len(failed.reason) < 3000
            return "failed"
        # Given back, when nothing of it is at the API.
        given_back = not outcomes or outcomes[-1].kind == "later"
        assert self.context.ledger.read(self.id) is not None or given_back
        return "open"

    def published(self) -> bytes:
        """The result."""
        stored = self.objects.get(self.bucket, "out/a.pdf.ocr.json")
        assert stored is not None
        return stored.body


def _in_place(mark: Any, texts: list[str]) -> bool:
    return mark in texts or not (isinstance(mark, str) and mark.startswith("page "))


@pytest.fixture
def trial(hostile: HostileApi, clock: FakeClock) -> Callable[[], Trial]:
    """Makes trials."""
    return lambda: Trial(hostile, clock, MemoryObjects(), "bucket")


def test_an_api_that_behaves_is_believed_and_no_secret_is_stored(
    hostile: HostileApi, clock: FakeClock, s3: "S3Client", bucket: str
) -> None:
    one = Trial(hostile, clock, Objects(s3), bucket)
    assert one.judged(one.run()) == "done"
    assert one.hostile.calls("/storage/") == 2
    for entry in one.objects.list(bucket, "out/"):
        stored = s3.get_object(Bucket=bucket, Key=entry.key)
        stored_text = stored["Body"].read() + json.dumps(stored["Metadata"]).encode()
        assert SECRET.encode() not in stored_text
        assert KEY.encode() not in stored_text


@settings(max_examples=40)
@given(steps=steps, times=st.sampled_from([-1, 1, 9]))
def test_no_receipt_does_harm(trial: Callable[[], Trial], steps: list[Step], times: int) -> None:
    one = trial()
    one.hostile.submitted, one.hostile.changes = mutated(steps), times
    one.judged(one.run())


@settings(max_examples=60)
@given(steps=steps, times=st.sampled_from([-1, 1, 9]))
def test_no_status_answer_does_harm(trial: Callable[[], Trial], steps: list[Step], times: int) -> None:
    one = trial()
    one.hostile.status, one.hostile.changes = mutated(steps), times
    one.judged(one.run())


@settings(max_examples=60)
@given(steps=steps, times=st.sampled_from([-1, 1, 9]))
def test_no_batch_does_harm(trial: Callable[[], Trial], steps: list[Step], times: int) -> None:
    one = trial()
    one.hostile.batch, one.hostile.changes = mutated(steps), times
    one.judged(one.run(), trusted=False)


@settings(max_examples=30)
@given(body=st.binary(max_size=200), part=st.sampled_from(["submitted", "status", "batch"]))
def test_no_bytes_do_harm(trial: Callable[[], Trial], body: bytes, part: str) -> None:
    one = trial()
    setattr(one.hostile, part, lambda _: body)
    assert one.judged(one.run()) != "done"


def every_page(**changes: Any) -> Change:
    """A status answer with something else in each batch."""
    return lambda answer: dumped(answer | {"batches": [batch | changes for batch in answer["batches"]]})


def says(**changes: Any) -> Change:
    """A status answer that says something else."""
    return lambda answer: dumped({key: value for key, value in (answer | changes).items() if value is not ...})


@pytest.mark.parametrize(
    ("status", "ends"),
    [
        (says(total_pages=10**9), "failed"),
        (says(total_pages=10**18), "failed"),
        (says(total_pages=10**400), "failed"),
        (says(total_pages=-1), "failed"),
        (says(total_pages=...), "done"),
        (says(completed_pages=10**400), "done"),
        (says(completed_pages="MANY DIGITS"), "open"),
        (says(completed_pages=float("nan")), "done"),
        (says(unknown="DEEP"), "open"),
        (says(batches="DEEPEST"), "open"),
        (says(unknown=[{}] * 100_000), "done"),
        (every_page(start_page=1, end_page=10**18), "failed"),
        (every_page(start_page=10**18, end_page=10**18), "failed"),
        (every_page(start_page=1, end_page=10**400), "failed"),
        (every_page(start_page=-(10**18)), "failed"),
        (lambda answer: dumped(answer | {"batches": answer["batches"] * 4000}), "done"),
        (lambda answer: dumped(answer | {"batches": [{"status": "completed"}] * 10_001}), "open"),
        (lambda answer: dumped(answer | {"batches": [{}] * 100_000}), "open"),
        (lambda answer: dumped(answer | {"batches": answer["batches"][::-1]}), "done"),
        (lambda answer: dumped(answer | {"batches": [answer["batches"][0] | {"end_page": 12}]}), "failed"),
    ],
)
def test_numbers_and_lists_of_any_size_cost_neither_memory_nor_pages(
    trial: Callable[[], Trial], status: Change, ends: str
) -> None:
    one = trial()
    one.hostile.status = lambda answer, made={}: made.setdefault(answer["id"], status(answer))  # type: ignore[misc]
    status_of = {"first": submit_document(one.context, one.document).kind}
    one.context.client.probe()
    tracemalloc.start()
    try:
        outcomes = one.run(passes=3 if ends == "failed" else 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert status_of == {"first": "open"}
    assert one.judged(outcomes) == ends
    assert peak < 4 * MOST
    assert ends == "failed" or len(one.hostile.texts) == 1  # nothing was sent, and paid for, again


@pytest.mark.parametrize("message", ["\x1b[2J\u202e\n| a |" * 9, "x" * 1_000_000, 7, ["x"], None])
def test_the_apis_words_are_told_on_one_line_and_not_at_length(trial: Callable[[], Trial], message: Any) -> None:
    one = trial()
    one.hostile.status = lambda answer: dumped(
        {"status": "failed", "failure_message": message, "batches": [answer["batches"][0] | {"status": "failed"}]}
    )
    outcomes = one.run()
    one.judged(outcomes)
    failed = one.context.ledger.failed(one.id)
    notes = [] if failed is None else [failed.reason, *(request.note for request in failed.job.requests)]
    assert all(note.isprintable() and len(note) < 1000 for note in notes)
    assert bool(notes) == (message is None or isinstance(message, str))


@pytest.mark.parametrize("part", ["submitted", "status", "batch"])
@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000, b"-" * 100_000, b'"' + b"\\u0000" * 9]
)
def test_nesting_and_digits_without_end_are_no_answer(trial: Callable[[], Trial], part: str, body: bytes) -> None:
    one = trial()
    setattr(one.hostile, part, lambda _: body)
    assert one.judged(one.run()) != "done"


@pytest.mark.parametrize("depth", [50, 500, *range(880, 1000, 12)])
def test_a_batch_of_any_depth_is_published_or_refused(trial: Callable[[], Trial], depth: int) -> None:
    one = trial()

    def deep(answer: Json) -> bytes:
        answer["pages"][0]["more"] = "HERE"
        return plain(answer).replace(b'"HERE"', b"[" * depth + b"]" * depth)

    one.hostile.batch = deep
    one.judged(one.run())


def test_duplicate_keys_the_last_of_which_lies_lead_to_no_wrong_result(trial: Callable[[], Trial]) -> None:
    one = trial()
    one.hostile.batch = lambda answer: plain(answer)[:-1] + b',"pages":[]}'
    assert one.judged(one.run()) == "failed"
    one = trial()
    one.hostile.status = lambda answer: plain(answer)[:-1] + b',"status":"started"}'
    assert one.judged(one.run()) == "open"


def test_an_answer_for_another_request_is_never_taken_for_this_ones(trial: Callable[[], Trial]) -> None:
    one = trial()
    assert submit_document(one.context, one.document).kind == "open"
    one.hostile.texts.append([f"page {number} of another" for number in range(1, PAGES + 1)])
    another = one.hostile.stands("/requests/request-1")
    one.hostile.status = lambda _: another or b""
    for _ in range(3):
        assert not poll_job(one.context, one.id)
        one.clock.advance(1000)
    assert one.hostile.calls("/storage/") == 0
    one.hostile.status = plain
    assert one.judged(one.run()) == "done"
    assert one.hostile.calls("/v1/document-digitization/async") == 1


def test_one_name_for_two_submissions_publishes_no_page_twice(trial: Callable[[], Trial]) -> None:
    one = trial()
    one.hostile.submitted = lambda _: b'{"request_id":"request-0"}'
    options = {**dict(one.context.options), "limits": {**dict(one.context.options.limits), "pages": 6}}
    one.context.settings = RunSettings.model_validate({**dict(one.context.settings), "options": options})
    # The second part's id is an answer lost, however often it is sent: the run stops before the document is given up.
    assert one.judged(one.run()) == "open"
    assert one.hostile.calls("/v1/document-digitization/async") <= 7


@pytest.mark.parametrize("name", ["..", "../../admin", "a/b?c=d#e", "%2e%2e", "kept 1-10", "\n\x1b[31m", "é" * 900])
def test_no_request_id_leads_the_key_astray(trial: Callable[[], Trial], name: str) -> None:
    one = trial()
    one.hostile.submitted = lambda _: plain({"request_id": name})
    one.judged(one.run())
    assert all(path.startswith("/v1/document-digitization") for _, path, key in one.hostile.seen if key)


def endless(piece: bytes, first: bytes = b"") -> Iterator[bytes]:
    """A body without an end; stops by itself only after more than any client should take."""
    yield first
    for number in count():
        if number * len(piece) > 400 * MB:
            raise AssertionError("the client did not stop")
        yield piece


@pytest.mark.parametrize("zipped", [False, True])
def test_a_status_answer_of_200_mb_is_cut_off(trial: Callable[[], Trial], zipped: bool) -> None:
    one = trial()
    assert submit_document(one.context, one.document).kind == "open"
    body = Body.zipped(b" ", 200) if zipped else Body([])
    tracemalloc.start()
    try:
        for _ in range(2):
            body = body if zipped else Body(endless(b" " * MB, b'{"status":"completed","x":"'))
            one.hostile.override = {STATUS: body}
            one.hostile.sent = 0
            with pytest.raises(TransientFault):
                one.context.client._get(f"{one.hostile.base_url}/document-digitization/requests/request-0")
            assert one.hostile.sent < 16 * MB
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST


def test_a_receipt_without_end_is_a_lost_answer(trial: Callable[[], Trial], tmp_path_factory: Any) -> None:
    one = trial()
    one.hostile.override = {"/v1/document-digitization/async": Body(endless(b" " * MB))}
    file = tmp_path_factory.mktemp("sent") / "a.pdf"
    file.write_bytes(BODY)
    with pytest.raises(AnswerLost):
        one.context.client.submit(Upload(file, "a.pdf", "application/pdf", "ocr", PAGES))
    assert one.hostile.sent < 16 * MB


def test_a_list_of_requests_however_long_does_not_keep_the_run_from_starting(trial: Callable[[], Trial]) -> None:
    one = trial()
    one.hostile.override = {"/v1/document-digitization/requests": Body(endless(b"[" * MB))}
    one.context.client.probe()
    assert one.hostile.sent < 16 * MB


@pytest.mark.parametrize("zipped", [False, True])
def test_a_batch_without_end_fails_the_document_and_fills_neither_disk_nor_memory(
    trial: Callable[[], Trial], zipped: bool
) -> None:
    one = trial()
    assert submit_document(one.context, one.document).kind == "open"
    one.hostile.override = {"/storage/": Body.zipped(b" ", 200) if zipped else Body(endless(b" " * MB))}
    assert poll_job(one.context, one.id)
    slept = len(one.clock.slept)
    tracemalloc.start()
    try:
        outcome = collect_job(one.context, one.id)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert one.judged([outcome]) == "failed"
    assert "exceeds the size limit of a batch" in outcome.message
    assert one.hostile.calls("/storage/") == 1
    assert len(one.clock.slept) == slept
    assert one.hostile.sent < 100 * MB
    assert peak < MOST
    failed = one.context.ledger.failed(one.id)
    assert failed is not None
    assert failed.retry_helps


def test_a_body_that_says_it_is_packed_and_is_not_is_asked_for_again(trial: Callable[[], Trial]) -> None:
    one = trial()
    assert submit_document(one.context, one.document).kind == "open"
    packed = gzip.compress(b"{}" * 1000)
    for body in (b"not packed", packed[:-9], packed[:20] + b"\x00" * 20, b""):
        one.hostile.override = {"/": Body([body], headers=[b"Content-Encoding: gzip"])}
        assert one.judged([collect_job(one.context, one.id)]) == "open"
    one.hostile.override = {}
    one.clock.advance(1000)
    assert one.judged(one.run()) == "done"


@pytest.mark.parametrize(
    "headers",
    [
        [b"Content-Length: -1"],
        [b"Content-Length: 99999999999999999999"],
        [b"Content-Length: nonsense"],
        [b"Transfer-Encoding: chunked"],
        [b"X: " + b"y" * 70_000],
        [b"X: y"] * 200,
        [b"Content-Type: text/html; charset=\xff\xfe"],
        [b"Set-Cookie: a=b; domain=.com"],
        [b"Location: http://127.0.0.1:1/"],
        [b"Content-Encoding: br, zstd, deflate, gzip"],
    ],
)
@pytest.mark.parametrize("status", [200, 100, 204, 304, 1000])
def test_no_header_and_no_status_line_does_harm(trial: Callable[[], Trial], headers: list[bytes], status: int) -> None:
    one = trial()
    assert submit_document(one.context, one.document).kind == "open"
    assert poll_job(one.context, one.id)
    one.hostile.override = {"/storage/": Body([b"{}"], status, headers)}
    assert one.judged([collect_job(one.context, one.id)]) in ("open", "failed")
    one.hostile.override = {STATUS: Body([b"{}"], status, headers)}
    try:
        one.context.client.status("request-0")
    except Fault as fault:
        assert str(fault)  # noqa: PT017


def test_a_refused_address_fails_the_document_with_words_and_can_be_put_back(trial: Callable[[], Trial]) -> None:
    one = trial()
    one.hostile.status = every_page(download_url=f"http://169.254.169.254/latest?X-Signature={SECRET}")
    outcomes = one.run()
    assert one.judged(outcomes) == "failed"
    failed = one.context.ledger.failed(one.id)
    assert failed is not None
    assert (failed.code, failed.retry_helps) == ("refused-address", True)
    assert one.hostile.calls("/storage/") == 0
    assert one.context.ledger.put_back(failed)
    one.hostile.status = plain
    assert one.judged(one.run()) == "done"
    assert len(one.hostile.texts) == 1  # paid for once
