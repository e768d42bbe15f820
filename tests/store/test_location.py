"""Addresses: what can be one, and that no two documents share a result."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.faults import DocumentFault, SetupFault
from tasks.store.location import Location, is_output, may_be_output, pdf_key, result_key

_segment = st.text(st.characters(exclude_characters="/", codec="utf-8"), min_size=1, max_size=8)
_prefix = st.lists(_segment, max_size=4).map("/".join)
_bucket = st.from_regex(r"[a-z0-9][a-z0-9.-]{1,20}[a-z0-9]", fullmatch=True)
_key = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(bucket=_bucket, prefix=_prefix, slash=st.sampled_from(["", "/"]))
def test_an_address_survives_being_written_and_read(bucket: str, prefix: str, slash: str) -> None:
    location = Location.parse(f"s3://{bucket}/{prefix}{slash}")
    assert location == Location(bucket, f"{prefix}/" if prefix else "")
    assert Location.parse(str(location)) == location


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("s3://scans", "scans", ""),
        ("s3://scans/", "scans", ""),
        ("S3://scans/2026", "scans", "2026/"),
        ("s3://Old_Bucket/a b/ü", "Old_Bucket", "a b/ü/"),
        ("s3://scans/a?b#c%20d", "scans", "a?b#c%20d/"),
    ],
)
def test_what_people_write_is_understood(uri: str, bucket: str, prefix: str) -> None:
    assert Location.parse(uri) == Location(bucket, prefix)


@pytest.mark.parametrize(
    "uri",
    [
        "", "scans", "scans/a", "/tmp/scans", "s3:/scans/a", "s3//scans", "s3://", "s3:///a", "s3://ab", "s3://-scans",
        "s3://scans-/a", "s3://sc ans/a", "https://scans.s3.amazonaws.com/a", "s3://" + "a" * 64, "s3://user@scans/a",
        "s3://scans\n/a",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_the_right_way_to_write_it(uri: str) -> None:
    with pytest.raises(SetupFault) as refused:
        Location.parse(uri)
    assert f"'{uri}'" in str(refused.value)
    assert "s3://bucket/prefix" in str(refused.value)


def test_a_prefix_is_a_folder_and_never_the_beginning_of_another_name() -> None:
    location = Location.parse("s3://archive/scans")
    assert not "scans-old/a.pdf".startswith(location.prefix)
    assert location.relative("scans-old/a.pdf") == "scans-old/a.pdf"
    assert location.relative("scans/a.pdf") == "a.pdf"


@given(prefix=_prefix, first=_key, second=_key)
def test_no_two_documents_share_a_result(prefix: str, first: str, second: str) -> None:
    source, destination = Location("in", f"{prefix}/" if prefix else ""), Location("out", "results/")
    keys = [result_key(source, destination, source.key(name)) for name in (first, second)]
    assert (keys[0] == keys[1]) == (first == second)


@given(prefix=_prefix, key=_key)
def test_a_result_lies_where_the_document_does_relative_to_the_source(prefix: str, key: str) -> None:
    source, destination = Location("in", f"{prefix}/" if prefix else ""), Location("out", "results/")
    assert result_key(source, destination, source.key(key)) == f"results/{key}.ocr.json"


def test_documents_that_differ_in_their_extension_alone_keep_their_own_results() -> None:
    source, destination = Location.parse("s3://inbox/a"), Location.parse("s3://out")
    assert result_key(source, destination, "a/b.pdf") == "b.pdf.ocr.json"
    assert result_key(source, destination, "a/b.png") == "b.png.ocr.json"


def test_a_document_named_as_the_source_gives_a_result_of_its_own_name() -> None:
    source, destination = Location.parse("s3://inbox/a/b.pdf"), Location.parse("s3://out/r")
    assert result_key(source, destination, "a/b.pdf") == "r/b.pdf.ocr.json"


def test_a_result_key_longer_than_s3_allows_is_the_documents_fault() -> None:
    source, destination = Location("in", ""), Location("out", "")
    longest = "k" * (1024 - len(".ocr.json"))
    assert len(result_key(source, destination, longest)) == 1024
    with pytest.raises(DocumentFault, match=r"1025 bytes.*1024"):
        result_key(source, destination, longest + "k")


def test_the_length_of_a_key_counts_bytes_not_letters() -> None:
    with pytest.raises(DocumentFault, match="shorten"):
        result_key(Location("in", ""), Location("out", ""), "ü" * 600)


@pytest.mark.parametrize(
    ("document", "result"),
    [("a/b.pdf", "a/b.pdf.ocr.json"), ("b.TIFF", "b.TIFF.ocr.json"), ("b.hwp", "b.hwp.ocr.ocr-250904.google.json")],
)
def test_the_searchable_pdf_of_a_result_is_no_document(document: str, result: str) -> None:
    assert pdf_key(result) == f"{result.removesuffix('.json')}.pdf"
    assert is_output(pdf_key(result))
    assert not is_output(document)


@pytest.mark.parametrize("key", ["scan.ocr.pdf", "in/report.ocr.final.pdf", "v1.2.ocr.pdf"])
def test_a_document_that_is_called_like_an_output_is_looked_at(key: str) -> None:
    assert not is_output(key)
    assert may_be_output(key)


def test_other_documents_are_not_looked_at() -> None:
    assert not any(map(may_be_output, ["a.pdf", "ocr.pdf", "a.pdf.ocr.pdf", "a.ocr.json"]))
