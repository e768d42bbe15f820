"""The queue: messages come again until they are deleted, and what is wrong is said in words to act on."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError, ReadTimeoutError

from deployments.local.stack import S3_ACCESS_KEY, S3_SECRET_KEY, LocalStack
from tasks.clock import Clock
from tasks.faults import Cancelled, Fault, SetupFault, TransientFault
from tasks.store.queue import LONGEST_WAIT, Message, Queue, open_queue, region_of
from tests.fakes import FakeClock
from tests.queues import sqs_client
from tests.waiting import PATIENCE, until


@pytest.fixture
def configured(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> LocalStack:
    """The environment of a process that uses the local stack."""
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    return stack


@pytest.fixture
def url(stack: LocalStack) -> str:
    made = sqs_client(stack.s3_url).create_queue(QueueName="plain", Attributes={"VisibilityTimeout": "1"})
    return str(made["QueueUrl"])


def test_messages_come_again_until_they_are_deleted(configured: LocalStack, url: str) -> None:
    queue = open_queue(url)
    sqs = sqs_client(configured.s3_url)
    for number in range(12):
        sqs.send_message(QueueUrl=url, MessageBody=f"{number}")
    received = [message for _ in range(2) for message in queue.receive(10, 1)]
    assert len({message.id for message in received}) == len(received) == 12
    assert queue.delete(received[:11]) == 0
    [left] = queue.receive(10, 20)
    assert left.id == received[11].id
    assert queue.delete([left]) == 0
    assert queue.receive(10, 0) == []
    assert queue.attributes() == {"VisibilityTimeout": "1"}


def test_a_queue_that_is_not_there_and_credentials_that_are_refused_are_told(
    configured: LocalStack, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del configured
    calls: list[Callable[[Queue], object]] = [lambda queue: queue.receive(1, 0), lambda queue: queue.attributes()]
    for call in calls:
        with pytest.raises(SetupFault, match=r"there is no queue http.*-gone: create it, or correct the URL"):
            call(open_queue(f"{url}-gone"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    with pytest.raises(SetupFault, match=r"refuses the credentials \(InvalidClientTokenId: The .*\): check the AWS_"):
        open_queue(url).receive(1, 0)


def test_the_end_of_the_run_ends_the_waiting_for_messages(configured: LocalStack, url: str) -> None:
    del configured
    clock = Clock()
    queue = open_queue(url, clock=clock)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queue.receive, 10, LONGEST_WAIT)
        until(waiting.running, "the call")
        clock.end()
        with pytest.raises(Cancelled):
            waiting.result(PATIENCE)
    with pytest.raises(Cancelled):
        queue.receive(10, 0)


class Refusing:
    """A client whose every call ends with an error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _name: str) -> Callable[..., Any]:
        def call(**_: object) -> Any:
            raise self._error

        return call


def answer(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item] # the rest of an answer does not matter
        "ReceiveMessage",
    )


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (answer("AccessDenied", 403), SetupFault, "allow sqs:ReceiveMessage"),
        (answer("AccessDeniedException"), SetupFault, "allow sqs:ReceiveMessage"),
        (answer("QueueDoesNotExist"), SetupFault, "there is no queue"),
        (answer("ExpiredToken", 403), SetupFault, "refuses the credentials"),
        (answer("RequestThrottled", 403), TransientFault, "could not receive"),
        (answer("OverLimit", 403), TransientFault, "could not receive"),
        (answer("InternalFailure", 500), TransientFault, "could not receive"),
        (answer("SomethingNew"), SetupFault, "could not receive"),
        (ReadTimeoutError(endpoint_url="http://x"), TransientFault, "could not receive"),
        (NoCredentialsError(), SetupFault, "no credentials for SQS"),
    ],
)
def test_each_error_is_the_fault_that_it_means(error: Exception, kind: type[Fault], words: str) -> None:
    clock = FakeClock()
    with pytest.raises(kind, match=words):
        Queue(Refusing(error), "https://sqs.eu-central-1.amazonaws.com/1/documents", clock).receive(1, 0)
    assert len(clock.slept) == (5 if kind is TransientFault else 0)


def test_a_delete_that_is_refused_names_its_own_permission() -> None:
    queue = Queue(Refusing(answer("AccessDenied", 403)), "https://sqs.eu-central-1.amazonaws.com/1/documents")
    with pytest.raises(SetupFault, match="allow sqs:DeleteMessage"):
        queue.delete([Message("id", "body", "receipt")])


@pytest.mark.parametrize(
    "url", ["documents", "arn:aws:sqs:eu-central-1:1:documents", "s3://bucket/x", "https://sqs/", "http://[x/y"]
)
def test_what_is_no_url_of_a_queue_is_told(url: str) -> None:
    with pytest.raises(SetupFault, match="is not a queue URL; write it as"):
        open_queue(url)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-central-1.amazonaws.com/1/documents", "eu-central-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/documents", "cn-north-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/documents", "us-gov-west-1"),
        ("https://vpce-0a-1b.sqs.eu-west-1.vpce.amazonaws.com/1/documents", "eu-west-1"),
        ("https://sqs.eu-west-1.api.aws/1/documents", "eu-west-1"),
        ("https://eu-west-2.queue.amazonaws.com/1/documents", "eu-west-2"),
        ("http://127.0.0.1:4566/000000000000/documents", None),
        ("http://sqs.eu-central-1.example.com/1/documents", None),
    ],
)
def test_the_region_is_the_one_of_the_url(url: str, region: str | None) -> None:
    assert region_of(url) == region


def test_the_region_of_the_url_wins_over_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3_ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET_KEY)
    queue = open_queue("https://sqs.eu-central-1.amazonaws.com/1/documents")
    assert queue._client.meta.region_name == "eu-central-1"
