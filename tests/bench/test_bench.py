"""The benchmark itself, small: nobody's claim about memory rests on a command that has stopped working."""

from pathlib import Path

import pytest

from tests.bench.measure import memory, speed
from tests.bench.samples import FORMS


def test_a_document_ten_times_as_long_takes_no_more_memory(tmp_path: Path) -> None:
    took = memory("older", tmp_path, words=200)
    assert took.long - took.short < 60


@pytest.mark.parametrize("form", FORMS)
def test_every_form_can_be_measured(tmp_path: Path, form: str) -> None:
    assert speed(form, tmp_path, pages=10, words=5, repetitions=1).merged > 0
