"""`bulk-ocr check` tests each part of a set-up separately, and explains how to fix it."""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments.local.stack import LocalStack
from flows.cli import check as product
from tasks.clock import Clock
from tasks.context import RunContext
from tasks.faults import SetupFault
from tasks.options import RunSettings
from tasks.store.local_folder import FolderObjects
from tasks.store.objects import Objects
from tests import sample_documents as documents
from tests.fakes import FakeClock
from tests.flows.conftest import Command, Place, report_of
from tests.prefect_server import prefect_home
from tests.queues import sqs_client
from tests.stand_in import StandInControl


def checks(process: Any) -> dict[str, tuple[bool, str]]:
    return {check["part"]: (check["ok"], check["words"]) for check in report_of(process)["checks"]}


def test_a_good_setup_is_proved_part_by_part_and_left_as_it_was(
    command: Command, place: Place, api: StandInControl
) -> None:
    place.put({"a.pdf": documents.text_pdf(["check"])})
    billed = api.billed()
    process = command("check", place.source, place.destination, "--json")
    results = checks(process)
    assert process.returncode == 0, process.stderr
    assert list(results) == ["credentials", "source", "destination", "clock", "API", "Prefect"]
    assert all(ok for ok, _ in results.values())
    assert results["credentials"][1] == "for S3 from the environment (AWS_ACCESS_KEY_ID)"
    assert results["API"][1].endswith("answers and accepts the key from the environment")
    assert "honours conditional writes" in results["destination"][1]
    assert "answers, version 3." in results["Prefect"][1]
    assert place.keys() == set()
    assert api.billed() == billed


@pytest.mark.usefixtures("api")
def test_each_part_that_is_wrong_says_so_and_the_others_are_still_looked_at(
    command: Command, place: Place, tmp_path: Path, prefect_database: Path
) -> None:
    process = command(
        "check", "s3://no-such-bucket-9/in", place.destination, "--json",
        UPSTAGE_API_KEY="up_wrong", PREFECT_API_URL="http://127.0.0.1:9/api",
    )  # fmt: skip
    results = checks(process)
    assert process.returncode == 3, process.stderr
    assert {part: ok for part, (ok, _) in results.items()} == {
        "credentials": True, "source": False, "destination": True, "clock": True, "API": False, "Prefect": False,
    }  # fmt: skip
    assert "there is no bucket 'no-such-bucket-9'" in results["source"][1]
    assert "the API key was rejected; check UPSTAGE_API_KEY" in results["API"][1]
    assert "no Prefect server answers at http://127.0.0.1:9/api" in results["Prefect"][1]

    alone = {"PREFECT_API_URL": None, "PREFECT_HOME": str(prefect_home(tmp_path / "prefect", prefect_database))}
    nobody = {"AWS_PROFILE": "not-there", "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    shown = command("check", place.source, place.destination, UPSTAGE_API_KEY=None, **alone, **nobody)
    assert shown.returncode == 2
    assert "no API key: set UPSTAGE_API_KEY" in shown.stdout
    assert "(not-there) could not be found. Check the AWS_* variables and your profile" in shown.stdout
    assert shown.stdout.count("not checked: there are no credentials for it") == 3
    assert "each run starts a temporary one" in shown.stdout


class ConfinedObjects(FolderObjects):
    """A bucket of which only one folder may be listed."""

    def names(self, bucket: str, folder: str) -> Sequence[str]:
        if not folder.startswith("mine/"):
            raise SetupFault(f"no permission to list s3://{bucket}/{folder}")
        return super().names(bucket, folder)


@pytest.mark.parametrize(
    ("store", "source", "instead"),
    [
        (FolderObjects, "mine/scnas", ". Did you mean s3://bucket/mine/scans?"),
        (FolderObjects, "zzz", "; in s3://bucket there are mine/"),
        (ConfinedObjects, "mine", ""),
        (ConfinedObjects, "mine/zzz", "; in s3://bucket/mine there are scans/"),
        (ConfinedObjects, "mine/scans/zzz", "; in s3://bucket/mine/scans there are a.pdf"),
        (ConfinedObjects, "zzz", ""),
    ],
)
def test_an_empty_source_is_answered_with_what_the_bucket_has(
    store: type[FolderObjects], source: str, instead: str, tmp_path: Path
) -> None:
    objects = store(tmp_path)
    if source != "mine":
        objects.put("bucket", "mine/scans/a.pdf", b"body", {}, "application/pdf")
    settings = RunSettings(source=f"s3://bucket/{source}", destination="s3://bucket/out")
    found = product._source(RunContext(settings, objects))
    assert found == f"s3://bucket/{source} can be listed, and is empty{instead}"


@pytest.mark.parametrize(("seconds", "words"), [(45, r"4\d s ahead of"), (-90.5, r"9\d s behind")])
def test_a_clock_that_is_wrong_is_found_out(place: Place, seconds: float, words: str) -> None:
    clock = FakeClock(Clock().now() + timedelta(seconds=seconds))
    context = RunContext(
        RunSettings(source=place.source, destination=place.destination), Objects(place.s3), clock=clock, key="k"
    )
    with pytest.raises(SetupFault, match=words):
        product._clock(context)
    with pytest.raises(SetupFault, match=words):  # nor does any run work by it
        context.prepare()
    assert place.keys() == set()


def test_a_queue_is_looked_at_and_what_would_be_better_is_said(
    place: Place, stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    sqs = sqs_client(stack.s3_url)
    context = RunContext(RunSettings(source=place.source, destination=place.destination), Objects(place.s3))
    dead = sqs.create_queue(QueueName="checked-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "5"})
    attributes = {"VisibilityTimeout": "900", "RedrivePolicy": redrive}
    url = sqs.create_queue(QueueName="checked", Attributes=attributes)["QueueUrl"]
    assert product._queue(context, url) == f"{url} exists"
    words = product._queue(context, dead)
    assert "its messages are received again after 30 s" in words
    assert "a visibility timeout of more than the lease (60 s)" in words
    assert "no dead letter queue" in words
    with pytest.raises(SetupFault, match=r"there is no queue .*checked-not"):
        product._queue(context, f"{url}-not")


@pytest.mark.usefixtures("api")
def test_a_queue_that_is_not_there_is_to_be_mended(command: Command, place: Place) -> None:
    process = command("check", place.source, place.destination, "--queue", "https://x", "--json")
    assert process.returncode == 2
    assert checks(process)["queue"] == (
        False,
        "'https://x' is not a queue URL; write it as SQS shows it: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
    )
