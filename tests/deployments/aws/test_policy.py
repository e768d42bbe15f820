"""The flow runs' policy is held against the calls that the program makes: each is allowed, and nothing else is."""

import csv
import gzip
import io
import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import flows.cli.check
import tasks.access.open
import tasks.store.sides
from deployments.local.stack import S3_ACCESS_KEY, S3_SECRET_KEY, UPSTAGE_KEY, LocalStack
from flows.cli.check import check_setup
from flows.cli.failures import put_back, read_failures
from flows.cli.plan import make_plan
from flows.cli.status import read_status
from tasks.backfills.record import new_backfill
from tasks.catalogue.catalogue import open_catalogue
from tasks.clock import Clock
from tasks.context import RunContext
from tasks.job.record import Document
from tasks.options import DEFAULTS, RunSettings
from tasks.selection import Selection
from tasks.steps.discover import Missing, discover
from tasks.steps.inbox import Inbox
from tasks.steps.poll import OpenJobs
from tasks.steps.submit import submit_document
from tasks.store.location import Location
from tasks.store.objects import Objects
from tasks.store.queue import Queue
from tasks.tally import KnownJobs
from tests.deployments.aws.iam import (
    Call,
    Need,
    Policy,
    allowed,
    as_list,
    changed,
    needs,
    queue_arn,
    recorded,
    recorded_of_queue,
    refused,
    superfluous,
)
from tests.deployments.aws.rendering import by_terraform, policies, rendered
from tests.fakes import FakeClock
from tests.queues import InOneProcess, notified, sqs_client
from tests.sample_documents import encrypted_pdf
from tests.stand_in import StandInControl
from tests.steps.conftest import World, pdf, sha

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

SOURCE_KEY = "arn:aws:kms:eu-central-1:111122223333:key/source"
DESTINATION_KEY = "arn:aws:kms:eu-central-1:111122223333:key/destination"


@dataclass
class Account:
    """Source, destination and lists in buckets of their own, and a worker that is watched."""

    world: World
    client: "S3Client"
    destination: str
    lists: str
    folder: Path
    queue: Queue
    sqs: Any  # its client; boto3's types for SQS are a package of their own

    def context(self, source: str = "in", **options: Any) -> RunContext:
        """A worker."""
        begun = self.world.context(
            source=source, objects=Objects(self.client), **{"requests_per_second": 10_000, **options}
        )
        settings = begun.settings.model_copy(update={"destination": f"s3://{self.destination}/out"})
        return RunContext(
            settings,
            begun.objects,
            clock=begun.clock,
            base_url=begun.base_url,
            key=begun.key,
            owner=begun.owner,
        )

    def settings(self) -> RunSettings:
        """A run over all of it."""
        return RunSettings(source=f"s3://{self.world.bucket}/in", destination=f"s3://{self.destination}/out")

    def discovered(self, context: RunContext, **selection: Any) -> list[Document]:
        """What a run finds to be new."""
        context.settings = context.settings.model_copy(update={"selection": Selection.model_validate(selection)})
        with KnownJobs(self.folder) as known:
            known.load(context.ledger)
            found = discover(context, known, Missing())
            return [candidate.document for candidate in found if candidate.state is None]

    def run(self, context: RunContext, **selection: Any) -> list[str]:
        """Submit what is new and work until it is done or failed. Gives how each ended."""
        ends: list[str] = []
        for document in self.discovered(context, **selection):
            outcome = submit_document(context, document)
            outcomes = self.world.finish(context, document)
            ends.append((outcomes or [outcome])[-1].kind)
        return ends


