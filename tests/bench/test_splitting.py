"""Splitting takes no more memory for a longer document: neither where it is decided nor where pages are taken out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.splitting import large_pdf, large_tiff, split

LIMIT = 10_000_000
MOST = 25.0  # MB more for a document four times as large; holding it would take 45


@pytest.mark.parametrize("make", [large_pdf, large_tiff])
def test_memory_does_not_grow_with_the_document(tmp_path: Path, make: Callable[[Path, int, int], None]) -> None:
    taken = []
    for pages in (30, 120):
        document, folder = tmp_path / f"{pages}.document", tmp_path / str(pages)
        make(document, pages, 500_000)
        folder.mkdir()
        taken.append(split(document, LIMIT, folder))
    short, long = taken
    assert short.megabytes == pytest.approx(15, rel=0.05)
    assert long.megabytes == pytest.approx(60, rel=0.05)
    assert 6 < long.parts < 10
    assert long.disk < 1.1 * long.megabytes
    assert long.parent - short.parent < MOST
    assert long.child - short.child < MOST
    assert long.child < 120
