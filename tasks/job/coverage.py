"""Decides which batch provides which page of the document.

Everything else relies on this rule: a result is published only when every page 1..N is covered exactly once, and pages
that are not covered have to be sent (again).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.faults import DocumentFault, FailureCode
from tasks.job.record import PageRange, page_ranges


@dataclass(frozen=True)
class Piece:
    """Pages of the document that one downloadable batch holds, in the batch's own order."""

    request: str
    pages: PageRange
    url: str = ""


@dataclass(frozen=True)
class Share:
    """The part of a piece that goes into the result."""

    piece: Piece
    pages: PageRange

    @property
    def offset(self) -> int:
        """The number of the piece's pages before the share."""
        return self.pages.first - self.piece.pages.first


@dataclass(frozen=True)
class Coverage:
    """Shares in page order, and the pages that nothing covers."""

    shares: tuple[Share, ...]
    missing: tuple[PageRange, ...]


def cover(total: int, pieces: Sequence[Piece]) -> Coverage:
    """Assign every page 1..total to one piece; where pieces overlap, the earlier one in the sequence wins.

    Pieces of different requests may overlap: if pages were sent again because an answer seemed lost, both answers can
    arrive. Pieces of the same request may overlap only if their ranges are equal (the API lists a retried batch twice).

    Args:
        total: the number of pages in the document.
        pieces: the downloadable batches, preferred ones first.

    Returns:
        The shares in page order, and the pages that no piece covers.

    Raises:
        DocumentFault: pieces of one request overlap, or reach beyond the document. The page numbers cannot be trusted
            then, and publishing would be a guess.
    """
    _consistent(total, pieces)
    owner: list[Piece | None] = [None] * (total + 1)
    for piece in pieces:
        for page in range(piece.pages.first, piece.pages.last + 1):
            if owner[page] is None:
                owner[page] = piece
    shares: list[Share] = []
    missing: list[int] = []
    page = 1
    while page <= total:
        piece_here, first = owner[page], page
        while page <= total and owner[page] is piece_here:
            page += 1
        if piece_here is None:
            missing.extend(range(first, page))
        else:
            shares.append(Share(piece_here, PageRange(first=first, last=page - 1)))
    return Coverage(tuple(shares), tuple(page_ranges(missing)))


def left_over(total: int, covered: Iterable[PageRange]) -> list[PageRange]:
    """Return the pages of 1..total that are in none of the ranges."""
    covered_pages = {page for pages in covered for page in range(pages.first, pages.last + 1)}
    return page_ranges(page for page in range(1, total + 1) if page not in covered_pages)


def _consistent(total: int, pieces: Iterable[Piece]) -> None:
    by_request: dict[str, set[tuple[int, int]]] = {}
    for piece in pieces:
        if piece.pages.last > total:
            raise DocumentFault(
                FailureCode.WRONG_ANSWER,
                f"the API returned pages {piece.pages} of a document of {total}: nothing was published",
                retry_helps=True,
            )
        by_request.setdefault(piece.request, set()).add((piece.pages.first, piece.pages.last))
    for request, ranges in by_request.items():
        end = 0
        for first, last in sorted(ranges):
            if first <= end:
                raise DocumentFault(
                    FailureCode.WRONG_ANSWER,
                    f"request {request} returned overlapping batches around page {first}: nothing was published",
                    retry_helps=True,
                )
            end = last
