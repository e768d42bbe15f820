"""What a selection means for a source: the same documents from a listing, from keys, a manifest or an inventory."""

import csv
import gzip
import io
import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from tasks.context import RunContext
from tasks.faults import SetupFault, TransientFault
from tasks.job.record import Document
from tasks.report import RunReport
from tasks.selection import Selection
from tasks.steps.discover import LISTED, Missing, discover, several
from tasks.steps.submit import submit_document
from tasks.tally import KnownJobs
from tests.steps.conftest import World, pdf
from tests.store.flaky_s3 import FlakyS3, Rule
from tests.waiting import PATIENCE

HOSTILE = [
    "in/../../a.pdf",
    "in//a//b.pdf",
    "in/a b+c%20ü.pdf",
    "in/[a]{b,c}*.pdf",
    'in/quo"te, comma.pdf',
    "in/문서.pdf",
]


def selecting(context: RunContext, **fields: Any) -> RunContext:
    """The context, for a selection of documents."""
    context.settings = context.settings.model_copy(update={"selection": Selection.model_validate(fields)})
    return context


def found(context: RunContext, folder: Path, missing: Missing | None = None) -> list[Document]:
    """The documents discovered, against a fresh look at the ledger."""
    with KnownJobs(folder) as known:
        known.load(context.ledger)
        return [candidate.document for candidate in discover(context, known, missing)]


def whole_seconds(documents: list[Document]) -> list[Document]:
    """Only a listing tells fractions of a second, and not on every store."""
    return [
        document.model_copy(update={"last_modified": document.last_modified.replace(microsecond=0)})
        for document in documents
    ]


def keys(context: RunContext, folder: Path, missing: Missing | None = None) -> list[str]:
    """Their keys."""
    return [document.key for document in found(context, folder, missing)]


