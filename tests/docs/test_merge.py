"""However a document's pages came in, the result is the one a single answer would have been, or there is none."""

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.documents.answers import BatchUnreadable, read_batch, shape_of
from tasks.documents.coverage import Piece, Share, cover
from tasks.documents.merge import Merged, merge
from tasks.faults import DocumentFault, Fault
from tasks.models import PageRange

Json = dict[str, Any]
NUMBERINGS: dict[str, Callable[[int, int], Any]] = {
    "restart": lambda _, place: place,
    "document": lambda first, place: first - 1 + place,
    "one": lambda _, place: place + 1,
    "garbage": lambda first, place: ["x", None, -1, 7.5, first * 31 % 7][(first + place) % 5],
}
LONE = "\ud83d lone surrogate"

texts = st.text(st.characters(codec=None), max_size=12)
ratios = st.floats(0, 1)


def word(shape: str, number: int, text: str, confidence: float) -> Json:
    corners = [{"x": number, "y": 2}] * 4 if shape == "older" else [{"x": number / 1000, "y": 0.25}] * 4
    box = "boundingBox" if shape == "older" else "bounding_box"
    return {"id": number, "text": text, "confidence": confidence, box: {"vertices": corners}, "new_in_word": [None]}


def page(shape: str, words: Sequence[tuple[str, float]], confidence: float, width: int) -> Json:
    text = " ".join(text for text, _ in words)
    made: Json = {"id": "?", "text": text, "words": [word(shape, n, *each) for n, each in enumerate(words)]}
    return made | ({"width": width, "height": 256, "confidence": confidence} if shape == "older" else {"rotation": 0})


def batch(shape: str, pages: Sequence[Json], first: int, numbering: str) -> Json:
    """One download, as the API words it: some pages of a document, of which the first has the number `first`."""
    number = NUMBERINGS[numbering]
    numbered = [{**each, "id": number(first, place)} for place, each in enumerate(pages)]
    if shape == "newer":
        usage = {"pages": len(pages), "tier": 2}
        return {"api": "2.0", "model": "ocr-250904", "pages": numbered, "usage": usage, "later": {"x": [1]}}
    sizes = [{"page": place + 1, "width": each["width"], "height": 256} for place, each in enumerate(pages)]
    return {
        "apiVersion": "1.1",
        "confidence": math.fsum(each["confidence"] for each in pages) / len(pages),
        "metadata": {"pages": sizes, "unit": "px"},
        "mimeType": "multipart/form-data",
        "modelVersion": "ocr-250904",
        "numBilledPages": len(pages),
        "pages": numbered,
        "stored": True,
        "text": "\n".join(each["text"] for each in pages),
        "later": None,
    }


@st.composite
def whole_documents(draw: st.DrawFn) -> tuple[str, list[Json]]:
    shape = draw(st.sampled_from(["older", "newer"]))
    words = st.lists(st.tuples(texts, ratios), max_size=3)
    pages = st.builds(page, st.just(shape), words, ratios, st.integers(1, 5000))
    drawn = draw(st.lists(pages, min_size=1, max_size=30))
    # No two alike: pages that changed places have to show.
    return shape, [{**each, "serial": number} for number, each in enumerate(drawn)]


def partition(data: st.DataObject, total: int) -> list[PageRange]:
    if data.draw(st.booleans(), label="ten pages each"):
        cuts = [*range(1, total + 1, 10), total + 1]
    else:
        cuts = sorted(data.draw(st.sets(st.integers(1, total))) | {1, total + 1})
    return [PageRange(first=first, last=after - 1) for first, after in pairwise(cuts)]


def put_together(total: int, batches: Sequence[tuple[Piece, Json]]) -> bytes:
    """All the way: downloads on disk, in the order in which they came in."""
    with tempfile.TemporaryDirectory() as folder:
        download, result = Path(folder, "batch.json"), Path(folder, "result.json")

        def load(share: Share) -> Json:
            answer = next(answer for piece, answer in batches if piece == share.piece)
            download.write_text(json.dumps(answer), encoding="utf-8")
            return read_batch(download, len(share.piece.pages))

        coverage = cover(total, [piece for piece, _ in batches])
        assert not coverage.missing
        merged = merge(coverage.shares, load, result)
        assert merged.pages == total
        return result.read_bytes()


def in_one(shape: str, pages: Sequence[Json], numbering: str = "restart") -> bytes:
    piece = Piece("one", PageRange(first=1, last=len(pages)))
    return put_together(len(pages), [(piece, batch(shape, pages, 1, numbering))])


def merged_from(answers: Sequence[Json]) -> bytes:
    """The result of batches one after the other."""
    first, batches = 1, []
    for number, answer in enumerate(answers):
        last = first + len(answer["pages"]) - 1
        batches.append((Piece(f"r{number}", PageRange(first=first, last=last)), answer))
        first = last + 1
    return put_together(first - 1, batches)