def work(account: Account) -> None:
    """Everything that runs do: all that this leaves out may be missing from the policy unseen."""
    world, put = account.world, account.world.put
    context = account.context()
    context.prepare()
    assert account.discovered(context) == [], "an empty source is looked at as if it were one document"

    # Submitted, polled, collected; failed; replaced by a newer version; with text beside it; at once; copied.
    put(pdf(2), "in/a.pdf")
    put(encrypted_pdf(), "in/locked.pdf")
    # Where a source is empty, it looks around in the bucket for what was meant, and is content if that is not allowed.
    check(account)
    assert sorted(account.run(context)) == ["done", "failed"]
    put(pdf(3), "in/a.pdf")
    put(pdf(1, "with text"), "in/b.pdf")
    assert account.run(account.context(text=True)) == ["done", "done"]
    put(pdf(1, "at once"), "in/c.pdf")
    assert account.run(account.context(mode="sync")) == ["done"]
    put(pdf(1, "twice"), "in/d.pdf")
    put(pdf(1, "twice"), "in/e.pdf")
    assert account.run(account.context(reuse_identical=True)) == ["done", "done"]

    # Pages that came of a job that failed are kept, and go into the result when it was put back.
    hole = pdf(25, "hole")
    world.api.set(fail_batches=[{"sha256": sha(hole), "batch": 1, "times": 1}])
    document = put(hole, "in/hole.pdf")
    assert account.run(account.context(rounds=1)) == ["failed"]
    assert read_failures(f"s3://{account.destination}/out").failed == 2
    assert put_back(f"s3://{account.destination}/out", ["missing-pages"], []).put_back == 1
    assert world.finish(account.context(), document)[-1].kind == "done"

    check(account)

    # A job left open: surveyed, counted, planned around.
    left = account.context()
    submit_document(left, put(pdf(1, "left open"), "in/open.pdf"))
    assert len(OpenJobs(account.context()).survey().open) == 1
    put(pdf(4, "planned"), "in/planned.pdf")
    status = read_status(f"s3://{account.destination}/out")
    assert (status.done, status.failed, status.open) == (7, 1, 1)
    plan = make_plan(account.settings(), 0.01)
    assert (plan.new, plan.pages, plan.open, plan.failed_before) == (1, 4, 1, 1)

    # Chosen by name, by a manifest and by an inventory.
    assert len(account.discovered(account.context(), key=["in/planned.pdf", "in/gone.pdf"])) == 1
    lists = f"s3://{account.lists}/lists"
    world.s3.put_object(Bucket=account.lists, Key="lists/keys.csv", Body=b"key\nin/planned.pdf\n")
    assert len(account.discovered(account.context(), manifest=f"{lists}/keys.csv")) == 1
    inventory(account)
    assert len(account.discovered(account.context(), inventory=f"{lists}/manifest.json")) == 1

    operated(account)

    # Told by a queue: what is new, what is done, what is open, and what is gone.
    world.put(pdf(1, "told"), "in/told.pdf")
    world.put(pdf(1, "gone"), "in/gone.pdf")
    world.s3.delete_object(Bucket=world.bucket, Key="in/gone.pdf")
    run = InOneProcess(account.context(), account.folder)
    inbox = Inbox(run.context, account.queue)
    run.listen(inbox, 0)
    assert inbox.settled > 3


def operated(account: Account) -> None:
    """A named backfill, PDFs beside results, a document done again, and the catalogue that knows of all."""
    world, place = account.world, Location(account.destination, "out/")
    context = account.context()
    backfills, at = context.backfills, context.clock.now()
    backfills.make(new_backfill(context.settings, "all", at))
    backfills.change("all", lambda backfill: backfill.model_copy(update={"state": "running", "changed_at": at}))
    assert backfills.names() == ["all"]
    world.put(pdf(1, "with a PDF beside it"), "in/layered.pdf")
    assert account.run(account.context(pdf=True), include=["layered.pdf"]) == ["done"]
    for _ in range(2):  # what the first one saves in small files the second puts together
        with open_catalogue(Objects(account.client), place) as catalogue:
            assert catalogue.unsaved == ""
    entry = next(context.ledger.entries("done"))
    done = context.ledger.done(entry.id)
    assert done is not None
    assert context.ledger.open_again(done, entry)
    with open_catalogue(Objects(account.client), place) as catalogue:
        assert catalogue.unsaved == ""