def inventory_of(world: World, prefix: str = "in/", **changes: Any) -> str:
    """An S3 Inventory of the world's bucket as it is now. Gives its address."""
    out = io.StringIO()
    for page in world.s3.get_paginator("list_objects_v2").paginate(Bucket=world.bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            key, modified = quote_plus(item["Key"], safe="/"), item["LastModified"].astimezone(UTC)
            row = [world.bucket, key, str(item["Size"]), f"{modified:%Y-%m-%dT%H:%M:%S.000Z}", item["ETag"].strip('"')]
            csv.writer(out, quoting=csv.QUOTE_ALL).writerow(row)
    world.s3.put_object(Bucket=world.bucket, Key="lists/0.csv.gz", Body=gzip.compress(out.getvalue().encode()))
    manifest = {
        "sourceBucket": world.bucket,
        "destinationBucket": f"arn:aws:s3:::{world.bucket}",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, LastModifiedDate, ETag",
        "files": [{"key": "lists/0.csv.gz"}],
    }
    world.s3.put_object(Bucket=world.bucket, Key="lists/manifest.json", Body=json.dumps(manifest | changes).encode())
    return f"s3://{world.bucket}/lists/manifest.json"


def manifest_of(world: World, *names: str) -> str:
    """A manifest in the bucket. Gives its address."""
    body = "\n".join(map(json.dumps, names)).encode()
    world.s3.put_object(Bucket=world.bucket, Key="lists/keys.jsonl", Body=body)
    return f"s3://{world.bucket}/lists/keys.jsonl"


def test_every_origin_gives_the_same_documents(world: World, tmp_path: Path) -> None:
    expected = sorted((world.put(b"x" * size, key) for size, key in enumerate(HOSTILE)), key=lambda each: each.key)
    listed = found(world.context(), tmp_path)
    assert listed == expected
    origins: list[dict[str, Any]] = [
        {"key": [document.key for document in expected]},
        {"key": [document.uri for document in expected]},
        {"manifest": manifest_of(world, *(document.key for document in expected))},
        {"inventory": inventory_of(world)},
    ]
    for origin in origins:
        missing = Missing()
        documents = found(selecting(world.context(), **origin), tmp_path, missing)
        assert whole_seconds(documents) == whole_seconds(expected), origin
        assert missing.count == 0


def test_a_document_is_one_job_whatever_it_was_found_by(world: World, tmp_path: Path) -> None:
    document = world.put(pdf(1), "in/a b.pdf")
    [by_inventory] = found(selecting(world.context(), inventory=inventory_of(world)), tmp_path)
    assert submit_document(world.context(), by_inventory).kind == "open"
    assert submit_document(world.context(), document).kind == "skipped"


@pytest.mark.parametrize("origin", ["listing", "keys", "manifest", "inventory"])
def test_names_sizes_and_times_apply_to_every_origin(world: World, tmp_path: Path, origin: str) -> None:
    names = ["in/2024/a.pdf", "in/2024/b.txt", "in/2024/draft.pdf", "in/2025/a.pdf", "in/2024/large.pdf", "in/a.pdf"]
    for name in names:
        world.put(b"x" * (100 if "large" in name else 10), name)
    origins: dict[str, dict[str, Any]] = {
        "listing": {},
        "keys": {"key": names},
        "manifest": {"manifest": manifest_of(world, *names)},
        "inventory": {"inventory": inventory_of(world)},
    }
    origin_fields = origins[origin]

    def taken(**fields: Any) -> list[str]:
        missing = Missing()
        picked = keys(selecting(world.context(), **origin_fields, **fields), tmp_path, missing)
        assert missing.count == 0, "what is left out is not missing"
        return sorted(key.removeprefix("in/") for key in picked)

    assert taken(include=["2024/**"], exclude=["draft*"], only_supported=True) == ["2024/a.pdf", "2024/large.pdf"]
    assert taken(max_bytes=10, include=["a.pdf"]) == ["2024/a.pdf", "2025/a.pdf", "a.pdf"]
    assert taken(min_bytes=100) == ["2024/large.pdf"]
    assert taken(modified_after=datetime(2099, 1, 1)) == []
    assert len(taken(modified_before=datetime(2099, 1, 1), modified_after=datetime(2000, 1, 1))) == len(names)


@pytest.mark.parametrize("origin", ["listing", "keys", "manifest", "inventory"])
def test_what_we_wrote_and_folders_are_left_out_of_every_origin(world: World, tmp_path: Path, origin: str) -> None:
    names = ["in/a.pdf", "in/a.pdf.ocr.json", "in/_jobs/done/0.json", "in/_jobs/open/a.pdf", "in/sub/"]
    for name in names:
        world.put(b"x", name)
    origins: dict[str, dict[str, Any]] = {
        "listing": {},
        "keys": {"key": names},
        "manifest": {"manifest": manifest_of(world, *names)},
        "inventory": {"inventory": inventory_of(world)},
    }
    context = selecting(world.context(destination="in"), **origins[origin])
    missing = Missing()
    assert keys(context, tmp_path, missing) == ["in/a.pdf"]
    assert missing.count == 0


@pytest.mark.parametrize("origin", ["key", "manifest"])
def test_named_documents_that_are_not_there_are_told(world: World, tmp_path: Path, origin: str) -> None:
    for name in ("in/a.pdf", "in/b.pdf", "out-of-it.pdf", "in-old/c.pdf"):
        world.put(b"x", name)
    names = ["in/b.pdf", "in/gone.pdf", "out-of-it.pdf", "in/a.pdf", "in-old/c.pdf", "s3://elsewhere/in/a.pdf", "a.pdf"]
    names += ["in/" + "x" * 1100, "in/gone.pdf", f"s3://{world.bucket}/in/a.pdf"]
    selection_fields = {"key": names} if origin == "key" else {"manifest": manifest_of(world, *names)}
    missing = Missing()
    assert keys(selecting(world.context(), **selection_fields), tmp_path, missing) == ["in/b.pdf", "in/a.pdf"], (
        "each once"
    )
    assert missing.count == 6
    assert set(missing.first) == {
        f"s3://{world.bucket}/{key}" for key in ("in/gone.pdf", "out-of-it.pdf", "in-old/c.pdf", "a.pdf", names[7])
    } | {"s3://elsewhere/in/a.pdf"}


def test_only_the_first_of_many_missing_documents_are_kept(world: World, tmp_path: Path) -> None:
    names = [f"elsewhere/{number}.pdf" for number in range(LISTED + 20)]
    missing = Missing()
    assert keys(selecting(world.context(), key=names), tmp_path, missing) == []
    assert missing.count == LISTED + 20
    assert missing.first == [f"s3://{world.bucket}/{name}" for name in names[:LISTED]]


def test_one_document_that_is_the_source_can_be_named(world: World, tmp_path: Path) -> None:
    document = world.put(b"x", "in/a.pdf")
    missing = Missing()
    assert keys(selecting(world.context(source="in/a.pdf"), key=["in/a.pdf"]), tmp_path, missing) == [document.key]
    world.put(b"x", "in/a.pdf/b.pdf")
    assert keys(selecting(world.context(source="in/a.pdf"), key=["in/a.pdf"]), tmp_path, missing) == []
    assert missing.first == [document.uri], "it is a folder, as in a listing"


def test_missing_documents_are_in_the_report() -> None:
    report = RunReport(flow="submit", source="s3://b/in", destination="s3://b/out")
    assert report.exit_status == 0
    report.missing, report.missing_keys = 3, ["s3://b/in/a|b.pdf", "s3://b/in/<b>.pdf"]
    assert report.exit_status == 1
    assert "3 that were named are missing" in report.sentence()
    assert "## Missing (the first 2 of 3)" in report.markdown()
    assert "| `s3://b/in/a\\|b.pdf` |" in report.markdown()


def test_only_the_folders_that_are_meant_are_listed(world: World, flaky: FlakyS3, tmp_path: Path) -> None:
    for key in ("in/2023/a.pdf", "in/2024/a.pdf", "in/2024/01/b.pdf", "in/2025/a.pdf"):
        world.put(b"x", key)
    context = selecting(world.context(objects=flaky.objects()), include=["2024/**", "2023/*.pdf"])
    with KnownJobs(tmp_path) as known:
        taken = [candidate.document.key for candidate in discover(context, known)]
    assert taken == ["in/2023/a.pdf", "in/2024/01/b.pdf", "in/2024/a.pdf"]
    assert flaky.calls("GET", "list-type=2") == 2
    assert flaky.calls("GET", "prefix=in/2023/(&|$)") == flaky.calls("GET", "prefix=in/2024/(&|$)") == 1


def test_named_documents_cost_a_look_each_and_no_listing(world: World, flaky: FlakyS3, tmp_path: Path) -> None:
    names = [f"in/{number}.pdf" for number in range(5)]
    for name in names:
        world.put(b"x", name)
    selected_keys = [*names, "in/notes.txt", "elsewhere/a.pdf", names[0]]
    context = selecting(world.context(objects=flaky.objects()), key=selected_keys, only_supported=True)
    with KnownJobs(tmp_path) as known:
        assert [candidate.document.key for candidate in discover(context, known)] == names
    assert (flaky.calls("HEAD", ""), flaky.calls("GET", "list-type=2")) == (5, 0)


def test_an_inventory_costs_neither_listing_nor_looks(world: World, flaky: FlakyS3, tmp_path: Path) -> None:
    for number in range(5):
        world.put(b"x", f"in/{number}.pdf")
    context = selecting(world.context(objects=flaky.objects()), inventory=inventory_of(world))
    with KnownJobs(tmp_path) as known:
        assert len(list(discover(context, known))) == 5
    assert flaky.calls("GET", "list-type=2") == 0
    assert flaky.calls("HEAD", "") == flaky.calls("HEAD", "lists/") == 2, "of the inventory's own files"


def test_a_manifest_is_read_no_further_than_needed(world: World, flaky: FlakyS3, tmp_path: Path) -> None:
    names = [f"in/{number:03}.pdf" for number in range(100)]
    for name in names[:10]:
        world.put(b"x", name)
    context = selecting(world.context(objects=flaky.objects(), workers=2), manifest=manifest_of(world, *names))
    with KnownJobs(tmp_path) as known:
        documents = discover(context, known)
        assert next(documents).document.key == names[0]
        documents.close()  # type: ignore[attr-defined]
    assert flaky.calls("HEAD", "/in/") <= 4


def test_an_inventory_of_another_bucket_is_refused(world: World, tmp_path: Path) -> None:
    world.put(b"x", "in/a.pdf")
    context = selecting(world.context(), inventory=inventory_of(world, sourceBucket="another"))
    with pytest.raises(SetupFault, match="of bucket 'another'"):
        found(context, tmp_path)


def test_a_look_that_fails_ends_the_listing_and_drops_nothing(world: World, flaky: FlakyS3, tmp_path: Path) -> None:
    world.put(b"x", "in/a.pdf")
    context = selecting(world.context(objects=flaky.objects()), key=["in/a.pdf"])
    flaky.fail(Rule("refuse", method="HEAD", path="in/a.pdf"))
    missing = Missing()
    with KnownJobs(tmp_path) as known, pytest.raises(TransientFault):
        list(discover(context, known, missing))
    assert missing.count == 0


def test_a_named_document_that_may_not_be_looked_at_is_told_and_keeps_no_other(
    world: World, flaky: FlakyS3, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        world.put(b"x", f"in/{name}.pdf")
    why = "not authorized to perform: kms:Decrypt"
    flaky.fail(Rule("refuse", "in/b.pdf", times=-1, status=403, code="AccessDenied", message=why))
    context = selecting(world.context(objects=flaky.objects()), key=["in/a.pdf", "in/b.pdf", "in/c.pdf", "in/d.pdf"])
    missing = Missing()
    assert keys(context, tmp_path, missing) == ["in/a.pdf", "in/c.pdf"]
    assert missing.count == 2
    refused, absent = missing.first
    assert refused.startswith(f"s3://{world.bucket}/in/b.pdf: ")
    assert why in refused
    assert absent == f"s3://{world.bucket}/in/d.pdf"


def test_looking_is_told_of_also_where_nothing_is_found(world: World, tmp_path: Path) -> None:
    world.put(b"x", "in/there.txt")
    looks: list[None] = []
    for fields in ({"key": [f"in/{number}.pdf" for number in range(5)]}, {"exclude": ["*.txt"]}):
        context = selecting(world.context(), **fields)
        with KnownJobs(tmp_path) as known:
            assert list(discover(context, known, looked=lambda: looks.append(None))) == []
    assert len(looks) == 5 + 1


def test_named_documents_are_looked_at_several_at_a_time_whatever_the_workers(
    world: World, flaky: FlakyS3, tmp_path: Path
) -> None:
    names = [f"in/{number:02}.pdf" for number in range(40)]
    for name in names:
        world.put(b"x", name)
    together = threading.Barrier(16)  # the first looks are few; who wants one document only need not wait for many
    flaky.fail(Rule("pass", "in/", "HEAD", skip=24, times=16, before=lambda: together.wait(PATIENCE)))
    context = selecting(world.context(objects=flaky.objects(), workers=1), key=names)
    assert keys(context, tmp_path) == names


def test_a_plan_leaves_the_ledger_as_it_is(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old version put back is new again; only a run may write so into the ledger."""
    context = world.context()
    first = world.put(pdf(1, "first"))
    submit_document(context, first)
    world.finish(context, first)
    second = world.put(pdf(1, "second"))
    submit_document(context, second)
    world.finish(context, second)
    before = world.listing("out/")
    world.clock.advance(5)
    with KnownJobs(tmp_path) as known:
        known.load(context.ledger)
        monkeypatch.setattr(known, "done_before", lambda *_: True)  # S3 counts in whole seconds
        world.put(pdf(1, "first"))
        [each] = discover(context, known, look_only=True)
        assert each.state is None
        assert world.listing("out/") == before
        [each] = discover(context, known)
        assert each.state is None
        assert len(world.listing("out/")) == len(before) - 1


def test_work_on_several_keeps_the_order_and_takes_no_more_than_it_needs() -> None:
    taken: list[int] = []

    def numbers() -> Any:
        for number in range(100):
            taken.append(number)
            yield number

    results = several(lambda number: number * number, numbers(), 3)
    assert [next(results) for _ in range(5)] == [(number, number * number) for number in range(5)]
    assert len(taken) <= 5 + 6
    assert list(results) == [(number, number * number) for number in range(5, 100)]
    assert list(several(str, [], 3)) == []
