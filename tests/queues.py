"""A real queue on loopback that a bucket's notifications go to, as deployments/aws sets it up."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3

from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY
from flows.listen import _listen
from flows.run.run import Run
from flows.run.steering import Steering
from tasks.context import RunContext
from tasks.report import RunReport
from tasks.steps.inbox import Inbox
from tasks.steps.submit import submit_document
from tasks.tally import KnownJobs, StepResult, Tally
from tests.waiting import until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def sqs_client(url: str) -> Any:  # Any: boto3's types for SQS are a package of their own
    """A plain client."""
    return boto3.client(
        "sqs",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=S3_ACCESS_KEY,
        aws_secret_access_key=S3_SECRET_KEY,
    )


@dataclass
class Notified:
    """A queue, and what is in it."""

    sqs: Any
    url: str

    def send(self, body: str) -> None:
        """Somebody sends a message."""
        self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def tell(self, bucket: str, *keys: str) -> None:
        """A notification in S3's form, as S3 may send it once more."""
        records = [
            {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}
            for key in keys
        ]
        self.send(json.dumps({"Records": records}))

    def waiting(self) -> int:
        """How many messages there are, those that somebody has received and not deleted included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def visible(self) -> int:
        """How many messages can be received."""
        names = ["ApproximateNumberOfMessages"]
        return int(self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"][names[0]])

    def until(self, look: Callable[[], int], number: int) -> None:
        """Wait until there are so many: notifications are delivered in the background, and messages come back."""
        until(lambda: look() == number, f"{number} messages")


def notified(s3: "S3Client", s3_url: str, bucket: str, *, prefix: str = "in/", visibility: int = 30) -> Notified:
    """A queue that the bucket tells of what is put and deleted under a prefix; S3's test message is in it."""
    sqs = sqs_client(s3_url)
    made = sqs.create_queue(
        QueueName=f"documents-{uuid.uuid4().hex[:12]}", Attributes={"VisibilityTimeout": str(visibility)}
    )
    queue = Notified(sqs, made["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{bucket}"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=queue.url, Attributes={"Policy": policy})
    rule: Any = {
        "QueueArn": arn,
        "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}},
    }
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [rule]})
    return queue


class InOneProcess:
    """A run without Prefect: what `listen` asks of it, on a clock that moves with each look at the queue."""

    def __init__(self, context: RunContext, folder: Path) -> None:
        self.context = context
        self.steering = Steering(context)
        settings = context.settings
        report = RunReport(flow="listen", source=settings.source, destination=settings.destination)
        self.tally = Tally(KnownJobs(folder), report, context.clock)
        self.shown: list[str] = []

    def listen(self, inbox: Inbox, seconds: float) -> None:
        """What the flow does once it is prepared."""
        _listen(cast(Run, self), inbox, seconds)

    def show(self, message: str) -> None:
        """The message that whoever watches would see."""
        self.shown.append(message)
        self.context.clock.sleep(0.5)

    def submit(self, new: Any, most: int, on_outcome: Any) -> None:
        """Submit up to `most` documents, one after the other."""
        for _, document in zip(range(most), new, strict=False):
            on_outcome(outcome := submit_document(self.context, document))
            self.tally.add(StepResult([outcome]))
            if not self.tally.sending:
                return
