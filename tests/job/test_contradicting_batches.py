"""Batches that contradict each other or the document: a wrong answer, which asking for anew can mend."""

import pytest

from tasks.faults import DocumentFault
from tasks.job.coverage import Piece, cover
from tasks.job.record import PageRange


@pytest.mark.parametrize("ranges", [[(1, 10), (11, 13)], [(13, 13)], [(1, 10), (10, 12)], [(1, 10), (3, 4)]])
def test_contradicting_batches_of_one_request_are_a_wrong_answer_that_a_retry_may_mend(
    ranges: list[tuple[int, int]],
) -> None:
    pieces = [Piece("request", PageRange(first=first, last=last)) for first, last in ranges]
    with pytest.raises(DocumentFault) as refused:
        cover(12, pieces)
    assert (refused.value.code, refused.value.retry_helps) == ("wrong-answer", True)


def test_batches_that_touch_and_end_with_the_document_do_not_contradict_each_other() -> None:
    pieces = [Piece("request", PageRange(first=first, last=last)) for first, last in ((1, 10), (11, 12))]
    assert cover(12, pieces).missing == ()