@given(whole_documents(), st.data())
def test_any_partition_numbering_and_order_gives_the_result_of_a_single_batch(
    document: tuple[str, list[Json]], data: st.DataObject
) -> None:
    shape, pages = document
    numbering = data.draw(st.sampled_from(sorted(NUMBERINGS)))
    batches = [
        (Piece("r", part), batch(shape, pages[part.first - 1 : part.last], part.first, numbering))
        for part in partition(data, len(pages))
    ]
    assert put_together(len(pages), data.draw(st.permutations(batches))) == in_one(shape, pages)


@given(whole_documents(), st.data())
def test_pages_that_came_twice_from_two_requests_are_in_the_result_once(
    document: tuple[str, list[Json]], data: st.DataObject
) -> None:
    shape, pages = document
    batches = [
        (Piece(request, part), batch(shape, pages[part.first - 1 : part.last], part.first, "restart"))
        for request in ("first", "again")
        for part in partition(data, len(pages))
    ]
    assert put_together(len(pages), data.draw(st.permutations(batches))) == in_one(shape, pages)


@pytest.mark.parametrize("shape", ["older", "newer"])
def test_of_a_batch_that_is_needed_in_part_the_right_part_is_taken(shape: str) -> None:
    pages = [page(shape, [(f"page {number}", 0.5)], 0.5, number) for number in range(1, 11)]
    batches = [
        (Piece(request, PageRange(first=first, last=last)), batch(shape, pages[first - 1 : last], first, "restart"))
        for request, first, last in (("b", 4, 6), ("a", 1, 8), ("c", 7, 10))
    ]
    assert put_together(10, batches) == in_one(shape, pages)


@pytest.mark.parametrize("absurd", [10**400, 1e308, -1e308, None, "high"])
def test_a_confidence_that_is_none_does_not_spoil_the_result(absurd: Any) -> None:
    pages = [page("older", [], 0.5, 1) for _ in range(3)]
    answer = batch("older", pages, 1, "restart") | {"confidence": 0.25}
    for each in answer["pages"][1:]:
        each["confidence"] = absurd
    assert json.loads(merged_from([answer]))["confidence"] == 0.25  # the API's own word, as there is no mean


@given(whole_documents(), st.sampled_from(sorted(NUMBERINGS)))
def test_a_result_holds_every_page_in_order_with_totals_made_anew_and_all_else_kept(
    document: tuple[str, list[Json]], numbering: str
) -> None:
    shape, pages = document
    halves = (pages[: len(pages) // 2], pages[len(pages) // 2 :])
    parts = [batch(shape, part, 5, numbering) for part in halves if part]
    result = json.loads(merged_from(parts))
    assert result.pop("pages") == [{**each, "id": number} for number, each in enumerate(pages)]
    kept = {key: value for key, value in parts[0].items() if key != "pages"}
    if shape == "newer":
        assert result == {**kept, "usage": {"pages": len(pages), "tier": 2}}
        return
    confidence = math.fsum(each["confidence"] for each in pages) / len(pages)
    assert result.pop("confidence") == pytest.approx(confidence, abs=1e-12)
    kept.pop("confidence")
    assert result == {
        **kept,
        "numBilledPages": len(pages),
        "text": "\n".join(each["text"] for each in pages),
        "metadata": {
            "unit": "px",
            "pages": [{"page": n, "width": each["width"], "height": 256} for n, each in enumerate(pages, 1)],
        },
    }


def test_lone_surrogates_and_every_script_survive_as_plain_ascii() -> None:
    pages = [page("older", [(text, 0.5)], 0.5, 1) for text in (LONE, "Größe", "日本語", '"\\\x00\n', "🙂")]
    raw = merged_from([batch("older", [each], 1, "restart") for each in pages])
    assert raw.isascii()
    result = json.loads(raw)
    assert [each["text"] for each in result["pages"]] == [LONE, "Größe", "日本語", '"\\\x00\n', "🙂"]
    assert result["text"] == "\n".join(each["text"] for each in pages)


def test_words_are_counted(tmp_path: Path) -> None:
    pages = [page("newer", [("a", 1)] * count, 1, 1) for count in (2, 0, 3)]
    whole = Share(Piece("r", PageRange(first=1, last=3)), PageRange(first=1, last=3))
    assert merge([whole], lambda _: batch("newer", pages, 1, "one"), tmp_path / "result") == Merged(3, 5)


def test_a_missing_page_is_never_papered_over(tmp_path: Path) -> None:
    pages = [page("older", [], 1, 1)] * 10
    for present in ([(2, 10)], [(1, 4), (6, 10)], [(1, 6), (6, 10)], [(6, 10), (1, 5)]):
        ranges = [PageRange(first=first, last=last) for first, last in present]
        shares = [Share(Piece("r", each), each) for each in ranges]

        def load(share: Share) -> Json:
            return batch("older", pages[: len(share.piece.pages)], 1, "restart")

        with pytest.raises(DocumentFault, match="not covered"):
            merge(shares, load, tmp_path / "result")
    with pytest.raises(DocumentFault, match="no page"):
        merge([], lambda _: {}, tmp_path / "result")


@pytest.mark.parametrize("shapes", [("older", "newer"), ("newer", "older")])
def test_pixels_and_ratios_are_never_mixed_in_one_result(shapes: tuple[str, str]) -> None:
    answers = [batch(shape, [page(shape, [("a", 1)], 1, 1)], 1, "restart") for shape in shapes]
    with pytest.raises(DocumentFault, match="cannot be one result") as caught:
        merged_from(answers)
    assert caught.value.retry_helps


def test_blank_pages_that_tell_no_shape_fit_with_either() -> None:
    blank: Json = {"pages": [{"id": 0, "text": "", "words": []}]}
    for shape in ("older", "newer"):
        answer = batch(shape, [page(shape, [("a", 1)], 1, 1)], 1, "restart")
        assert len(json.loads(merged_from([answer, blank]))["pages"]) == 2
        assert len(json.loads(merged_from([blank, answer]))["pages"]) == 2
    both = [batch(shape, [page(shape, [("a", 1)], 1, 1)], 1, "restart") for shape in ("older", "newer")]
    with pytest.raises(DocumentFault, match="cannot be one result"):
        merged_from([blank, *both])


@pytest.mark.parametrize("shape", ["older", "newer"])
def test_the_shape_is_told_by_content_and_not_by_the_version_field(shape: str) -> None:
    answer = batch(shape, [page(shape, [("a", 1)], 1, 1)], 1, "restart")
    swapped = {**answer, "api": "1.1", "apiVersion": "2.0"}
    assert shape_of(swapped) == shape
    assert shape_of({"pages": swapped["pages"]}) == shape


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '{"pages": null}',
        '{"pages": {}}',
        '{"pages": []}',
        '{"pages": [{}]}',
        '{"pages": [{}, {}, {}]}',
        '{"pages": [{}, 7]}',
        '{"pages": [{}, {"words": 7}]}',
        '{"pages": [{}, {"words": {"a": 1}}]}',
        '{"pages": [{}, {}], "confidence": NaN}',
        '{"pages": [{}, {"confidence": 1e999}]}',
        '{"pages": [{}, {"confidence": -Infinity}]}',
        '{"pages": [{}, {"words": %s}]}' % ("[" * 100_000),
        '{"pages": [{}, {"words": %s}]}' % ("9" * 10_000),
        "<html></html>",
    ],
)
def test_a_download_that_is_no_whole_batch_is_not_taken_for_one(tmp_path: Path, body: str) -> None:
    file = tmp_path / "batch"
    file.write_text(body)
    with pytest.raises(BatchUnreadable):
        read_batch(file, 2)


