"""Parsing of notifications about new documents: from S3 directly, through SNS, or from EventBridge.

Only bucket and key are used. An ETag or size in an event may be out of date, because events arrive late, twice and out
of order: the object is looked up instead.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

_BRINGING = ("ObjectCreated:", "ObjectRestore:Completed")
_BRINGING_DETAILS = ("Object Created", "Object Restore Completed")
_SHOWN = 120


class NotANotification(ValueError):
    """A message that is not an S3 notification. The text says what it is instead."""


def announced_documents(body: str) -> tuple[tuple[str, str], ...]:
    """Return the documents that a message announces, as bucket and key; empty for other kinds of events.

    Raises:
        NotANotification: it has none of the forms of S3 notifications.
    """
    event = _object(body)
    if event.get("Type") == "Notification" and isinstance(event.get("Message"), str):  # SNS, without raw delivery
        event = _object(event["Message"])
    if isinstance(event.get("Records"), list):
        return tuple(address for record in event["Records"] for address in _of_record(record))
    if event.get("source") == "aws.s3" and isinstance(event.get("detail-type"), str):
        if event["detail-type"] not in _BRINGING_DETAILS:
            return ()
        return (_address(event.get("detail"), str),)
    if event.get("Event") == "s3:TestEvent":  # S3 sends one when the notification is set up
        return ()
    raise NotANotification(f"it is not an S3 notification: {_shortened(body)}")


def _of_record(record: Any) -> tuple[tuple[str, str], ...]:
    name = record.get("eventName") if isinstance(record, dict) else None
    if not isinstance(name, str):
        raise NotANotification("one of its records has no eventName")
    if not name.removeprefix("s3:").startswith(_BRINGING):  # other stores write the prefix as well
        return ()
    return (_address(record.get("s3"), unquote_plus),)


def _address(where: Any, decoded: Callable[[str], str]) -> tuple[str, str]:
    try:
        bucket, key = where["bucket"]["name"], where["object"]["key"]
    except (KeyError, TypeError) as error:
        raise NotANotification("one of its events names no bucket and key") from error
    if not (isinstance(bucket, str) and isinstance(key, str) and bucket and key):
        raise NotANotification("one of its events names no bucket and key")
    return bucket, decoded(key)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotANotification(f"it is not JSON: {_shortened(text)}") from error
    if not isinstance(value, dict):
        raise NotANotification(f"it is not a JSON object: {_shortened(text)}")
    return value


def _shortened(text: str) -> str:
    """Return the beginning of a message, escaped: anybody with access to the queue may have written it."""
    return ascii(text[:_SHOWN]) + ("…" if len(text) > _SHOWN else "")
