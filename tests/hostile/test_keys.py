"""A key is a stranger's text: whatever it is, its result lies where it should, and nothing that shows it breaks."""

import json
import unicodedata
from typing import Any

import markdown_it
import pytest
from botocore.exceptions import ClientError
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tasks.documents.files.formats import PDF, upload_name
from tasks.faults import DocumentFault
from tasks.job.outcome import Outcome
from tasks.job.record import Document, job_id
from tasks.report import RunReport
from tasks.steps.submit import submit_document
from tasks.store.location import Location, result_key
from tests.steps.conftest import World, pdf

LONGEST = 1024 - len("in/")
ROOM = 1024 - len("out/") - len(".ocr.json")
HOSTILE = [
    "a b  c.pdf", " leading.pdf", "trailing.pdf ", "/rooted.pdf", "//twice//.pdf", "back\\slash.pdf", "%2e%2e%2fa.pdf",
    "a+b%20c&d=e#f?g.pdf", "тест/日本語/😀.pdf", "e\u0301.pdf", "\u00e9.pdf", "\u202efdp.exe", "\u200b", "\ufeffa.pdf",
    "| a | b |.pdf", "`code`.pdf", "``|``.pdf", "[link](javascript:alert(1)).pdf", "![i](http://127.0.0.1/x).pdf",
    "<script>alert(1)</script>.pdf", "<img src=x onerror=alert(1)>", "# heading", "</td></table>.pdf", "&lt;b&gt;.pdf",
    "--flag.pdf", "$(id).pdf", "';drop table.pdf", "{0}{{x}}%s%d.pdf", "a.pdf.ocr.json", "a.pdf", "a.PDF", "a.pdf.",
    "../x", "a/../b", "..", "./a", "a/./b", "x/", "\x01", "\x1b[31m", "a\nb", "\r", "\t", "\x7f", "\ufffe",
    "x" * (ROOM - 4) + ".pdf", "é" * (ROOM // 2), "a/" * (ROOM // 2) + "b", "😀" * (ROOM // 4),
]  # fmt: skip
# What the S3 server of these tests, or XML itself, can hold is tried against the server; all else by rule alone.
keys = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


def report(*outcomes: Outcome) -> str:
    run = RunReport(flow="backfill", source="s3://in", destination="s3://out")
    for outcome in outcomes:
        run.add(outcome)
    return run.markdown()


def well_formed(page: str, rows: list[int]) -> None:
    """As a reader of GitHub's Markdown sees it: the tables are whole, and nothing of a key is markup."""
    html = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(page)
    tables = [part.partition("</table>")[0] for part in html.split("<table>")[1:]]
    assert [table.count("<tr>") for table in tables] == rows
    for table in tables:
        lines = table.split("<tr>")[1:]
        assert len({line.count("<td") + line.count("<th") for line in lines}) == 1
    for markup in ("<script", "<img", "<a ", "<a>", "<h3", "<hr", "<em>"):
        assert markup not in html
    assert html.count("<h1>") == 1


def put(world: World, key: str) -> Document | None:
    """A document of that name, with a text of its own; None when the test's server does not take such a key."""
    try:
        return world.put(pdf(1, f"number {len(key)} {sum(map(ord, key))}"), f"in/{key}")
    except (ClientError, StopIteration):
        return None


def recognised(world: World, names: list[str]) -> int:
    """Take the keys all the way, together, and prove what came of each. Gives how many the server took."""
    context = world.context()
    documents = [document for document in (put(world, name) for name in names) if document is not None]
    outcomes = [submit_document(context, document) for document in documents]
    for document, sent in zip(documents, outcomes, strict=True):
        assert sent.kind == "open", sent
        [outcome] = world.finish(context, document)
        assert outcome.kind == "done", outcome
        relative = document.key.removeprefix("in/")
        assert outcome.result == f"s3://{world.bucket}/out/{relative}.ocr.json"
        stored = world.s3.get_object(Bucket=world.bucket, Key=f"out/{relative}.ocr.json")
        [page] = json.loads(stored["Body"].read())["pages"]
        assert page["text"] == f"page 1 of number {len(relative)} {sum(map(ord, relative))}"
        metadata = stored["Metadata"]
        assert all(text.isascii() and text.isprintable() for pair in metadata.items() for text in pair)
        assert sum(len(name) + len(value) for name, value in metadata.items()) < 2048
        well_formed(report(outcome, Outcome("failed", "1", document.uri, message=f"about {relative}")), [2, 2, 2, 2])
    for billed in world.bill():
        assert set(billed["file_name"]) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
        assert len(billed["file_name"]) <= 110
    results = [key for key in world.listing("out/") if not key.startswith("out/_jobs/")]
    assert len(results) == len(documents)
    return len(documents)


def test_hostile_keys_are_recognised_side_by_side(world: World) -> None:
    assert recognised(world, HOSTILE) == len(HOSTILE)


@settings(max_examples=5)
@given(names=st.lists(keys, min_size=3, max_size=6, unique=True))
def test_any_keys_are_recognised_side_by_side(world: World, names: list[str]) -> None:
    for key in world.listing():
        world.s3.delete_object(Bucket=world.bucket, Key=key)
    recognised(world, names)


@pytest.mark.parametrize("name", ["x" * LONGEST, "é" * (LONGEST // 2), "x" * (ROOM + 1)])
def test_a_key_whose_result_would_be_too_long_is_refused_before_it_is_read(world: World, name: str) -> None:
    document = world.put(pdf(1), f"in/{name}")
    context = world.context()
    outcome = submit_document(context, document)
    assert outcome.kind == "failed"
    assert world.failed(document).code == "key-too-long"
    assert world.bill() == []
    well_formed(report(outcome), [2, 2, 2])


@given(st.text(st.characters(codec="utf-8"), max_size=400), st.text(max_size=300))
@example("\x00\x01\x1b[31m\x7f\x85\u2028\u2029\r\n", "\ud800")
@example("a\n\n# b\n\n| c |\n| - |\n", "</td>\n\n<script>")
@example("\\|", "\\")
@example("`" * 50, "|" * 50)
def test_no_key_and_no_message_breaks_the_report(key: str, message: str) -> None:
    uri = f"s3://in/{key}"
    page = report(Outcome("failed", "1", uri, message=message), Outcome("done", "2", uri, result=f"{uri}.ocr.json"))
    well_formed(page, [2, 2, 2, 2])


@given(keys, keys, st.sampled_from(["", "in", "in/a", "тест"]), st.sampled_from(["", "out", "in", "in/out"]))
@example("a", "a.ocr.json", "in", "in")
@example("/a", "a", "", "")
@example("e\u0301", "\u00e9", "in", "out")
@example("../a", "a", "in", "in/out")
@example("a/", "a", "in", "out")
def test_two_keys_never_share_a_result(one: str, other: str, source: str, destination: str) -> None:
    assume(one != other)
    at, to = Location.parse(f"s3://bucket/{source}"), Location.parse(f"s3://bucket/{destination}")
    results = {result_key(at, to, at.key(name)) for name in (one, other)}
    assert len(results) == 2
    assert results == {to.key(f"{name}.ocr.json") for name in (one, other)}
    assert all(result.startswith(to.prefix) for result in results)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=1100))
@example("é" * 1024)
def test_a_result_is_where_it_is_documented_or_the_key_is_too_long(key: str) -> None:
    at, to = Location.parse("s3://bucket/in"), Location.parse("s3://other/out")
    expected = f"out/{key}.ocr.json"
    try:
        assert result_key(at, to, f"in/{key}") == expected
    except DocumentFault as fault:
        assert fault.code == "key-too-long"  # noqa: PT017
        assert len(expected.encode()) > 1024


@given(st.text(st.characters(codec="utf-8"), max_size=1100))
def test_an_upload_name_is_safe_in_any_header_and_any_folder(key: str) -> None:
    name = upload_name(key, PDF)
    assert name.isascii()
    assert name.endswith(".pdf")
    assert not name.startswith((".", "-", "_"))
    assert not set(name) & set('/\\"\r\n\x00;:%')
    assert len(name) <= 104


@given(st.lists(keys, min_size=2, max_size=2, unique=True))
@example(["e\u0301", "\u00e9"])
def test_two_keys_never_share_a_job(names: list[str]) -> None:
    def named(name: str) -> str:
        fields: dict[str, Any] = {"etag": "e", "size": 1, "last_modified": "2026-07-01T00:00:00Z"}
        return job_id(Document(bucket="b", key=name, **fields), "ocr")

    assert len({named(name) for name in names}) == 2
    normal = {unicodedata.normalize("NFC", name) for name in names}
    assert normal  # S3 compares bytes: forms of the same letter are different keys
