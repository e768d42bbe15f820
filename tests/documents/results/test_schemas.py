"""Other services' answer forms: merged, they are what one answer would have been, or they are refused with a reason."""

import json
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.documents.results.batch import page_count, read_batch, shape_of
from tasks.documents.results.merge import Merged, merge
from tasks.documents.results.read import read_pages, write_text
from tasks.faults import DocumentFault, Fault
from tasks.job.coverage import Piece, cover
from tasks.job.record import PageRange
from tests.documents.results.answers import (
    FORMS,
    NUMBERINGS,
    Json,
    Words,
    anything,
    clova,
    document,
    entries,
    google_page,
    google_text,
    partition,
    ratios,
    responses,
    texts,
)


def clova_text(words: Words) -> str:
    between = ["", *(" \n"[number % 2] for number in range(len(words)))]
    return "".join(space + text for space, (text, _) in zip(between, words, strict=False))


TEXTS: dict[str, Callable[[Words], str]] = {
    "newer": lambda words: " ".join(text for text, _ in words),
    "older": lambda words: " ".join(text for text, _ in words),
    "clova": clova_text,
    "google responses": google_text,
    "google document": google_text,
}


@dataclass(frozen=True)
class Outcome:
    """A result and the plain text beside it."""

    result: Json
    text: bytes
    merged: Merged


def put_together(batches: Sequence[tuple[Piece, Json]], with_text: bool = True) -> Outcome:
    """All the way: downloads on disk, in the order in which they came in; then the result is read again."""
    with tempfile.TemporaryDirectory() as folder:
        download, result, text, again = (Path(folder, name) for name in ("batch", "result", "text", "again"))
        answers = dict(batches)

        def load(piece: Piece) -> Json:
            download.write_text(json.dumps(answers[piece]), encoding="utf-8")
            return read_batch(download, len(piece.pages))

        coverage = cover(max(piece.pages.last for piece in answers), list(answers))
        merged = merge(coverage.shares, lambda share: load(share.piece), result, text if with_text else None)
        if with_text:
            assert write_text(result, again) == merged.pages
            assert again.read_bytes() == text.read_bytes()
        return Outcome(json.loads(result.read_bytes()), text.read_bytes() if with_text else b"", merged)


def in_a_row(*answers: Json, with_text: bool = True) -> Outcome:
    """The outcome of batches one after the other."""
    batches, first = [], 1
    for number, answer in enumerate(answers):
        pages = PageRange(first=first, last=first + page_count(answer) - 1)
        batches.append((Piece(f"r{number}", pages), answer))
        first = pages.last + 1
    return put_together(batches, with_text)


documents = st.lists(st.lists(st.tuples(texts, ratios), max_size=3), min_size=1, max_size=15)


@pytest.mark.parametrize("form", FORMS)
@given(pages=documents, numbering=st.sampled_from(sorted(NUMBERINGS)), data=st.data())
def test_any_partition_numbering_and_order_gives_the_result_of_a_single_batch(
    form: str, pages: list[Words], numbering: str, data: st.DataObject
) -> None:
    batches = [
        (Piece("r", part), FORMS[form](pages[part.first - 1 : part.last], part.first, numbering))
        for part in partition(data, len(pages))
    ]
    outcome = put_together(data.draw(st.permutations(batches)))
    assert outcome == in_a_row(FORMS[form](pages))
    assert outcome.merged.words == sum(map(len, pages))


@pytest.mark.parametrize("form", FORMS)
@given(pages=documents)
def test_the_plain_text_has_every_page_once_and_in_order(form: str, pages: list[Words]) -> None:
    expected = "\f".join(TEXTS[form](words).replace("\f", "\n") for words in pages)
    assert in_a_row(*(FORMS[form]([words]) for words in pages)).text == expected.encode(errors="replace")


@pytest.mark.parametrize("form", ["clova", "google responses"])
def test_of_a_batch_that_is_needed_in_part_the_right_part_is_taken(form: str) -> None:
    pages = [[(f"page {number}", 0.5), ("b", 1)] for number in range(1, 11)]
    batches = [
        (Piece(request, PageRange(first=first, last=last)), FORMS[form](pages[first - 1 : last], first))
        for request, first, last in (("b", 4, 6), ("a", 1, 8), ("c", 7, 10))
    ]
    made, whole = put_together(batches), in_a_row(FORMS[form](pages))
    assert (made.result, made.text) == (whole.result, whole.text)
    # Pages 4-8 came twice, and were billed twice.
    assert (made.merged.measured.billed_pages, whole.merged.measured.billed_pages) == (15, 10)
    assert made.merged.measured.model_copy(update={"billed_pages": 10}) == whole.merged.measured


