"""The stand-in answers in the shapes of CLOVA and Google when asked to, and refuses async as told."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.local.upstage.errors import invalid_model
from deployments.local.upstage.recognise import Page, Word
from deployments.local.upstage.schemas import lines_of
from deployments.local.upstage.store import OcrRequest
from tests.deployments.local.process import StandIn
from tests.sample_documents import text_pdf

DOCUMENT = text_pdf(["first line\nand below", "", "last page"])
WORDS = ["first", "line", "and", "below"]


@pytest.fixture
def stand_in(stand_in: StandIn) -> StandIn:
    stand_in.set(limits={"batch_pages": 2})
    return stand_in


def boxes(polygons: list[dict[str, Any]]) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of polygons with four corners, clockwise from the top left."""
    found = []
    for polygon in polygons:
        one, two, three, four = ((vertex["x"], vertex["y"]) for vertex in polygon["vertices"])
        assert (one[1], two[0], three[1], four[0]) == (two[1], three[0], four[1], one[0])
        found.append((*one, *three))
    return found


def test_clova_has_an_image_a_page_and_a_field_a_word(stand_in: StandIn) -> None:
    request_id = stand_in.submit(DOCUMENT, "three.pdf", schema="clova")
    first, second = stand_in.results(request_id)
    assert (first["version"], first["requestId"], set(first)) == (
        "V2",
        request_id,
        {"version", "requestId", "timestamp", "images"},
    )
    page, blank = first["images"]
    [last] = second["images"]
    assert {image["inferResult"] for image in (page, blank, last)} == {"SUCCESS"}
    assert {image["name"] for image in (page, blank, last)} == {"three.pdf"}
    assert page["uid"] != blank["uid"]
    assert page["convertedImageInfo"] == {"width": 1240, "height": 1754, "pageIndex": 0, "longImage": False}
    assert blank["fields"] == []
    assert [field["inferText"] for field in page["fields"]] == WORDS
    assert [field["lineBreak"] for field in page["fields"]] == [False, True, False, True]
    assert [field["inferText"] for field in last["fields"]] == ["last", "page"]
    assert all(0.9 <= field["inferConfidence"] <= 1 for field in page["fields"])
    left, right, below, _ = boxes([field["boundingPoly"] for field in page["fields"]])
    assert left[2] < right[0] < 1240
    assert left[3] < below[1] < 1754
    # A batch is the same whenever it is downloaded.
    assert stand_in.results(request_id) == [first, second]


def test_clova_answers_a_sync_request_at_once(stand_in: StandIn) -> None:
    answer = stand_in.post("", DOCUMENT, schema="clova").json()
    assert [image["convertedImageInfo"]["pageIndex"] for image in answer["images"]] == [0, 1, 2]
    assert [[field["inferText"] for field in image["fields"]] for image in answer["images"]] == [
        WORDS,
        [],
        ["last", "page"],
    ]


@pytest.mark.parametrize(
    ("page_ids", "clova", "google"),
    [
        ("restart", [[0, 1], [0]], [[1, 2], [1]]),
        ("document", [[0, 1], [2]], [[1, 2], [3]]),
        ("one", [[1, 2], [1]], [[1, 2], [1]]),
    ],
)
def test_pages_are_numbered_as_told(
    stand_in: StandIn, page_ids: str, clova: list[list[int]], google: list[list[int]]
) -> None:
    stand_in.set(page_ids=page_ids)
    bodies = stand_in.results(stand_in.submit(DOCUMENT, schema="clova"))
    assert [[image["convertedImageInfo"]["pageIndex"] for image in body["images"]] for body in bodies] == clova
    bodies = stand_in.results(stand_in.submit(DOCUMENT, schema="google"))
    assert [[page["context"]["pageNumber"] for page in body["responses"]] for body in bodies] == google


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_google_has_a_response_a_page(stand_in: StandIn, mode: str) -> None:
    if mode == "sync":
        body = stand_in.post("", DOCUMENT, schema="google").json()
        assert set(body) == {"responses"}
        first, blank, last = body["responses"]
    else:
        bodies = stand_in.results(stand_in.submit(DOCUMENT, schema="google"))
        (first, blank), (last,) = (body["responses"] for body in bodies)
    assert blank == {"context": {"pageNumber": 2}}
    assert last["fullTextAnnotation"]["text"] == "last page"

    assert first["fullTextAnnotation"]["text"] == "first line\nand below"
    whole, *each = first["textAnnotations"]
    assert (whole["description"], whole["locale"]) == ("first line\nand below", "und")
    assert [word["description"] for word in each] == WORDS
    [page] = first["fullTextAnnotation"]["pages"]
    assert (page["width"], page["height"]) == (1240, 1754)
    assert 0.9 <= page["confidence"] <= 1
    [block] = page["blocks"]
    assert block["blockType"] == "TEXT"
    [paragraph] = block["paragraphs"]
    assert ["".join(symbol["text"] for symbol in word["symbols"]) for word in paragraph["words"]] == WORDS
    breaks = [[symbol.get("property") for symbol in word["symbols"]] for word in paragraph["words"]]
    assert {str(inner) for word in breaks for inner in word[:-1]} == {"None"}
    ends = [word[-1]["detectedBreak"]["type"] for word in breaks]
    assert ends == ["SPACE", "LINE_BREAK", "SPACE", "LINE_BREAK"]
    words = boxes([word["boundingBox"] for word in paragraph["words"]])
    assert words == boxes([word["boundingPoly"] for word in each])
    lefts, tops, rights, bottoms = zip(*words, strict=True)
    around = (min(lefts), min(tops), max(rights), max(bottoms))
    assert boxes([whole["boundingPoly"], block["boundingBox"], paragraph["boundingBox"]]) == [around] * 3