def check(account: Account) -> None:
    """The command `check`, as far as it is about S3 and SQS."""
    settings = account.settings()
    report = check_setup(str(settings.source), settings.destination, DEFAULTS, account.queue.url)
    assert {check.part for check in report.checks if check.ok} >= {"source", "destination", "clock", "queue"}, report


def inventory(account: Account) -> None:
    """An S3 Inventory of one document."""
    world, out = account.world, io.StringIO()
    head = world.s3.head_object(Bucket=world.bucket, Key="in/planned.pdf")
    etag, modified = head["ETag"].strip('"'), f"{head['LastModified']:%Y-%m-%dT%H:%M:%S.000Z}"
    csv.writer(out).writerow([world.bucket, "in/planned.pdf", head["ContentLength"], modified, etag])
    world.s3.put_object(Bucket=account.lists, Key="lists/0.csv.gz", Body=gzip.compress(out.getvalue().encode()))
    manifest = {
        "sourceBucket": world.bucket,
        "destinationBucket": f"arn:aws:s3:::{account.lists}",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, LastModifiedDate, ETag",
        "files": [{"key": "lists/0.csv.gz"}],
    }
    world.s3.put_object(Bucket=account.lists, Key="lists/manifest.json", Body=json.dumps(manifest).encode())


@pytest.fixture(scope="module")
def account(
    stack: LocalStack, s3_url: str, s3: "S3Client", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Account]:
    """Three buckets, and nothing done yet."""
    names = [f"{role}-{uuid.uuid4().hex[:12]}" for role in ("source", "destination", "lists")]
    for name in names:
        s3.create_bucket(Bucket=name)
    control = StandInControl(stack.upstage_url, UPSTAGE_KEY)
    control.reset()
    world = World(s3, names[0], control, FakeClock(Clock().now()))
    client = World.client(s3_url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPSTAGE_BASE_URL", control.base_url)
        patch.setenv("UPSTAGE_API_KEY", control.key)
        patch.setenv("AWS_ACCESS_KEY_ID", S3_ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET_KEY)
        for module in (tasks.access.open, tasks.store.sides):
            patch.setattr(module, "connect", lambda **_: client)
        sqs = sqs_client(s3_url)
        queue = Queue(sqs, notified(s3, s3_url, names[0]).url)
        patch.setattr(flows.cli.check, "open_queue", lambda *_: queue)
        yield Account(world, client, names[1], names[2], tmp_path_factory.mktemp("known"), queue, sqs)
    control.reset()


@pytest.fixture(scope="module")
def calls(account: Account) -> list[Call]:
    """All calls to S3 and SQS of the whole work, done once."""
    made, asked = recorded(account.client), recorded_of_queue(account.sqs)
    work(account)
    return [*made, *asked]


@pytest.fixture
def written(account: Account) -> list[Policy]:
    """The policies for that account, with everything that can be chosen."""
    found = policies(
        f"s3://{account.world.bucket}/in",
        f"s3://{account.destination}/out",
        lists=f"s3://{account.lists}/lists",
        source_key=SOURCE_KEY,
        destination_key=DESTINATION_KEY,
    )
    return [*found.values(), rendered("events", queue=queue_arn(account.queue.url.rpartition("/")[2]))]


@pytest.fixture
def wanted(account: Account, calls: list[Call]) -> set[Need]:
    """What those calls need."""
    keys = {account.world.bucket: SOURCE_KEY, account.destination: DESTINATION_KEY}
    return {need for call in calls for need in needs(call, keys)}


def test_every_call_is_allowed(written: list[Policy], wanted: set[Need]) -> None:
    assert not refused(written, wanted)


def test_nothing_in_the_policy_can_be_taken_out(written: list[Policy], wanted: set[Need]) -> None:
    assert superfluous(written, wanted) == []


def test_the_work_is_all_there(account: Account, calls: list[Call]) -> None:
    made = {(call.operation, call.bucket.partition("-")[0]) for call in calls}
    assert made == {
        ("ListObjectsV2", "source"), ("HeadObject", "source"), ("GetObject", "source"),
        ("ListObjectsV2", "destination"), ("HeadObject", "destination"), ("GetObject", "destination"),
        ("PutObject", "destination"), ("DeleteObject", "destination"),
        ("HeadObject", "lists"), ("GetObject", "lists"),
        ("ReceiveMessage", "documents"), ("DeleteMessageBatch", "documents"), ("GetQueueAttributes", "documents"),
    }  # fmt: skip
    # The two that are easily forgotten: a key that is not there, and a write over a version.
    assert {call.operation for call in calls if call.status == 404} == {"HeadObject", "GetObject"}
    assert any(call.operation == "PutObject" and call.conditional for call in calls)
    assert any(call.key == "in" and call.operation == "HeadObject" for call in calls)
    records = [
        call.key.split("/") for call in calls if call.key.startswith("out/_jobs/") and not call.key.endswith("/")
    ]
    assert {"open", "done", "failed", "pages", "content", "backfills", "catalogue", "earlier"} <= {
        parts[2] for parts in records
    }
    assert any(call.key == "out/layered.pdf.ocr.pdf" and call.operation == "PutObject" for call in calls)
    assert account.world.api.billed()


TAKEN = [
    ("ListSource", "s3:ListBucket"),
    ("ReadSource", "s3:GetObject"),
    ("ListDestination", "s3:ListBucket"),
    ("WriteDestination", "s3:GetObject"),
    ("WriteDestination", "s3:PutObject"),
    ("DeleteLedgerRecords", "s3:DeleteObject"),
    ("ReadLists", "s3:GetObject"),
    ("DecryptSource", "kms:Decrypt"),
    ("EncryptDestination", "kms:Decrypt"),
    ("EncryptDestination", "kms:GenerateDataKey"),
    ("TakeDocumentsFromQueue", "sqs:ReceiveMessage"),
    ("TakeDocumentsFromQueue", "sqs:DeleteMessage"),
    ("TakeDocumentsFromQueue", "sqs:GetQueueAttributes"),
]


@pytest.mark.parametrize(("sid", "action"), TAKEN)
def test_a_policy_without_one_of_its_actions_is_found_out(
    written: list[Policy], wanted: set[Need], sid: str, action: str
) -> None:
    less = changed(written, sid, lambda statement: statement["Action"].remove(action))
    assert refused(less, wanted)


def test_those_are_all_actions_that_there_are(written: list[Policy]) -> None:
    statements = [statement for policy in written for statement in policy["Statement"]]
    assert [(statement["Sid"], action) for statement in statements for action in as_list(statement["Action"])] == TAKEN


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda statement: statement["Action"].append("s3:DeleteObject"), "Action s3:DeleteObject"),
        (lambda statement: statement["Action"].append("s3:*"), "Action"),
        (lambda statement: statement.update(Resource=["*", *as_list(statement["Resource"])]), "Resource"),
        (lambda statement: statement["Action"].append("s3:PutObjectAcl"), "Action s3:PutObjectAcl"),
    ],
    ids=["another action", "all actions", "all resources", "an unknown action"],
)
def test_a_policy_that_gives_more_is_found_out(
    written: list[Policy], wanted: set[Need], change: Callable[[dict[str, Any]], object], found: str
) -> None:
    more = changed(written, "WriteDestination", change)
    assert any(found in part for part in superfluous(more, wanted))


