"""However a document's pages came in, the result is the one a single answer would have been, or there is none."""

import json
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.documents.results.batch import BatchUnreadable, read_batch, shape_of
from tasks.documents.results.merge import merge
from tasks.documents.results.read import read_pages
from tasks.faults import DocumentFault, Fault
from tasks.job.coverage import Piece, Share, cover
from tasks.job.record import PageRange
from tests.documents.results.answers import NUMBERINGS, Json, anything, batch, page, partition, ratios, texts

LONE = "\ud83d lone surrogate"


@st.composite
def whole_documents(draw: st.DrawFn) -> tuple[str, list[Json]]:
    shape = draw(st.sampled_from(["older", "newer"]))
    words = st.lists(st.tuples(texts, ratios), max_size=3)
    pages = st.builds(page, st.just(shape), words, ratios, st.integers(1, 5000))
    drawn = draw(st.lists(pages, min_size=1, max_size=30))
    # No two alike: pages that changed places have to show.
    return shape, [{**answer, "serial": number} for number, answer in enumerate(drawn)]


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


@pytest.mark.parametrize("absurd", [10**400, 1e308, -1e308, None, "high", True])
def test_a_confidence_that_is_none_does_not_spoil_the_result(absurd: Any) -> None:
    pages = [page("older", [], 0.5, 1) for _ in range(3)]
    first = batch("older", pages, 1, "restart") | {"confidence": 0.25}
    second = batch("older", pages[:1], 1, "restart") | {"confidence": 0.75}
    for later_page in first["pages"][1:]:
        later_page["confidence"] = absurd
    # The API's own words on its answers, as those on pages are incomplete.
    assert json.loads(merged_from([first, second]))["confidence"] == 0.25
    assert json.loads(merged_from([second, first]))["confidence"] == 0.25
    second["confidence"] = absurd
    assert json.loads(merged_from([first, second]))["confidence"] == 0.25