@pytest.mark.parametrize("page_ids", ["restart", "document", "one"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_google_may_put_all_pages_into_one_annotation(stand_in: StandIn, mode: str, page_ids: str) -> None:
    stand_in.set(google_form="document", page_ids=page_ids)
    if mode == "sync":
        bodies, expected = (
            [stand_in.post("", DOCUMENT, schema="google").json()],
            [(3, "first line\nand below\n\nlast page")],
        )
    else:
        bodies = stand_in.results(stand_in.submit(DOCUMENT, schema="google"))
        expected = [(2, "first line\nand below\n"), (1, "last page")]
    for body, (pages, text) in zip(bodies, expected, strict=True):
        assert set(body) == {"fullTextAnnotation", "textAnnotations"}
        annotation = body["fullTextAnnotation"]
        assert (len(annotation["pages"]), annotation["text"]) == (pages, text)
        whole, *each = body["textAnnotations"]
        assert whole["description"] == text
        assert [word["description"] for word in each] == text.split()
    assert [len(page["blocks"]) for page in bodies[0]["fullTextAnnotation"]["pages"]][:2] == [1, 0]


@pytest.mark.parametrize(
    ("schema", "form", "nothing"),
    [
        ("clova", "responses", {"images": []}),
        ("google", "responses", {"responses": []}),
        ("google", "document", {"fullTextAnnotation": {"pages": [], "text": ""}, "textAnnotations": []}),
    ],
)
def test_a_batch_may_lack_all_its_pages(stand_in: StandIn, schema: str, form: str, nothing: dict[str, Any]) -> None:
    stand_in.set(google_form=form, short_batches=[{"batch": 1}])
    body = stand_in.results(stand_in.submit(DOCUMENT, schema=schema))[1]
    assert {key: body[key] for key in nothing} == nothing


def test_a_restart_remembers_what_was_asked_for(stand_in: StandIn) -> None:
    request_id = stand_in.submit(DOCUMENT, schema="google")
    stand_in.finished(request_id)
    kept = (stand_in.data_dir / "requests" / f"{request_id}.json").read_text()
    assert OcrRequest.model_validate_json(kept).answer_schema == "google"
    # Folders of an older stand-in say nothing about it.
    older = OcrRequest.model_validate_json(kept.replace('"answer_schema":"google",', ""))
    assert older.answer_schema is None


@pytest.mark.parametrize("schema", ["", "upstage", "Google", "clova,google"])
def test_another_schema_is_refused(stand_in: StandIn, schema: str) -> None:
    for path in ("", "/async"):
        answer = stand_in.post(path, DOCUMENT, schema=schema)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == "invalid schema"


@pytest.mark.parametrize(
    ("status", "message"), [(400, invalid_model().message), (404, "not found"), (405, "method not allowed")]
)
def test_async_is_refused_as_told(stand_in: StandIn, status: int, message: str) -> None:
    before = stand_in.control("bill")
    stand_in.set(refuse_async=True, refuse_async_status=status, nested_errors=[])
    answer = stand_in.post("/async", DOCUMENT)
    assert (answer.status_code, answer.json()) == (status, {"code": status, "message": message})
    assert stand_in.control("bill") == before
    assert stand_in.post("", DOCUMENT).status_code == 200


def test_recognition_may_divide_a_line_otherwise_than_by_its_spaces() -> None:
    def page(text: str, *words: str) -> Page:
        corners = ((0, 0), (1, 0), (1, 1), (0, 1))
        return Page(
            width=9, height=9, text=text, words=[Word(text=word, confidence=1, corners=corners) for word in words]
        )

    def divided(text: str, *words: str) -> list[list[str]]:
        return [[word.text for word in line] for line in lines_of(page(text, *words))]

    assert divided("ab c\n\nde", "a", "b", "c", "de") == [["a", "b", "c"], ["de"]]
    assert divided("ab c\nde", "ab c", "d", "e") == [["ab c"], ["d", "e"]]
    assert divided("ab\ncd\nef", "ab", "cdef") == [["ab"], ["cdef"]]
    assert divided("ab", "ab", "more") == [["ab"], ["more"]]
    assert divided("") == []
