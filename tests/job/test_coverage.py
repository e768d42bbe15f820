"""Every page is given out once or is missing: the rule that nothing is lost and nothing is published as a guess."""

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.faults import DocumentFault
from tasks.job.coverage import Coverage, Piece, cover
from tasks.job.record import PageRange


def piece(request: str, first: int, last: int, url: str = "") -> Piece:
    return Piece(request, PageRange(first=first, last=last), url)


def pages_of(ranges: Sequence[PageRange]) -> list[int]:
    return [page for pages in ranges for page in range(pages.first, pages.last + 1)]


@st.composite
def disjoint(draw: st.DrawFn, request: str, total: int) -> list[Piece]:
    """Some of the batches that one request may have: no page twice."""
    cuts = sorted(draw(st.sets(st.integers(1, total), max_size=8)) | {1, total + 1})
    whole = [piece(request, first, after - 1) for first, after in pairwise(cuts)]
    return draw(st.lists(st.sampled_from(whole), unique=True))


@st.composite
def documents(draw: st.DrawFn) -> tuple[int, list[Piece]]:
    """A page count, and batches of several requests in any order, some of them listed twice."""
    total = draw(st.integers(1, 60))
    pieces = [piece for request in "abc"[: draw(st.integers(0, 3))] for piece in draw(disjoint(request, total))]
    if pieces:
        pieces += draw(st.lists(st.sampled_from(pieces), max_size=3))
    return total, draw(st.permutations(pieces))


def covered(coverage: Coverage) -> list[int]:
    return pages_of([share.pages for share in coverage.shares])


@given(documents())
def test_every_page_is_given_out_once_in_order_or_is_missing(document: tuple[int, list[Piece]]) -> None:
    total, pieces = document
    coverage = cover(total, pieces)
    offered = {page for piece in pieces for page in range(piece.pages.first, piece.pages.last + 1)}
    assert covered(coverage) == sorted(offered)
    assert pages_of(coverage.missing) == sorted(set(range(1, total + 1)) - offered)


@given(documents())
def test_a_share_points_at_its_own_pages_within_its_piece(document: tuple[int, list[Piece]]) -> None:
    total, pieces = document
    for share in cover(total, pieces).shares:
        assert share.piece in pieces
        inside = list(range(share.piece.pages.first, share.piece.pages.last + 1))
        assert inside[share.offset : share.offset + len(share.pages)] == pages_of([share.pages])


@given(documents())
def test_the_earlier_piece_gives_the_page(document: tuple[int, list[Piece]]) -> None:
    total, pieces = document
    for share in cover(total, pieces).shares:
        for page in pages_of([share.pages]):
            offering = [piece for piece in pieces if piece.pages.first <= page <= piece.pages.last]
            assert share.piece == offering[0]


@given(documents(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing_about_what_is_covered(
    document: tuple[int, list[Piece]], chance: random.Random
) -> None:
    total, pieces = document
    shuffled = list(pieces)
    chance.shuffle(shuffled)
    assert covered(cover(total, shuffled)) == covered(cover(total, pieces))
    assert cover(total, shuffled).missing == cover(total, pieces).missing


@given(documents())
def test_missing_pages_that_come_back_complete_the_document(document: tuple[int, list[Piece]]) -> None:
    total, pieces = document
    again = [piece("again", gap.first, gap.last) for gap in cover(total, pieces).missing]
    complete = cover(total, [*pieces, *again])
    assert complete.missing == ()
    assert covered(complete) == list(range(1, total + 1))


def test_a_retried_batch_that_is_listed_twice_counts_once() -> None:
    twice = [piece("a", 1, 10, "first"), piece("a", 11, 12), piece("a", 1, 10, "second")]
    coverage = cover(12, twice)
    assert [share.piece for share in coverage.shares] == twice[:2]


def test_a_piece_of_another_request_in_the_middle_splits_a_share() -> None:
    coverage = cover(10, [piece("b", 4, 6), piece("a", 1, 10)])
    assert [(share.piece.request, str(share.pages), share.offset) for share in coverage.shares] == [
        ("a", "1-3", 0),
        ("b", "4-6", 0),
        ("a", "7-10", 6),
    ]


@given(st.data())
def test_batches_of_one_request_that_overlap_are_no_basis_for_a_result(data: st.DataObject) -> None:
    total = data.draw(st.integers(2, 60))
    ranges = st.tuples(st.integers(1, total), st.integers(1, total)).map(lambda ends: (min(ends), max(ends)))
    shared = data.draw(st.integers(1, total))
    one, other = (data.draw(ranges.filter(lambda pair: pair[0] <= shared <= pair[1])) for _ in range(2))
    pieces = [piece("a", *one), piece("a", *other)]
    if one == other:
        assert pages_of(cover(total, pieces).missing) == sorted({*range(1, total + 1)} - {*range(one[0], one[1] + 1)})
        return
    with pytest.raises(DocumentFault, match="request a returned overlapping batches") as caught:
        cover(total, data.draw(st.permutations([*pieces, piece("b", 1, total)])))
    assert caught.value.retry_helps
    # The same ranges are fine when they come from two requests.
    assert covered(cover(total, [pieces[0], piece("b", *other)]))


@given(documents(), st.integers(0, 10**9))
def test_pages_beyond_the_end_are_no_basis_for_a_result(document: tuple[int, list[Piece]], beyond: int) -> None:
    total, pieces = document
    with pytest.raises(DocumentFault, match=f"of a document of {total}: nothing was published"):
        cover(total, [*pieces, piece("other", total, total + 1 + beyond)])


def test_nothing_at_all_leaves_everything_missing() -> None:
    assert cover(7, []) == Coverage((), (PageRange(first=1, last=7),))
