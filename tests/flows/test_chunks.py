"""How documents are shared out over task runs."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from flows.chunks import Seen, chunks


@given(st.lists(st.integers(0, 3000), max_size=6))
def test_every_item_is_in_exactly_one_chunk_over_any_passes(passes: list[int]) -> None:
    seen, number, out = Seen(), 0, []
    for length in passes:
        items = range(number, number + length)
        number += length
        out += [item for chunk in chunks(items, seen) for item in chunk]
    assert out == list(range(number))
    assert seen.items == number


def test_the_first_documents_have_a_task_run_each() -> None:
    assert [len(chunk) for chunk in chunks(range(500), Seen())] == [1] * 500


def test_a_million_documents_make_little_more_than_a_thousand_task_runs() -> None:
    assert sum(1 for _ in chunks(range(1_000_000), Seen())) < 1500


def test_items_are_taken_as_lazily_as_chunks_are_asked_for() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    grouped = chunks(source(), Seen())
    next(grouped)
    assert taken == [0]