def test_numbers_are_those_of_the_document_and_all_else_is_kept() -> None:
    words = [("a", 1.0), ("b", 0.5)]
    assert in_a_row(clova([words], numbering="one"), clova([[], words[:1], words])).result == {
        **clova([words, [], words[:1], words]),
        "usage": {"pages": 4, "t": 1},
    }
    halves = responses([words], numbering="one"), responses([[], words[:1], words])
    made = in_a_row(*halves).result
    assert [response.get("context", {}).get("pageNumber") for response in made.pop("responses")] == [1, 2, None, 4]
    assert made == {"inputConfig": {"mimeType": "m"}, "totalPages": 4, "numBilledPages": 4}


@pytest.mark.parametrize(
    "answer",
    [
        {
            "textAnnotations": None,
            "fullTextAnnotation": {"pages": [{"width": 1}], "text": None, "new": 1},
            "a": {"b": 1},
        },
        {
            "fullTextAnnotation": {"pages": [google_page([("a", 1)])]},
            "textAnnotations": [7, {"description": "no text"}],
        },
        {"fullTextAnnotation": {"pages": [], "text": "text only"}, "textAnnotations": []},
        {"fullTextAnnotation": {"pages": [{}, {}], "text": "  "}, "usage": 7},
        {"responses": [{"fullTextAnnotation": {"pages": [{}, {}]}, "context": {"pageNumber": 9}}, {}], "totalPages": 3},
        {"images": [{"fields": None, "convertedImageInfo": None, "tables": [1]}, {"fields": []}], "version": None},
    ],
)
def test_a_document_of_one_batch_is_written_as_it_came(answer: Json) -> None:
    assert in_a_row(answer).result == answer


def test_a_single_blank_page_in_the_one_annotation_form_is_one_page() -> None:
    outcome = in_a_row({"textAnnotations": []})
    assert (outcome.merged.pages, outcome.merged.words, outcome.text) == (1, 0, b"")
    assert outcome.result == {"fullTextAnnotation": {"pages": []}, "textAnnotations": []}
    made = in_a_row({"textAnnotations": []}, document([[("a", 1)]]), {"textAnnotations": []})
    assert made.result["fullTextAnnotation"]["pages"] == [{}, google_page([("a", 1)]), {}]
    assert (made.text, made.merged.pages, made.merged.words) == (b"\fa\n\f", 3, 1)


def test_the_text_of_a_page_without_words_is_the_text_beside_it() -> None:
    for annotation in ({"text": "all"}, {"text": "all", "pages": [{"width": 1}]}):
        assert in_a_row({"fullTextAnnotation": annotation}).text == b"all"
        assert in_a_row({"responses": [{"fullTextAnnotation": annotation}]}).text == b"all"
    assert in_a_row({"textAnnotations": [{"description": "all"}, {"description": "a"}]}).text == b"all"
    assert in_a_row({"textAnnotations": [{"description": "all"}, {"description": "a"}]}).merged.words == 1
    assert in_a_row({"responses": [{"textAnnotations": [{"description": "all"}]}]}).text == b"all"


def test_batches_whose_text_ends_within_a_line_are_divided_by_one() -> None:
    def batch(text: str) -> Json:
        pages = [google_page([(text, 1)])]
        return {
            "fullTextAnnotation": {"pages": pages, "text": text},
            "textAnnotations": entries(text + " \n", [(text, 1)]),
        }

    result = in_a_row(batch("a"), batch("b\n"), batch("c")).result
    assert result["fullTextAnnotation"]["text"] == "a\nb\nc"
    assert [annotation["description"] for annotation in result["textAnnotations"]] == ["a\nb\nc", "a", "b\n", "c"]


def test_a_part_of_a_batch_is_cut_out_where_its_text_can_be_made_from_its_pages() -> None:
    pages = [[("one", 1.0)], [], [("two", 1.0), ("too", 1.0)], [("three", 1.0)]]
    for text in (True, False):
        answer = document(pages)
        rest = document(pages[3:])
        for word_list in (answer, rest):
            del word_list["textAnnotations"]
            if not text:
                del word_list["fullTextAnnotation"]["text"]
        batches = [
            (Piece("b", PageRange(first=4, last=4)), rest),
            (Piece("a", PageRange(first=1, last=4)), answer),
        ]
        outcome = put_together(batches)
        assert outcome.text == b"one\n\f\ftwo too\n\fthree\n"
        assert outcome.result["fullTextAnnotation"].get("text") == ("one\ntwo too\nthree\n" if text else None)


