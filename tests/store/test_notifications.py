"""What messages tell of, in each form that S3's notifications have; whatever else is in a queue is no guess."""

import json
from typing import Any

import pytest

from tasks.store.notifications import NotANotification, announced_documents


def record(key: str, event: str = "ObjectCreated:Put", bucket: str = "scans") -> dict[str, Any]:
    """One of S3's records, with what else is in it."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": event,
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 1, "eTag": "0", "sequencer": "00"}},
    }


def s3(*records: dict[str, Any]) -> str:
    """S3's own form."""
    return json.dumps({"Records": list(records)})


def sns(message: str) -> str:
    """The same through a topic."""
    return json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:x:1:t", "Message": message, "Signature": "x"})


def bridged(key: str, detail: str = "Object Created") -> str:
    """The same through EventBridge."""
    return json.dumps(
        {"source": "aws.s3", "detail-type": detail, "detail": {"bucket": {"name": "scans"}, "object": {"key": key}}}
    )


TEST_EVENT = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "scans"})


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (s3(record("in/a.pdf")), ["in/a.pdf"]),
        (s3(record("in/a.pdf", "ObjectCreated:CompleteMultipartUpload")), ["in/a.pdf"]),
        (s3(record("a", "ObjectCreated:Copy"), record("b", "s3:ObjectCreated:Post")), ["a", "b"]),
        (s3(record("a", "ObjectRestore:Completed")), ["a"]),
        (s3(record("a", "ObjectRestore:Post")), []),
        (s3(record("a", "ObjectRemoved:Delete"), record("b")), ["b"]),
        (s3(record("a", "ObjectTagging:Put")), []),
        (s3(), []),
        (sns(s3(record("a"))), ["a"]),
        (sns(bridged("a+b")), ["a+b"]),
        (sns(TEST_EVENT), []),
        (bridged("a"), ["a"]),
        (bridged("a", "Object Restore Completed"), ["a"]),
        (bridged("a", "Object Deleted"), []),
        (TEST_EVENT, []),
        # Keys as S3 encodes them; EventBridge does not.
        (s3(record("in/a+b%2Bc%252F.pdf")), ["in/a b+c%2F.pdf"]),
        (s3(record("in/%C3%BC%0A%22%3C.pdf")), ['in/ü\n"<.pdf']),
        (s3(record("in/%F0%9F%93%84/..//x")), ["in/📄/..//x"]),
        (bridged("in/a+b%2B c\n.pdf"), ["in/a+b%2B c\n.pdf"]),
    ],
)
def test_documents_are_told_in_each_form(body: str, keys: list[str]) -> None:
    assert announced_documents(body) == tuple(("scans", key) for key in keys)


@pytest.mark.parametrize(
    "body",
    [
        "", "hello", "[]", "null", "{}", '"x"', "[" * 100_000,
        '{"Records": 1}', '{"Records": [1]}', '{"Records": [{"s3": {}}]}',
        s3(record("a"), {"eventName": "ObjectCreated:Put"}),
        s3(record("")), s3(record("a", bucket="")),
        '{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": "b", "object": {"key": "k"}}}]}',
        '{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": 1}}}]}',
        '{"source": "aws.s3", "detail-type": "Object Created", "detail": null}',
        '{"source": "aws.ec2", "detail-type": "Object Created", "detail": {}}',
        '{"Type": "SubscriptionConfirmation", "Message": "confirm"}',
        sns("hello"), sns(sns(s3(record("a")))),
    ],
)  # fmt: skip
def test_anything_else_is_no_guess(body: str) -> None:
    with pytest.raises(NotANotification) as caught:
        announced_documents(body)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()