def test_a_call_that_nobody_translated_is_no_call_without_needs() -> None:
    with pytest.raises(KeyError, match="CopyObject"):
        list(needs(Call("CopyObject", "destination", "out/a", 200)))


def test_without_the_permission_to_list_a_missing_key_would_be_a_refusal(
    written: list[Policy], calls: list[Call]
) -> None:
    missing = next(call for call in calls if call.status == 404 and call.key.startswith("out/_jobs/done/"))
    less = changed(written, "ListDestination", lambda statement: statement.update(Resource="arn:aws:s3:::another"))
    assert not refused(written, needs(missing))
    assert {need.action for need in refused(less, needs(missing))} == {"s3:ListBucket"}


@pytest.mark.parametrize(
    ("operation", "bucket", "key", "expected"),
    [
        ("GetObject", "scans", "in/a.pdf", True),
        ("GetObject", "scans", "in/../b.pdf", True),  # a key is no path: it does begin with in/
        ("GetObject", "scans", "inner/a.pdf", False),
        ("GetObject", "scans", "a.pdf", False),
        ("GetObject", "other", "in/a.pdf", False),
        ("PutObject", "scans", "in/a.pdf", False),
        ("DeleteObject", "scans", "in/a.pdf", False),
        ("ListObjectsV2", "scans", "in/", True),
        ("ListObjectsV2", "scans", "", False),
        ("ListObjectsV2", "scans", "i", False),
        ("PutObject", "ocr", "out/a.pdf.ocr.json", True),
        ("DeleteObject", "ocr", "out/a.pdf.ocr.json", False),
        ("DeleteObject", "ocr", "out/_jobs/open/1.json", True),
        ("DeleteObject", "ocr", "out/x/_jobs/open/1.json", False),
        ("PutObject", "ocr", "outer/a.json", False),
        ("ListObjectsV2", "ocr", "out/_jobs/open/", True),
        ("ListObjectsV2", "ocr", "", False),
    ],
)
def test_what_the_policy_gives_ends_at_the_two_prefixes(operation: str, bucket: str, key: str, expected: bool) -> None:
    given = list(policies("s3://scans/in", "s3://ocr/out").values())
    assert all(allowed(given, need) for need in needs(Call(operation, bucket, key, 200))) is expected