A_WORD = google_page([("a", 1)])
FULL = document([[("a", 1)]])


def annotated(*entries: Any, **annotation: Any) -> Json:
    return {"fullTextAnnotation": annotation, **({"textAnnotations": list(entries)} if entries else {})}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([FULL, annotated("a", pages=[A_WORD], text="a")], "the first of the textAnnotations for pages 2 is not their"),
        ([annotated({"description": "b"}, pages=[A_WORD], text="a"), FULL], "first of the textAnnotations for pages 1"),
        ([annotated({"description": "a"}, pages=[A_WORD]), FULL], "first of the textAnnotations for pages 1"),
        ([FULL, annotated(pages=[A_WORD], text="a")], "the answer for pages 2 has different members"),
        ([FULL, annotated({"description": "a"}, pages=[A_WORD])], "text, textAnnotations, words on pages"),
        (
            [annotated(pages=[A_WORD]), annotated(pages=[A_WORD], text="a")],
            "the answer for pages 2 has different members",
        ),
        (
            [annotated(pages=[A_WORD], text="a"), annotated(pages=[{}], text="a")],
            "the answer for pages 2 has different members",
        ),
        ([FULL, annotated(text="a")], "the answer for pages 2 has text but no pages"),
        ([annotated(pages=[{}], text="a"), annotated(pages=[{}], text="b")], "the text of a single page is unknown"),
        ([annotated(pages=[{}, {}], text="a")], "the text of a single page is unknown"),
        ([{"responses": [annotated(pages=[{}, {}], text="a")]}], "the text of a single page is unknown"),
    ],
)
def test_what_cannot_be_merged_without_guessing_is_refused(answers: list[Json], words: str) -> None:
    with pytest.raises(DocumentFault, match=words) as caught:
        in_a_row(*answers)
    assert caught.value.code == "unmergeable"
    assert not caught.value.retry_helps
    assert "omit --schema" in str(caught.value)