@given(whole_documents(), st.sampled_from(sorted(NUMBERINGS)))
def test_a_result_holds_every_page_in_order_with_totals_as_recorded_and_all_else_kept(
    document: tuple[str, list[Json]], numbering: str
) -> None:
    shape, pages = document
    halves = (pages[: len(pages) // 2], pages[len(pages) // 2 :])
    parts = [batch(shape, part, 5, numbering) for part in halves if part]
    result = json.loads(merged_from(parts))
    assert result.pop("pages") == batch(shape, pages, 1, "restart")["pages"]
    kept = {key: value for key, value in parts[0].items() if key != "pages"}
    if shape == "newer":
        assert result == {**kept, "usage": {"pages": len(pages), "tier": 2}}
        return
    assert result == {
        **kept,
        "confidence": min(page["confidence"] for page in pages),
        "numBilledPages": len(pages),
        "text": "".join(page["text"] for page in pages),
        "metadata": {
            "unit": "px",
            "pages": [{"page": n, "width": page["width"], "height": 256} for n, page in enumerate(pages, 1)],
        },
    }


def test_three_pages_as_recorded_in_one_answer_are_what_three_answers_make() -> None:
    """The vendor's recording: confidence of the least certain page, texts without a break, words counted through."""
    words = [[(f"word{n}", 0.9)] * number for n, number in enumerate((284, 30, 50))]
    pages = [
        page("older", page_words, sure, 1240) for page_words, sure in zip(words, (0.9873, 0.9363, 0.9789), strict=True)
    ]
    result = json.loads(merged_from([batch("older", [page], 1, "restart") for page in pages]))
    assert result["confidence"] == 0.9363
    assert [page["words"][0]["id"] for page in result["pages"]] == [0, 284, 314]
    assert len(result["text"]) == sum(len(page["text"]) for page in result["pages"])
    ids = [word["id"] for page in result["pages"] for word in page["words"]]
    assert ids == list(range(284 + 30 + 50))


@pytest.mark.parametrize("shape", ["older", "newer"])
def test_what_one_answer_says_of_the_whole_document_is_kept_to_the_letter(shape: str) -> None:
    pages = [page(shape, [("a", 0.5), ("b", 0.25)], 0.5, number) for number in (1, 2)]
    answer = batch(shape, pages, 1, "restart") | {
        "text": "their own\n\njoin",
        "confidence": 0.123,
        "numBilledPages": 0,
        "usage": {"pages": 7},
        "metadata": {"pages": [{"page": 9}, "?"], "x": None},
    }
    for number, answer_page in enumerate(answer["pages"]):
        answer_page["words"] = [{**word, "id": f"w{number}"} for word in answer_page["words"]]
    result = json.loads(merged_from([answer]))
    assert result == answer
    # The one thing that every result can be relied on for.
    assert json.loads(merged_from([batch(shape, pages, 1, "one")]))["pages"][0]["id"] == 0


@pytest.mark.parametrize("first", [1, 11])
def test_sizes_of_pages_are_told_by_their_numbers_in_whatever_order_they_stand(first: int) -> None:
    pages = [page("older", [("a", 1)], 1, width) for width in (100, 200, 300)]
    answers = [batch("older", pages, 1, "restart") for _ in range(2)]
    for answer in answers:
        answer["metadata"]["pages"] = [
            {"page": first + place, "width": 100 * (place + 1), "height": 256} for place in (2, 0, 1)
        ]
    sizes = json.loads(merged_from(answers))["metadata"]["pages"]
    assert [(size["page"], size["width"]) for size in sizes] == [
        (1, 100), (2, 200), (3, 300), (4, 100), (5, 200), (6, 300),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "sizes", [[{"width": 1}, {"width": 2}], [{"page": 1, "width": 1}, {"page": 1, "width": 2}], [{"page": "x"}, 7], []]
)
def test_sizes_of_pages_without_usable_numbers_are_taken_as_they_stand(sizes: list[Any]) -> None:
    answers = [batch("older", [page("older", [], 1, 1)] * 2, 1, "restart") for _ in range(2)]
    for answer in answers:
        answer["metadata"]["pages"] = sizes
    known = [{**size, "page": place} for place, size in enumerate(sizes * 2, 1) if isinstance(size, dict)]
    assert json.loads(merged_from(answers))["metadata"]["pages"] == known


def test_pages_that_were_not_billed_stay_so_in_a_longer_result() -> None:
    newer = [batch("newer", [page("newer", [], 1, 1)] * 2, 1, "restart") for _ in range(3)]
    older = [batch("older", [page("older", [], 1, 1)] * 2, 1, "restart") for _ in range(3)]
    newer[1]["usage"]["pages"] = older[1]["numBilledPages"] = 0
    assert json.loads(merged_from(newer))["usage"] == {"pages": 4, "tier": 2}
    assert json.loads(merged_from(older))["numBilledPages"] == 4


def test_lone_surrogates_and_every_script_survive_as_plain_ascii() -> None:
    pages = [page("older", [(text, 0.5)], 0.5, 1) for text in (LONE, "Größe", "日本語", '"\\\x00\n', "🙂")]
    raw = merged_from([batch("older", [page], 1, "restart") for page in pages])
    assert raw.isascii()
    result = json.loads(raw)
    assert [page["text"] for page in result["pages"]] == [LONE, "Größe", "日本語", '"\\\x00\n', "🙂"]
    assert result["text"] == "".join(page["text"] for page in pages)


def test_words_are_counted(tmp_path: Path) -> None:
    pages = [page("newer", [("a", 1)] * count, 1, 1) for count in (2, 0, 3)]
    answer = batch("newer", pages, 1, "one")
    answer["pages"][2]["words"].insert(0, None)  # no word
    whole = Share(Piece("r", PageRange(first=1, last=3)), PageRange(first=1, last=3))
    merged = merge([whole], lambda _: answer, tmp_path / "result")
    assert (merged.pages, merged.words) == (3, 5)


def test_a_missing_page_is_never_papered_over(tmp_path: Path) -> None:
    pages = [page("older", [], 1, 1)] * 10
    for present in ([(2, 10)], [(1, 4), (6, 10)], [(1, 6), (6, 10)], [(6, 10), (1, 5)]):
        ranges = [PageRange(first=first, last=last) for first, last in present]
        shares = [Share(Piece("r", page_range), page_range) for page_range in ranges]

        def load(share: Share) -> Json:
            return batch("older", pages[: len(share.piece.pages)], 1, "restart")

        with pytest.raises(DocumentFault, match="not covered"):
            merge(shares, load, tmp_path / "result")
    with pytest.raises(DocumentFault, match="no page"):
        merge([], lambda _: {}, tmp_path / "result")


@pytest.mark.parametrize("shapes", [("older", "newer"), ("newer", "older")])
def test_pixels_and_ratios_are_never_mixed_in_one_result(shapes: tuple[str, str]) -> None:
    answers = [batch(shape, [page(shape, [("a", 1)], 1, 1)], 1, "restart") for shape in shapes]
    with pytest.raises(DocumentFault, match="cannot be merged") as caught:
        merged_from(answers)
    assert caught.value.retry_helps


def test_blank_pages_that_tell_no_shape_fit_with_either() -> None:
    blank: Json = {"pages": [{"id": 0, "text": "", "words": []}]}
    for shape in ("older", "newer"):
        answer = batch(shape, [page(shape, [("a", 1)], 1, 1)], 1, "restart")
        assert len(json.loads(merged_from([answer, blank]))["pages"]) == 2
        assert len(json.loads(merged_from([blank, answer]))["pages"]) == 2
    both = [batch(shape, [page(shape, [("a", 1)], 1, 1)], 1, "restart") for shape in ("older", "newer")]
    with pytest.raises(DocumentFault, match="cannot be merged"):
        merged_from([blank, *both])


@pytest.mark.parametrize("shape", ["older", "newer"])
def test_the_shape_is_told_by_content_and_not_by_the_version_field(shape: str) -> None:
    answer = batch(shape, [page(shape, [("a", 1)], 1, 1)], 1, "restart")
    swapped = {**answer, "api": "1.1", "apiVersion": "2.0"}
    assert shape_of(swapped) == shape
    assert shape_of({"pages": swapped["pages"]}) == shape


@pytest.mark.parametrize(
    ("words", "shape"),
    [
        ([{"boundingBox": {"vertices": []}}], "older"),
        ([{"bounding_box": {"vertices": []}}], "newer"),
        ([{"bounding_box": None, "boundingBox": {"vertices": []}}], "older"),
        ([{"boundingBox": None, "bounding_box": {"vertices": []}}], "newer"),
        ([None, 7, {"bounding_box": None}, {"boundingBox": {"vertices": []}}], "older"),
    ],
)
@pytest.mark.parametrize("others", [{"usage": {"pages": 1}}, {"numBilledPages": 1}, {"metadata": {}}, {}])
def test_the_words_boxes_tell_the_shape_before_anything_else(words: list[Any], shape: str, others: Json) -> None:
    assert shape_of({"pages": [{"words": []}, {"words": words}], **others}) == shape


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
    assert [page["id"] for page in result["pages"]] == list(range(sum(len(answer["pages"]) for answer in answers)))
    if len(answers) == 1:
        [answer] = answers
        assert result == {**answer, "pages": [{**page, "id": n} for n, page in enumerate(answer["pages"])]}
    # What could be merged can be read, in the same way.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "result.json")
        file.write_bytes(raw)
        read = list(read_pages(file))
    assert len(read) == len(result["pages"])
    words = [word for page in result["pages"] for word in page.get("words") or [] if isinstance(word, dict)]
    assert sum(len(page.words) for page in read) == len(words)