def test_a_cut_download_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    file = tmp_path / "batch"
    whole = json.dumps(batch("older", [page("older", [("a", 1)], 1, 1)] * 2, 1, "restart")).encode()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(BatchUnreadable):
            read_batch(file, 2)
    file.write_bytes(whole)
    assert len(read_batch(file, 2)["pages"]) == 2


def test_nesting_between_what_can_be_read_and_what_can_be_written_is_no_crash(tmp_path: Path) -> None:
    file, readable = tmp_path / "batch", 0
    whole = Share(Piece("r", PageRange(first=1, last=1)), PageRange(first=1, last=1))
    for depth in range(1, 1100):
        file.write_text('{"pages": [{"deep": ' + "[" * depth + "]" * depth + "}]}")
        try:
            answers = {whole: read_batch(file, 1)}
        except BatchUnreadable:
            break
        readable = depth
        if depth > 700:
            with suppress(DocumentFault):
                merge([whole], answers.__getitem__, tmp_path / "result")
    assert 700 < readable < 1099  # both sides of the limit were seen


scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
anything = st.recursive(
    scalars | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
wild_words = st.fixed_dictionaries({}, optional={"text": anything, "boundingBox": anything, "bounding_box": anything})
wild_pages = st.fixed_dictionaries(
    {},
    optional={
        "id": anything,
        "text": texts | anything,
        "confidence": ratios | anything,
        "words": st.lists(wild_words | anything, max_size=2) | anything,
        "width": anything,
    },
)
wild_answers = st.fixed_dictionaries(
    {"pages": st.lists(wild_pages | anything, min_size=1, max_size=3)},
    optional={
        "confidence": anything,
        "metadata": st.fixed_dictionaries({}, optional={"pages": st.lists(anything) | anything}) | anything,
        "usage": st.dictionaries(texts, anything, max_size=2) | anything,
        "numBilledPages": anything,
        "text": anything,
        "new": anything,
    },
)


@settings(max_examples=300)
@given(st.lists(wild_answers, min_size=1, max_size=3))
def test_no_answer_of_the_api_leads_to_anything_but_valid_json_or_a_fault(answers: list[Json]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    try:
        raw = merged_from(answers)
    except Fault:
        return
    result = json.loads(raw, parse_constant=refuse)
    assert [each["id"] for each in result["pages"]] == list(range(sum(len(each["pages"]) for each in answers)))