def test_text_that_cannot_be_divided_by_page_hinders_nobody_who_does_not_ask_for_it(tmp_path: Path) -> None:
    answer = annotated(pages=[{}, {}], text="a")
    assert in_a_row(answer, answer, with_text=False).result["fullTextAnnotation"]["text"] == "a\na"
    (tmp_path / "result").write_text(json.dumps(answer))
    with pytest.raises(DocumentFault, match="the text of a single page is unknown"):
        write_text(tmp_path / "result", tmp_path / "text")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (document([[("a", 1)]] * 3), "arrived together with other pages, and their words"),
        (annotated(pages=[A_WORD] * 3, text="other"), "arrived together with other pages, and their text"),
        ({"responses": [annotated(pages=[A_WORD] * 3)]}, "share one response with other pages"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_pages_that_cannot_be_cut_out_of_a_batch_are_refused(answer: Json, words: str, first: bool) -> None:
    lone = {"responses": [annotated(pages=[A_WORD])]} if "responses" in answer else annotated(pages=[A_WORD], text="a")
    if "textAnnotations" in answer:
        lone = FULL
    number = 1 if first else 3
    batches = [
        (Piece("b", PageRange(first=number, last=number)), lone),
        (Piece("a", PageRange(first=1, last=3)), answer),
    ]
    with pytest.raises(DocumentFault, match=words) as caught:
        put_together(batches)
    assert caught.value.code == "unmergeable"


def test_whole_responses_of_several_pages_are_taken_as_they_came() -> None:
    several = {**annotated(pages=[A_WORD] * 2), "context": {"pageNumber": 5}}
    lone = {**annotated(pages=[A_WORD]), "context": {"pageNumber": 1}}
    outcome = in_a_row({"responses": [several, lone]}, {"responses": [lone, several]})
    made = outcome.result["responses"]
    assert [response["context"]["pageNumber"] for response in made] == [5, 3, 4, 5]
    assert outcome.text == b"\f".join([b"a\n"] * 6)


@pytest.mark.parametrize("before", FORMS)
@pytest.mark.parametrize("after", FORMS)
def test_forms_are_never_mixed_in_one_result(before: str, after: str) -> None:
    answers = [FORMS[form]([[("a", 1.0)]]) for form in (before, after)]
    assert shape_of(answers[0]) == before
    if before == after:
        merged = in_a_row(*answers).merged
        assert (merged.pages, merged.words) == (2, 2)
        return
    with pytest.raises(DocumentFault, match=r"pages 2 arrived in the .*, earlier pages in the .* one") as caught:
        in_a_row(*answers)
    assert caught.value.code == "wrong-answer"
    with pytest.raises(DocumentFault, match="cannot be merged"):
        in_a_row({"pages": [{}]}, clova([[]]))


def sometimes(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional={key: strategy | anything for key, strategy in members.items()})


vertices = sometimes(vertices=st.lists(sometimes(x=ratios)))
symbols = sometimes(text=texts, property=sometimes(detectedBreak=sometimes(type=st.sampled_from(["SPACE", 3]))))
google_words = st.lists(sometimes(symbols=st.lists(symbols, max_size=2), boundingBox=vertices), max_size=2)
paragraphs = st.lists(sometimes(words=google_words), max_size=2)
google_pages = st.lists(sometimes(blocks=st.lists(sometimes(paragraphs=paragraphs), max_size=1)), max_size=2)
wild_responses = sometimes(
    fullTextAnnotation=sometimes(pages=google_pages, text=texts),
    textAnnotations=st.lists(sometimes(description=texts), max_size=2),
    context=sometimes(pageNumber=anything),
)
fields = st.lists(sometimes(inferText=texts, boundingPoly=vertices, lineBreak=st.booleans()) | anything, max_size=2)
images = sometimes(fields=fields, convertedImageInfo=sometimes(pageIndex=anything), inferResult=st.just("SUCCESS"))
wild_answers = (
    st.lists(sometimes(images=st.lists(images, max_size=2), usage=anything), max_size=3)
    | st.lists(sometimes(responses=st.lists(wild_responses, max_size=2), totalPages=anything), max_size=3)
    | st.lists(wild_responses, max_size=3)
)


@settings(max_examples=500)
@given(wild_answers)
def test_no_answer_leads_to_anything_but_valid_json_or_a_fault(answers: list[Json]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    with tempfile.TemporaryDirectory() as folder:
        download, result, text = (Path(folder, name) for name in ("batch", "result", "text"))
        held: dict[Piece, Json] = {}
        try:
            for answer in answers:
                download.write_text(json.dumps(answer), encoding="utf-8")
                batch, first = read_batch(download, None), max((piece.pages.last for piece in held), default=0) + 1
                held[Piece(f"r{first}", PageRange(first=first, last=first + page_count(batch) - 1))] = batch
            shares = cover(max((piece.pages.last for piece in held), default=0), list(held)).shares
            merged = merge(shares, lambda share: held[share.piece], result, text)
        except Fault:
            return
        json.loads(result.read_bytes(), parse_constant=refuse)
        assert text.read_bytes().count(b"\f") == merged.pages - 1
        try:
            pages = list(read_pages(result))
        except DocumentFault as fault:
            assert "beyond 64 bits" in str(fault)  # noqa: PT017 - the only reason there may be
            return
        assert [page.number for page in pages] == list(range(1, merged.pages + 1))
        wanted = "\f".join(page.text.replace("\f", "\n") for page in pages)
        assert text.read_bytes() == wanted.encode(errors="replace")


@pytest.mark.parametrize("form", FORMS)
def test_memory_does_not_grow_with_the_document(tmp_path: Path, form: str) -> None:
    answer = FORMS[form]([[(f"word{number}", 0.5) for number in range(100)]] * 10)
    batch, text, short, long = (tmp_path / name for name in ("batch", "text", "short", "long"))
    batch.write_text(json.dumps(without_boxes(answer)))

    def put(pages: int, to: Path) -> None:
        pieces = [Piece("r", PageRange(first=first, last=first + 9)) for first in range(1, pages, 10)]
        merged = merge(cover(pages, pieces).shares, lambda _: read_batch(batch, 10), to, text)
        assert (merged.pages, merged.words) == (pages, 100 * pages)

    # The text alone of the longer document is 240 kB larger, all of its words are several MB larger.
    assert_peak_below(peak(lambda: put(50, short)) + 200_000, lambda: put(350, long))
    assert write_text(long, text) == 350
    # The parser holds one string at a time, and in these two forms the whole text is one, after the pages.
    limit = 800_000 if form in ("older", "google document") else 200_000
    assert_peak_below(peak(lambda: write_text(short, text)) + limit, lambda: write_text(long, text))


def assert_peak_below(limit: int, work: Callable[[], object]) -> None:
    """What other threads of this process allocate meanwhile adds to a peak, but not each time."""
    assert any(peak(work) < limit for _ in range(3))


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def without_boxes(value: Any) -> Any:
    """What is measured is whether words stay in memory, and measuring each box takes long."""
    if isinstance(value, dict):
        kept = {key: member for key, member in value.items() if not key.lower().startswith("bounding")}
        return {key: without_boxes(member) for key, member in kept.items()}
    return [without_boxes(member) for member in value] if isinstance(value, list) else value
