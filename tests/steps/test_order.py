"""The order in which new documents are sent."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tasks.backfills.record import Order
from tasks.job.record import Document
from tasks.steps.order import ordered

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def _document(key: str, size: int, minutes: int) -> Document:
    return Document(bucket="in", key=key, etag="e", size=size, last_modified=NOON + timedelta(minutes=minutes))


DOCUMENTS = [_document("a", 3, 2), None, _document("b", 1, 3), _document("c", 2, 1)]


@pytest.mark.parametrize(
    ("order", "keys"), [("listed", "abc"), ("oldest", "cab"), ("newest", "bac"), ("smallest", "bca")]
)
def test_documents_come_in_the_order_that_was_asked_for(order: Order, keys: str) -> None:
    assert [found.key for found in ordered(iter(DOCUMENTS), order) if found is not None] == list(keys)


@pytest.mark.parametrize("order", ["listed", "oldest", "newest", "smallest"])
def test_whoever_takes_them_regains_control_with_every_document_that_is_listed(order: Order) -> None:
    listed = 0

    def documents() -> Iterator[Document | None]:
        nonlocal listed
        for document in DOCUMENTS:
            listed += 1
            yield document

    taken = ordered(documents(), order)
    for number in range(1, len(DOCUMENTS) + 1):
        next(taken)
        assert listed == number
