"""A result is read page by page, whoever wrote it and however it is laid out; what is no result is said to be none."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.documents.results.read import read_pages, write_text
from tasks.documents.results.words import ResultPage, ResultWord
from tasks.faults import DocumentFault
from tests.documents.results.answers import FORMS, Json

CORNERS = ((1.0, 2.0), (3.5, 4.0))
VERTICES = [{"x": 1, "y": 2}, {"x": 3.5, "y": 4}]


def pages_of(tmp_path: Path, result: Any) -> list[ResultPage]:
    file = tmp_path / "result.json"
    file.write_text(result if isinstance(result, str) else json.dumps(result), encoding="utf-8")
    return list(read_pages(file))


def google_word(text: str, mark: str | int | None = None, **more: Any) -> Json:
    last = {"text": text[-1], "property": {"detectedBreak": {"type": mark}} if mark is not None else None}
    return {"symbols": [*({"text": letter} for letter in text[:-1]), last], **more}


def google_page(*words: Json) -> Json:
    return {"blocks": [{"paragraphs": [{"words": list(words)}]}]}


WORD = ResultWord("a", 0.5, CORNERS)


@pytest.mark.parametrize(
    "result",
    [
        {"pages": [{"text": "a", "words": [{"text": "a", "confidence": 0.5, "bounding_box": {"vertices": VERTICES}}]}]},
        {"pages": [{"text": "a", "words": [{"text": "a", "confidence": 0.5, "boundingBox": {"vertices": VERTICES}}]}]},
        {"images": [{"fields": [{"inferText": "a", "inferConfidence": 0.5, "boundingPoly": {"vertices": VERTICES}}]}]},
        {
            "responses": [
                {
                    "fullTextAnnotation": {
                        "pages": [google_page(google_word("a", confidence=0.5, boundingBox={"vertices": VERTICES}))],
                        "text": "a",
                    }
                }
            ]
        },
        {
            "fullTextAnnotation": {
                "pages": [google_page(google_word("a", confidence=0.5, boundingBox={"normalizedVertices": VERTICES}))]
            }
        },
    ],
)
def test_words_are_the_same_in_every_form(tmp_path: Path, result: Json) -> None:
    assert pages_of(tmp_path, result) == [ResultPage(1, "a", (WORD,))]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("last", [True, False])
def test_the_layout_and_the_order_of_members_do_not_matter(
    tmp_path: Path, form: str, indent: int | None, last: bool
) -> None:
    answer = FORMS[form]([[("a", 0.5)], [], [("b", 1), ("c", 0.25), ("d", 0)]])
    shuffled = dict(reversed(answer.items())) if last else answer
    found = pages_of(tmp_path, json.dumps(shuffled, indent=indent, ensure_ascii=last))
    assert [page.number for page in found] == [1, 2, 3]
    assert [[word.text for word in page.words] for page in found] == [["a"], [], ["b", "c", "d"]]
    assert [[word.confidence for word in page.words] for page in found] == [[0.5], [], [1, 0.25, 0]]
    assert [page.text.split() for page in found] == [["a"], [], ["b", "c", "d"]]
    assert {len(word.box) for page in found for word in page.words} == {4}


@pytest.mark.parametrize("absent", [None, 7, [], "x"])
def test_a_box_that_is_none_does_not_hide_the_one_beside_it(tmp_path: Path, absent: Any) -> None:
    for name, other in (("bounding_box", "boundingBox"), ("boundingBox", "bounding_box")):
        word = {"text": "a", "confidence": 0.5, name: absent, other: {"vertices": VERTICES}}
        assert pages_of(tmp_path, {"pages": [{"text": "a", "words": [None, word]}]}) == [ResultPage(1, "a", (WORD,))]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**19, 10**400, -(10**4000)])
@pytest.mark.parametrize("where", ["before", "in", "after"])
def test_integers_beyond_64_bits_are_read_wherever_they_stand(tmp_path: Path, number: int, where: str) -> None:
    pages: list[Json] = [{"text": text, "words": [{"text": text}]} for text in "abc"]
    result: Json = {"pages": pages}
    if where == "in":
        pages[1]["words"][0]["id"] = number
    else:
        result = {"x": number, **result} if where == "before" else {**result, "x": number}
    assert [(page.number, page.text) for page in pages_of(tmp_path, result)] == [(1, "a"), (2, "b"), (3, "c")]
    assert len(pages_of(tmp_path, {"x": number, "fullTextAnnotation": {"pages": [google_page(google_word("a"))]}})) == 1


def test_the_text_of_the_own_form_is_made_from_words_where_it_lacks(tmp_path: Path) -> None:
    words = [{"text": "a"}, {"text": None}, 7, {"text": "b"}]
    found = pages_of(
        tmp_path, {"pages": [{"words": words}, {"text": None, "words": words}, {"text": "", "words": words}]}
    )
    assert [page.text for page in found] == ["a b", "a b", ""]


def test_lines_of_clova_end_where_it_says(tmp_path: Path) -> None:
    fields = [{"inferText": "a"}, {"inferText": "b", "lineBreak": True}, {"inferText": "c", "lineBreak": True}]
    assert pages_of(tmp_path, {"images": [{"fields": fields}, {"fields": None}, {}]}) == [
        ResultPage(1, "a b\nc", (ResultWord("a", None, ()), ResultWord("b", None, ()), ResultWord("c", None, ()))),
        ResultPage(2, "", ()),
        ResultPage(3, "", ()),
    ]


@pytest.mark.parametrize(
    ("mark", "between"),
    [
        ("SPACE", " "),
        ("SURE_SPACE", " "),
        ("EOL_SURE_SPACE", "\n"),
        ("LINE_BREAK", "\n"),
        ("HYPHEN", "-\n"),
        ("UNKNOWN", ""),
        (1, " "),
        (3, "\n"),
        (4, "-\n"),
        (5, "\n"),
        (0, ""),
    ],
)
def test_breaks_of_google_stand_in_the_text(tmp_path: Path, mark: str | int, between: str) -> None:
    page = google_page(google_word("ab", mark), google_word("cd", "SPACE"))
    assert pages_of(tmp_path, {"fullTextAnnotation": {"pages": [page]}})[0].text == f"ab{between}cd "


def test_breaks_of_google_may_come_before_a_symbol_or_not_at_all(tmp_path: Path) -> None:
    before = google_word("bc")
    before["symbols"][0]["property"] = {"detectedBreak": {"type": "SPACE", "isPrefix": True}}
    pages = [
        google_page(google_word("a"), before),
        {"blocks": [{"paragraphs": [{"words": [google_word("a"), google_word("b")]}, {"words": [{"text": "whole"}]}]}]},
    ]
    found = pages_of(tmp_path, {"fullTextAnnotation": {"pages": pages}})
    assert [page.text for page in found] == ["a bc", "a b\nwhole"]
    assert found[1].words[2] == ResultWord("whole", None, ())


def test_corners_at_the_edge_are_those_that_google_leaves_out(tmp_path: Path) -> None:
    box = {"vertices": [{}, {"x": 5}, {"x": 5, "y": 6}, {"y": 6}]}
    page = google_page(google_word("a", boundingBox=box))
    word = pages_of(tmp_path, {"fullTextAnnotation": {"pages": [page]}})[0].words[0]
    assert word.box == ((0, 0), (5, 0), (5, 6), (0, 6))
    own = {"pages": [{"words": [{"text": "a", "bounding_box": box}]}]}
    assert pages_of(tmp_path, own)[0].words[0].box == ()


def test_a_response_of_several_pages_is_several_pages(tmp_path: Path) -> None:
    both = {"pages": [google_page(google_word("a", "SPACE")), google_page(google_word("b", "SPACE"))], "text": "a b "}
    found = pages_of(tmp_path, {"responses": [{"fullTextAnnotation": both}, {}]})
    assert [(page.number, page.text, len(page.words)) for page in found] == [(1, "a ", 1), (2, "b ", 1), (3, "", 0)]


def test_what_google_says_of_a_page_without_pages_is_read(tmp_path: Path) -> None:
    answer = {"textAnnotations": [{"description": "a b"}, {"description": "a", "boundingPoly": {"vertices": VERTICES}}]}
    expected = [ResultPage(1, "a b", (ResultWord("a", None, CORNERS),))]
    assert pages_of(tmp_path, answer) == expected
    assert pages_of(tmp_path, {"responses": [answer]}) == expected


def test_plain_text_has_a_form_feed_between_pages_only(tmp_path: Path) -> None:
    result, text = tmp_path / "result", tmp_path / "text"
    pages = [{"text": "a\r\n\f"}, {"text": ""}, {"text": "\ud83d é 🙂 \udc00"}]
    result.write_text(json.dumps({"pages": pages}))
    assert write_text(result, text) == 3
    assert text.read_bytes().decode() == "a\r\n\n\f\f? é 🙂 ?"


pieces = st.text(st.sampled_from('\\"u/ad8\n\ud83d\ude00\udc00é가🙂'), max_size=40)


@settings(max_examples=300)
@given(pieces, st.integers(65_470, 65_540), st.booleans())
def test_every_string_is_read_as_python_would_write_it_wherever_the_file_is_divided(
    tmp_path: Path, text: str, padding: int, upper: bool
) -> None:
    file = tmp_path / "result"
    body = json.dumps({"pages": [{"text": "x" * padding + text}, {"text": text}]})
    if upper:  # a backslash and a letter of either case is no other escape
        body = body.replace("\\ud", "\\uD") if "\\\\" not in body else body
    file.write_text(body, encoding="ascii")
    # Halves of a pair are one character in JSON.
    read = json.loads(json.dumps(text)).encode(errors="replace").decode()
    assert [page.text for page in read_pages(file)] == ["x" * padding + read, read]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "7",
        "[]",
        "{}",
        "<html></html>",
        '{"pages": null}',
        '{"pages": []}',
        '{"pages": [7]}',
        '{"pages": [{}, null]}',
        '{"pages": [{}',
        '{"pages": [{}], "text": "',
        '{"pages": [{}]} {}',
        '{"pages": [{"a": NaN}]}',
        '{"pages": [{"a": 1e999}]}',
        '{"pages": [{"a": %s}]}' % ("9" * 5000),
        '{"pages": [{"text": "\udcff"}]}',
        '{"images": []}',
        '{"responses": []}',
        '{"responses": [7]}',
        '{"fullTextAnnotation": 7}',
        '{"fullTextAnnotation": {"pages": [7]}}',
        '{"fullTextAnnotation": {"pages": [7, {}]}}',
        '{"deeper": {"pages": [{}]}}',
        '{"error": {"message": "no"}}',
        '{"a": %s}' % ("[" * 100_000),
    ],
)
def test_what_is_no_result_is_said_to_be_none(tmp_path: Path, body: str) -> None:
    file = tmp_path / "result"
    file.write_bytes(body.encode(errors="surrogateescape"))
    with pytest.raises(
        DocumentFault, match=r"the file is not a result of the API: .* Recognise the document again"
    ) as caught:
        write_text(file, tmp_path / "text")
    assert caught.value.code == "no-result"


@pytest.mark.parametrize("form", FORMS)
def test_a_cut_result_is_never_taken_for_a_whole_one(tmp_path: Path, form: str) -> None:
    file = tmp_path / "result"
    whole = json.dumps(FORMS[form]([[("a", 1)], []])).encode()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(DocumentFault):
            list(read_pages(file))
    file.write_bytes(whole)
    assert len(list(read_pages(file))) == 2
