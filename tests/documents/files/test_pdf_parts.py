"""Each page of a part of a PDF looks as in the whole, whatever it takes from elsewhere: as two readers draw it."""

from pathlib import Path

import pytest

from tasks.documents.files.pdf_parts import write_part
from tests.documents.files.pdf_corpus import CORPUS
from tests.documents.files.rendering import drawn_by_pdfium, drawn_by_poppler, is_blank


@pytest.mark.parametrize("feature", CORPUS)
def test_a_page_of_a_part_looks_as_in_the_whole(tmp_path: Path, feature: str) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.write_bytes(CORPUS[feature]())
    by_pdfium, by_poppler = drawn_by_pdfium(whole), drawn_by_poppler(whole)
    pages = len(by_pdfium)
    for pictures in (by_pdfium, by_poppler):
        assert len(set(pictures)) == pages >= 3  # or the test proves nothing
        assert not any(map(is_blank, pictures))
    for first, last in ((1, 1), (2, 3), (1, pages)):
        assert write_part(whole, first, last, part) == 0  # without a repair
        assert drawn_by_pdfium(part) == by_pdfium[first - 1 : last]
        assert drawn_by_poppler(part) == by_poppler[first - 1 : last]
