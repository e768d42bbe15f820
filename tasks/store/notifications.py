"""What a message in a queue tells of: the documents that have come. S3's own form, SNS's envelope, EventBridge's form.

Only the bucket and the key are taken. An ETag or a size in an event is history: events come late, twice and out of
order, so what is there now is looked at instead.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

_BRINGING = ("ObjectCreated:", "ObjectRestore:Completed")
_BRINGING_DETAILS = ("Object Created", "Object Restore Completed")
_SHOWN = 120


class NotUnderstood(ValueError):
    """A message that is no notification of S3's; says what it is instead."""


def documents_told(body: str) -> tuple[tuple[str, str], ...]:
    """The documents that a message tells of, as bucket and key; none where an event brings none.

    Raises:
        NotUnderstood: it is none of the forms that S3's notifications have.
    """
    event = _object(body)
    if event.get("Type") == "Notification" and isinstance(event.get("Message"), str):  # SNS, without raw delivery
        event = _object(event["Message"])
    if isinstance(event.get("Records"), list):
        return tuple(each for record in event["Records"] for each in _of_record(record))
    if event.get("source") == "aws.s3" and isinstance(event.get("detail-type"), str):
        if event["detail-type"] not in _BRINGING_DETAILS:
            return ()
        return (_address(event.get("detail"), str),)
    if event.get("Event") == "s3:TestEvent":  # S3 sends one when the notification is set up
        return ()
    raise NotUnderstood(f"it is not an S3 notification: {_shortened(body)}")


def _of_record(record: Any) -> tuple[tuple[str, str], ...]:
    name = record.get("eventName") if isinstance(record, dict) else None
    if not isinstance(name, str):
        raise NotUnderstood("one of its records has no eventName")
    if not name.removeprefix("s3:").startswith(_BRINGING):  # other stores write the prefix as well
        return ()
    return (_address(record.get("s3"), unquote_plus),)


def _address(where: Any, decoded: Callable[[str], str]) -> tuple[str, str]:
    try:
        bucket, key = where["bucket"]["name"], where["object"]["key"]
    except (KeyError, TypeError) as error:
        raise NotUnderstood("one of its events names no bucket and key") from error
    if not (isinstance(bucket, str) and isinstance(key, str) and bucket and key):
        raise NotUnderstood("one of its events names no bucket and key")
    return bucket, decoded(key)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(f"it is not JSON: {_shortened(text)}") from error
    if not isinstance(value, dict):
        raise NotUnderstood(f"it is not a JSON object: {_shortened(text)}")
    return value


def _shortened(text: str) -> str:
    """The beginning of a message, safe to show: whoever may send to the queue wrote it."""
    return ascii(text[:_SHOWN]) + ("…" if len(text) > _SHOWN else "")