def test_a_whole_bucket_is_a_bucket_and_no_other() -> None:
    given = list(policies("s3://scans", "s3://ocr/").values())
    assert not refused(given, needs(Call("HeadObject", "scans", "a.pdf", 404)))
    assert not refused(given, needs(Call("DeleteObject", "ocr", "_jobs/open/1.json", 204)))
    assert refused(given, needs(Call("DeleteObject", "ocr", "a.pdf.ocr.json", 204)))
    assert refused(given, needs(Call("HeadObject", "scans2", "a.pdf", 200)))


def test_what_the_policy_gives_ends_at_the_queue() -> None:
    given = [rendered("events", queue=queue_arn("documents"))]
    assert not refused(given, needs(Call("ReceiveMessage", "documents", "", 200)))
    assert refused(given, needs(Call("ReceiveMessage", "documents-dead", "", 200)))


@pytest.mark.skipif(shutil.which("terraform") is None, reason="Terraform is not installed")
@pytest.mark.parametrize(
    ("source", "destination", "more"),
    [
        ("s3://scans/in", "s3://ocr/out/", {}),
        ("s3://scans//a b/é'(c)/", "s3://scans", {"lists": "s3://lists/x/y"}),
        ("s3://scans/", "s3://ocr/a", {"lists": "s3://lists", "source_key": "k1", "destination_key": "k2"}),
    ],
)
def test_terraform_renders_the_same_policies(
    tmp_path: Path, source: str, destination: str, more: dict[str, str]
) -> None:
    program = shutil.which("terraform")
    assert program is not None
    names = {"lists": "lists_address", "source_key": "source_kms_key_arn", "destination_key": "destination_kms_key_arn"}
    variables = {names[name]: value for name, value in more.items()}
    by_hand = policies(source, destination, **more)
    by_it = by_terraform(program, tmp_path, source_address=source, destination_address=destination, **variables)
    assert by_it == by_hand
