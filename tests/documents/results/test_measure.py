"""What is measured of a result while it is written is what somebody finds who reads it afterwards."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.documents.results.merge import merge
from tasks.documents.results.read import read_pages
from tasks.job.coverage import Piece, Share, cover
from tasks.job.record import Confidence, Measured, PageRange
from tests.documents.results.answers import FORMS

PAGES = [[("one", 0.95), ("two", 0.05)], [], [("three", 1.0), ("four", 0.6), ("five", 0.6)]]


def measured(tmp_path: Path, *answers: dict[str, Any], pages: int = 3) -> Measured:
    """Merge answers of so many pages each."""
    ranges = [PageRange(first=1 + n * pages, last=(n + 1) * pages) for n in range(len(answers))]
    shares = cover(len(answers) * pages, [Piece(str(n), page_range) for n, page_range in enumerate(ranges)]).shares
    merged = merge(shares, lambda share: answers[int(share.piece.request)], tmp_path / "result")
    words = [word.confidence for page in read_pages(tmp_path / "result") for word in page.words]
    assert merged.measured.words == len(words)
    known_values = [value for value in words if value is not None]
    if known_values:
        assert merged.measured.confidence is not None
        assert merged.measured.confidence.minimum == min(known_values)
        assert merged.measured.confidence.mean == pytest.approx(sum(known_values) / len(known_values))
        assert sum(merged.measured.confidence.bins) == len(known_values)
    return merged.measured


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_measured_alike(form: str, tmp_path: Path) -> None:
    answer = FORMS[form](PAGES)
    bins = (1, 0, 0, 0, 0, 0, 2, 0, 0, 2)
    for copies in (1, 2):
        found = measured(tmp_path, *[json.loads(json.dumps(answer))] * copies)
        assert (found.words, found.blank_pages) == (5 * copies, copies)
        assert found.confidence is not None
        assert found.confidence == Confidence(
            minimum=0.05, mean=found.confidence.mean, bins=tuple(copies * number for number in bins)
        )
        assert found.confidence.mean == pytest.approx(3.2 / 5, abs=1e-6)


def test_blank_pages_have_no_confidence_and_nonsense_is_none(tmp_path: Path) -> None:
    own = {"pages": [{"text": " \n", "words": []}, {"text": "stamp", "words": None}], "usage": {"pages": 2}}
    assert measured(tmp_path, own, pages=2) == Measured(words=0, blank_pages=1, confidence=None, billed_pages=2)
    words = [{"text": "a", "confidence": value} for value in (None, True, "0.5", 2, -1, 1)]
    found = merge(
        [Share(Piece("r", PageRange(first=1, last=1)), PageRange(first=1, last=1))],
        lambda _: {"pages": [{"words": words}]},
        tmp_path / "nonsense",
    ).measured
    assert found.words == 6
    assert found.confidence == Confidence(minimum=1, mean=1, bins=(0,) * 9 + (1,))


def test_billed_pages_are_those_that_the_answers_tell_and_each_answer_once(tmp_path: Path) -> None:
    def answer(pages: int, claimed: Any) -> dict[str, Any]:
        return {"pages": [{"words": []} for _ in range(pages)], "usage": {"pages": claimed}}

    # Pages 4-6 were sent again; their first answer gives pages 1-3 and 7-9.
    again, first = Piece("again", PageRange(first=4, last=6)), Piece("first", PageRange(first=1, last=9))
    shares = cover(9, [again, first]).shares
    assert len(shares) == 3
    for claimed, billed in ((9, 12), (0, 3), (99, 12), (None, None), (True, None), (-1, None)):
        answers = {"first": answer(9, claimed), "again": answer(3, 3)}
        merged = merge(shares, lambda share, answers=answers: answers[share.piece.request], tmp_path / "result")  # type: ignore[misc]
        assert merged.measured.billed_pages == billed
    older = {"pages": [{"words": []}], "numBilledPages": 1}
    assert measured(tmp_path, older, older, pages=1).billed_pages == 2
