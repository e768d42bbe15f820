"""An SQS queue. Messages are deleted once they are processed; those not deleted are delivered again."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ProfileNotFound
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from urllib3.exceptions import HTTPError

from tasks.clock import Clock
from tasks.faults import Fault, SetupFault, TransientFault
from tasks.store.attempts import ATTEMPTS, Attempts
from tasks.store.aws import ERRORS, credentials_fault, error_code, own_words
from tasks.store.pace import Pace, cancelled_by, keep_pace

AT_ONCE = 10
"""The maximum number of messages that SQS delivers or deletes in one call."""
LONGEST_WAIT = 20
"""The maximum number of seconds that SQS waits for a message."""

_REGION = re.compile(r"(?:^|\.)sqs(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.amazonaws|amazonaws|api\.aws)")
_REGION_BEFORE = re.compile(r"^([a-z0-9-]+)\.queue\.amazonaws\.com")
_NO_QUEUE = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "InvalidAddress"}
_DENIED = {"AccessDenied", "AccessDeniedException", "403", "KmsAccessDenied", "KMS.AccessDeniedException"}
_PASSING = {"RequestThrottled", "Throttling", "ThrottlingException", "ThrottledException", "OverLimit", "KmsThrottled"}


@dataclass(frozen=True)
class Message:
    """A received message. Its receipt is needed to delete it."""

    id: str
    body: str
    receipt: str


class Queue:
    """Receives and deletes messages; every failure becomes one of this project's faults.

    Args:
        client: boto3's client for SQS.
        url: the queue's URL.
        clock: the clock to wait by between retries; interrupts waiting for messages when the run is ended.
    """

    def __init__(self, client: Any, url: str, clock: Clock | None = None) -> None:  # Any: no types are installed
        self._client = client
        self._attempts = Attempts(clock or Clock(), ATTEMPTS, _passing)
        self.url = url

    def receive(self, most: int, seconds: float) -> list[Message]:
        """Receive up to ten messages.

        Without a wait, SQS queries only some of its servers: an empty answer does not mean that the queue is empty.

        Args:
            most: the maximum number of messages; ten are the limit.
            seconds: how long to wait for the first message; twenty seconds are the limit.

        Raises:
            Cancelled: the run is being ended; a message in transit is delivered again.
        """
        wait = min(LONGEST_WAIT, int(max(0.0, seconds)))
        receive = partial(
            self._client.receive_message,
            QueueUrl=self.url,
            MaxNumberOfMessages=max(1, min(AT_ONCE, most)),
            WaitTimeSeconds=wait,
        )
        try:
            answer = self._attempts.until_the_end(receive)
        except ERRORS as error:
            if (cancelled := cancelled_by(error)) is not None:
                raise cancelled from error
            raise _explained(error, "receive messages of", self.url, "sqs:ReceiveMessage") from error
        return [Message(item["MessageId"], item["Body"], item["ReceiptHandle"]) for item in answer.get("Messages", [])]

    def delete(self, messages: Sequence[Message]) -> int:
        """Delete messages. Returns how many could not be deleted: they are delivered again."""
        left = 0
        for start in range(0, len(messages), AT_ONCE):
            entries = [
                {"Id": str(number), "ReceiptHandle": message.receipt}
                for number, message in enumerate(messages[start : start + AT_ONCE])
            ]
            try:
                delete = partial(self._client.delete_message_batch, QueueUrl=self.url, Entries=entries)
                answer = self._attempts.on_record(delete)
            except ERRORS as error:
                raise _explained(error, "delete messages of", self.url, "sqs:DeleteMessage") from error
            left += len(answer.get("Failed", []))
        return left

    def attributes(self) -> Mapping[str, str]:
        """Return the queue's settings, by SQS's names."""
        wanted = ["VisibilityTimeout", "RedrivePolicy"]
        try:
            ask = partial(self._client.get_queue_attributes, QueueUrl=self.url, AttributeNames=wanted)
            answer = self._attempts.on_record(ask)
        except ERRORS as error:
            raise _explained(error, "look at", self.url, "sqs:GetQueueAttributes") from error
        return dict(answer.get("Attributes", {}))


def open_queue(url: str, session: boto3.Session | None = None, clock: Clock | None = None) -> Queue:
    """Open a queue by its URL, without any call.

    Args:
        url: the queue's URL as shown by SQS: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME. Its region is used.
        session: credentials and region; boto3's own chain by default.
        clock: interrupts waiting for messages when the run is ended.

    Raises:
        SetupFault: it is not a queue URL, or boto3 cannot be set up as configured.
    """
    check_url(url)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=10,
        read_timeout=60,  # longer than the longest wait for a message
    )
    try:
        session = session or boto3.Session()
        region = region_of(url) or session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
        client = session.client("sqs", config=config, region_name=region)
        keep_pace(client, Pace())
        return Queue(client, url, clock)
    except (ProfileNotFound, BotoCoreError, ValueError) as error:
        raise SetupFault(f"SQS cannot be set up: {error}. Check the AWS_* variables and your profile") from error


def check_url(url: str) -> None:
    """Check the form of a queue's URL.

    Raises:
        SetupFault: it is not a queue URL.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and bool(parts.path.strip("/"))
    except ValueError:
        good = False
    if not good:
        raise SetupFault(
            f"'{url}' is not a queue URL; write it as SQS shows it: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
        )


def region_of(url: str) -> str | None:
    """Return the region in a queue's URL; None if the host is not one of AWS."""
    host = urlsplit(url).hostname or ""
    match = _REGION.search(host) or _REGION_BEFORE.match(host)
    return match[1] if match else None


def _explained(error: Exception, attempt: str, url: str, permission: str) -> Fault:
    """Return the fault for an SQS error, with an actionable message."""
    code, words = error_code(error), own_words(error)
    if (refused := credentials_fault(error, "SQS")) is not None:
        return refused
    if code in _NO_QUEUE:
        return SetupFault(
            f"there is no queue {url}: create it, or correct the URL; for a queue outside AWS, set AWS_ENDPOINT_URL_SQS"
        )
    if code in _DENIED:
        return SetupFault(
            f"no permission to {attempt} {url} ({words}): allow {permission} for these credentials, or use others"
        )
    what = f"could not {attempt} {url}: {f'{words} ({code})' if code else words}"
    return TransientFault(what) if _passing(error) else SetupFault(what)


def _passing(error: BaseException) -> bool:
    """Whether an error is transient."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error_code(error) in _PASSING or status >= 500 or status == 429
    return isinstance(error, BotoConnectionError | HTTPClientError | HTTPError) and cancelled_by(error) is None
