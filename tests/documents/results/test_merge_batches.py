"""What is taken for a batch of another service's answer form, and what is not."""

import json
from pathlib import Path

import pytest

from tasks.documents.results.batch import BatchIncomplete, BatchUnreadable, page_count, read_batch
from tests.documents.results.answers import FORMS, Json


def read(tmp_path: Path, body: str, pages: int | None) -> Json:
    file = tmp_path / "batch"
    file.write_text(body, encoding="utf-8")
    return read_batch(file, pages)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_whose_page_count_nobody_knows_is_read(tmp_path: Path, form: str) -> None:
    body = json.dumps(FORMS[form]([[("a", 1)], [], [("b", 1)]]))
    assert page_count(read(tmp_path, body, None)) == page_count(read(tmp_path, body, 3)) == 3
    with pytest.raises(BatchIncomplete, match="has 3 pages instead of 4"):
        read(tmp_path, body, 4)


@pytest.mark.parametrize(
    "body",
    [
        '{"images": 7}',
        '{"images": {"fields": []}}',
        '{"images": [7]}',
        '{"images": [null]}',
        '{"images": [[]]}',
        '{"responses": {}}',
        '{"responses": [null]}',
        '{"responses": [{"responses": [{}]}]}',
        '{"fullTextAnnotation": null}',
        '{"fullTextAnnotation": []}',
        '{"textAnnotations": {}}',
        '{"textAnnotations": [1e999]}',
        '{"textAnnotations": [-123.5E+0309]}',
        '{"textAnnotations": [%s.5]}' % ("9" * 309),
        '{"textAnnotations": [NaN]}',
        '{"images": %s}' % ("[" * 100_000),
        '{"error": {"code": 400}}',
    ],
)
def test_what_has_no_known_form_is_no_batch(tmp_path: Path, body: str) -> None:
    with pytest.raises(BatchUnreadable) as caught:
        read(tmp_path, body, 1)
    assert not isinstance(caught.value, BatchIncomplete)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"images": []}', "has no pages"),
        ('{"responses": []}', "has no pages"),
        ('{"pages": []}', "has no pages"),
        ('{"images": [{"fields": 7}]}', "no list of fields"),
        (
            '{"images": [{}, {"inferResult": "ERROR"}]}',
            "page 2 of a batch was not recognised: its inferResult is 'ERROR'",
        ),
        ('{"images": [{"inferResult": "FAILURE", "fields": []}]}', "page 1 of a batch was not recognised"),
        ('{"images": [{"inferResult": {"a": 1}}]}', "was not recognised"),
        ('{"responses": [{"error": {"code": 3, "message": "bad image"}}]}', "was not recognised: .*bad image"),
        ('{"fullTextAnnotation": {}, "error": {"code": 3}}', "was not recognised"),
        ('{"responses": [{"fullTextAnnotation": 7}]}', "fullTextAnnotation of a batch is not an object"),
        ('{"responses": [{"fullTextAnnotation": {"pages": 7}}]}', "no list of pages"),
        ('{"responses": [{"fullTextAnnotation": {"pages": [7]}}]}', "no list of pages"),
        ('{"fullTextAnnotation": {"pages": [7]}}', "no list of pages"),
        ('{"fullTextAnnotation": {"text": 7}}', "the text of a batch is not a string"),
        ('{"responses": [{"textAnnotations": 7}]}', "textAnnotations of a batch are not a list"),
        ('{"fullTextAnnotation": {}, "textAnnotations": 7}', "textAnnotations of a batch are not a list"),
    ],
)
def test_an_answer_without_its_pages_is_incomplete(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(BatchIncomplete, match=words):
        read(tmp_path, body, None)


@pytest.mark.parametrize("number", ["1e99", "1E+308", "1e-999", "page0e123", "9" * 300, "0.%s" % ("9" * 400)])
def test_numbers_that_are_large_but_finite_are_read(tmp_path: Path, number: str) -> None:
    value = number if number[0] != "p" else f'"{number}"'
    body = '{"pages": [{"text": "0e123 0e+456", "new": ' + value + "}]}"
    assert read(tmp_path, body, 1)["pages"][0]["new"] == json.loads(value)
    (tmp_path / "wide").write_bytes(body.encode("utf-16"))
    assert read_batch(tmp_path / "wide", 1) == json.loads(body)
    (tmp_path / "wide").write_bytes(body.replace(value, "1e999").encode("utf-16"))
    with pytest.raises(BatchUnreadable):
        read_batch(tmp_path / "wide", 1)
