"""Records that this program does not understand: left alone, and the message says whether an update would help."""

import json
from typing import Any

import pytest

from tasks.faults import RecordUnreadable
from tasks.store.ledger import Ledger
from tasks.store.location import Location
from tasks.store.objects import Objects
from tests.store.conftest import job

NEWER = "was written by a newer version of this program .*update the program here"
DAMAGED = "cannot be read .*it was written by another version of this program, or edited"


def changed(**fields: Any) -> bytes:
    """A record with some fields changed."""
    return json.dumps({**json.loads(job().model_dump_json()), **fields}).encode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (changed(format=99), NEWER),
        (changed(format=99, rounds="three", news=1), NEWER),
        (b'{"format": 99}', NEWER),
        (changed(rounds="three"), DAMAGED),
        (changed(unheard_of=1), DAMAGED),
        (changed(format=0), DAMAGED),
        (changed(format="99"), DAMAGED),
        (changed(format=99.5), DAMAGED),
        (changed(format=None), DAMAGED),
        (changed(format=[99]), DAMAGED),
        (b"[99]", DAMAGED),
        (b"99", DAMAGED),
        (b'"format"', DAMAGED),
        (b"null", DAMAGED),
        (b"", DAMAGED),
        (b'{"format": 99', DAMAGED),
    ],
)
def test_a_record_that_is_not_understood_says_whether_it_is_newer_or_damaged(
    ledger: Ledger, objects: Objects, destination: Location, body: bytes, words: str
) -> None:
    identity = job().id
    objects.put(destination.bucket, f"{ledger.folder}open/{identity}.json", body, {}, "application/json")
    with pytest.raises(RecordUnreadable, match=words) as refused:
        ledger.read(identity)
    assert f"the ledger record of job {identity} under s3://{destination.bucket}/{ledger.folder}" in str(refused.value)
    stored = objects.get(destination.bucket, f"{ledger.folder}open/{identity}.json")
    assert stored is not None
    assert stored.body == body
