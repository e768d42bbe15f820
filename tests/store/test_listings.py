"""Lists made elsewhere: manifests and inventories, read line by line, and what is wrong with a line said."""

import csv
import gzip
import hashlib
import io
import json
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.faults import SetupFault
from tasks.store.listings import Once, inventory_entries, manifest_keys, object_address, storable
from tasks.store.object_store import Entry
from tasks.store.objects import Objects

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

HOSTILE = [
    "a b+c%20ü.pdf",
    "../../etc/passwd",
    "/leading//double/",
    'quo"te, comma.pdf',
    "line\nbreak\r.pdf",
    " spaces ",
    "=1+1",
    "문서/가.pdf",
    "\u202ereversed.pdf",
    "<script>|`.pdf",
    "x" * 1024,
]


def named(manifest: Path, objects: Any = None) -> list[tuple[str, str]]:
    """What a manifest on this machine names."""
    return list(manifest_keys(objects, str(manifest), "source", manifest.parent))


def written(folder: Path, name: str, text: str | bytes) -> Path:
    """A manifest of that name."""
    manifest = folder / name
    manifest.write_bytes(text if isinstance(text, bytes) else text.encode())
    return manifest


def rows(*cells: list[str]) -> str:
    """CSV as the books have it."""
    out = io.StringIO()
    csv.writer(out).writerows(cells)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "text", "keys"),
    [
        ("keys.csv", "a.pdf\nx/b c.pdf\n", [("source", "a.pdf"), ("source", "x/b c.pdf")]),
        ("keys.txt", "\ufeffa.pdf\r\n\r\n  \r\nb.pdf", [("source", "a.pdf"), ("source", "b.pdf")]),
        ("keys", "a%20b+c.pdf\n", [("source", "a%20b+c.pdf")]),
        ("keys.csv", '"a,b.pdf"\n', [("source", "a,b.pdf")]),
        ("keys.csv", "s3://other/a.pdf\ns3://source//b\n", [("other", "a.pdf"), ("source", "/b")]),
        ("keys.csv", "size,Key\n1,a%20.pdf\n2,b.pdf\n", [("source", "a%20.pdf"), ("source", "b.pdf")]),
        ("keys.csv", "key,bucket\na,other\nb,\n", [("other", "a"), ("source", "b")]),
        ("keys.csv", "key\nkey\n", [("source", "key")]),
        ("keys.csv", "other,a%20b%2Bc+d.pdf\nother,%C3%BC,v1\n", [("other", "a b+c d.pdf"), ("other", "ü")]),
        ("keys.jsonl", '"a.pdf"\n\n{"key": "b.pdf", "bucket": "other", "x": 1}\n{"key":"c%20"}', [
            ("source", "a.pdf"), ("other", "b.pdf"), ("source", "c%20")]),
        ("KEYS.NDJSON", '{"key": "a,b.pdf"}', [("source", "a,b.pdf")]),
        ("keys.csv", "", []),
        ("keys.jsonl", "\n", []),
    ],
)  # fmt: skip
def test_keys_are_read_from_every_kind_of_manifest(
    tmp_path: Path, name: str, text: str, keys: list[tuple[str, str]]
) -> None:
    assert named(written(tmp_path, name, text)) == keys


def test_hostile_keys_come_through_every_kind_of_manifest(tmp_path: Path) -> None:
    kinds = {
        "bare.csv": rows(*([key] for key in HOSTILE)),
        "header.csv": rows(["key"], *([key] for key in HOSTILE)),
        "batch.csv": rows(*(["source", quote(key)] for key in HOSTILE)),
        "plus.csv": rows(*(["source", quote_plus(key, safe="/"), "v"] for key in HOSTILE)),
        "strings.jsonl": "\n".join(json.dumps(key) for key in HOSTILE),
        "objects.jsonl": "\n".join(json.dumps({"key": key}, ensure_ascii=False) for key in HOSTILE),
    }
    for name, text in kinds.items():
        assert named(written(tmp_path, name, text)) == [("source", key) for key in HOSTILE], name


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)))
def test_any_list_of_keys_comes_through(tmp_path: Path, keys: list[str]) -> None:
    expected = [("source", key) for key in keys]
    assert named(written(tmp_path, "keys.csv", rows(["key"], *([key] for key in keys)))) == expected
    assert named(written(tmp_path, "keys.jsonl", "\n".join(map(json.dumps, keys)))) == expected


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("keys.csv", "a.pdf\nb.pdf\nscan 1, old.pdf\n", "line 3 .*the first is not a bucket.*quoted"),
        ("keys.csv", "bucket,a,b,c\n", "line 1 .*4 cells"),
        ("keys.csv", "bucket-1,\n", "line 1 .*no key"),
        ("keys.csv", "size,key\n1,a\n2\n", "line 3 .*1 cells, fewer than the header"),
        ("keys.csv", 'a.pdf\n"b" c.pdf\n', "line 2 .*not CSV"),
        ("keys.csv", "a.pdf\ns3://b/\n", "line 2 .*s3://bucket/key"),
        ("keys.csv", b"a.pdf\n\xff\xfe.pdf\n", "as UTF-8 text"),
        ("keys.csv", "a.pdf\n" + "b" * 70_000, "line 2 .*65,536 characters"),
        ("keys.csv", '"' + "b,\n" * 70_000, "not CSV"),
        ("keys.jsonl", '"a"\n{"key": \n', "line 2 .*not JSON"),
        ("keys.jsonl", "a.pdf\n", "line 1 .*not JSON"),
        ("keys.jsonl", '"a"\n\n{"Key": "b"}\n', "line 3 .*names no key"),
        ("keys.jsonl", "12\n", "line 1 .*names no key"),
        ("keys.jsonl", '{"key": "a", "bucket": 1}\n', "line 1 .*names no key"),
        ("keys.jsonl", "[" * 60_000, "line 1 .*not JSON"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(tmp_path: Path, name: str, text: str | bytes, words: str) -> None:
    manifest = written(tmp_path, name, text)
    with pytest.raises(SetupFault, match=words) as fault:
        named(manifest)
    assert str(manifest) in str(fault.value)


def test_what_comes_before_a_bad_line_comes_first(tmp_path: Path) -> None:
    keys = manifest_keys(None, str(written(tmp_path, "a.jsonl", '"a"\n"b"\nc')), "source", tmp_path)  # type: ignore[arg-type]
    assert [next(keys), next(keys)] == [("source", "a"), ("source", "b")]
    with pytest.raises(SetupFault, match="line 3"):
        next(keys)


def test_a_manifest_of_many_lines_costs_no_memory(tmp_path: Path) -> None:
    manifest = written(tmp_path, "keys.csv", "".join(f"folder/{number:07}.pdf\n" for number in range(100_000)))
    tracemalloc.start()
    try:
        keys = manifest_keys(None, str(manifest), "source", tmp_path)  # type: ignore[arg-type]
        assert sum(1 for _ in keys) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_manifest_can_lie_in_a_bucket(tmp_path: Path, objects: Objects, s3: "S3Client", bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="lists/a b.jsonl", Body=b'"a"\n"b"')
    keys = manifest_keys(objects, f"s3://{bucket}/lists/a b.jsonl", "source", tmp_path)
    assert list(keys) == [("source", "a"), ("source", "b")]


def test_a_manifest_that_is_not_there_is_said(tmp_path: Path, objects: Objects, bucket: str) -> None:
    with pytest.raises(SetupFault, match=r"no manifest at s3://.*/keys.csv"):
        list(manifest_keys(objects, f"s3://{bucket}/keys.csv", "source", tmp_path))
    with pytest.raises(SetupFault, match="No such file"):
        named(tmp_path / "keys.csv")
    with pytest.raises(SetupFault, match="Is a directory"):
        named(tmp_path)


def test_an_address_keeps_every_slash_of_the_key() -> None:
    assert object_address("s3://bucket//a//b/") == ("bucket", "/a//b/")
    assert object_address("S3://bucket/a\nb") == ("bucket", "a\nb")
    for wrong in ("s3://bucket", "s3://bucket/", "s3:///a", "http://bucket/a", "a", "s3://b/a"):
        with pytest.raises(SetupFault, match="s3://bucket/key"):
            object_address(wrong)


def test_keys_that_no_object_can_have_are_told() -> None:
    assert storable("ü" * 512)
    assert not any(map(storable, ("", "ü" * 513, "\ud800")))


def test_what_came_before_is_known(tmp_path: Path) -> None:
    once = Once(tmp_path)
    assert [once.first(name) for name in ("a", "b", "a", "\ud800", "\ud800", "A")] == [
        True, True, False, True, False, True,
    ]  # fmt: skip
    once.close()


SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


class Inventory:
    """An S3 Inventory as S3 writes it: gzip'd CSV files, and a manifest that lists them."""

    def __init__(self, s3: "S3Client", bucket: str, schema: str = SCHEMA) -> None:
        self._s3, self._bucket, self._folder = s3, bucket, "inventories/source/daily"
        self.manifest: dict[str, Any] = {
            "sourceBucket": "source",
            "destinationBucket": f"arn:aws:s3:::{bucket}",
            "version": "2016-11-30",
            "creationTimestamp": "1782871200000",
            "fileFormat": "CSV",
            "fileSchema": schema,
            "files": [],
        }

    def file(self, *lines: list[str]) -> None:
        """One more file of it. S3 quotes every cell."""
        out = io.StringIO()
        csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(lines)
        self.raw(gzip.compress(out.getvalue().encode()))

    def raw(self, body: bytes) -> None:
        """One more file of it, of these bytes."""
        key = f"{self._folder}/data/{len(self.manifest['files'])}.csv.gz"
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)
        checksum = hashlib.md5(body).hexdigest()
        self.manifest["files"].append({"key": key, "size": len(body), "MD5checksum": checksum})

    def publish(self) -> str:
        """Write the manifest. Gives its address."""
        key = f"{self._folder}/2026-07-01T01-00Z/manifest.json"
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=json.dumps(self.manifest).encode())
        return f"s3://{self._bucket}/{key}"


def line(key: str, version: str = "", latest: str = "true", deleted: str = "false", size: str = "7") -> list[str]:
    """One object in the inventory."""
    return ["source", key, version, latest, deleted, size, "2026-07-01T12:00:00.000Z", "0" * 32, "STANDARD"]


@pytest.fixture
def inventory(s3: "S3Client", bucket: str) -> Inventory:
    return Inventory(s3, bucket)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Room for copies."""
    return tmp_path


def listed(objects: Objects, inventory: Inventory, folder: Path, prefix: str = "") -> list[Entry]:
    """What the inventory lists of bucket `source`."""
    return list(inventory_entries(objects, inventory.publish(), "source", prefix, folder))


def test_an_inventory_is_read_like_a_listing(objects: Objects, inventory: Inventory, folder: Path) -> None:
    inventory.file(line("in/a%20b.pdf"), line("in/c+d%2Be.pdf", size="0"))
    inventory.file()
    inventory.file(line("in/%C3%BC/%22.pdf"))
    assert listed(objects, inventory, folder) == [
        Entry("in/a b.pdf", "0" * 32, 7, NOON),
        Entry("in/c d+e.pdf", "0" * 32, 0, NOON),
        Entry('in/ü/".pdf', "0" * 32, 7, NOON),
    ]


def test_hostile_keys_come_through_an_inventory(objects: Objects, inventory: Inventory, folder: Path) -> None:
    inventory.file(*(line(quote_plus(key, safe="/*-._")) for key in HOSTILE))
    assert [entry.key for entry in listed(objects, inventory, folder)] == HOSTILE


def test_of_versions_the_newest_counts_and_delete_markers_do_not(
    objects: Objects, inventory: Inventory, folder: Path
) -> None:
    inventory.file(
        line("a", "v2"), line("a", "v1", latest="false"), line("b", "v2", deleted="true", size=""),
        line("b", "v1", latest="false"),
    )  # fmt: skip
    assert [entry.key for entry in listed(objects, inventory, folder)] == ["a"]


def test_only_what_lies_under_the_prefix_is_taken(objects: Objects, inventory: Inventory, folder: Path) -> None:
    inventory.file(line("in/a"), line("in-old/a"), line("out/a"), line("in/%2E%2E/b"))
    assert [entry.key for entry in listed(objects, inventory, folder, "in/")] == ["in/a", "in/../b"]


def test_columns_are_found_by_name(objects: Objects, s3: "S3Client", bucket: str, folder: Path) -> None:
    inventory = Inventory(s3, bucket, "ETag,LastModifiedDate,Key,Size")
    inventory.file(["e", "2026-07-01T12:00:00.000Z", "a", "3"])
    assert listed(objects, inventory, folder) == [Entry("a", "e", 3, NOON)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sourceBucket": "other"}, "of bucket 'other', but the source is in 'source'"),
        ({"fileFormat": "ORC"}, "in ORC: .* as CSV"),
        ({"fileFormat": "Parquet"}, "in Parquet: .* as CSV"),
        ({"fileSchema": "Bucket, Key, Size"}, "does not say Last modified, ETag"),
        ({"fileSchema": "Bucket, Size, LastModifiedDate, ETag"}, "does not say Key"),
        ({"fileSchema": None}, "not a manifest.json of an S3 Inventory .fileSchema"),
        ({"files": [{"key": "nowhere.csv.gz"}]}, "no file of the inventory .* at s3://.*/nowhere.csv.gz"),
    ],
)
def test_an_inventory_that_cannot_be_used_is_refused_in_words(
    objects: Objects, inventory: Inventory, folder: Path, change: dict[str, Any], words: str
) -> None:
    inventory.file(line("a"))
    inventory.manifest |= change
    with pytest.raises(SetupFault, match=words):
        listed(objects, inventory, folder)


def test_something_else_than_an_inventory_is_told(objects: Objects, s3: "S3Client", bucket: str, folder: Path) -> None:
    s3.put_object(Bucket=bucket, Key="a.pdf", Body=b"%PDF")
    with pytest.raises(SetupFault, match=r"not a manifest.json of an S3 Inventory"):
        next(inventory_entries(objects, f"s3://{bucket}/a.pdf", "source", "", folder))
    with pytest.raises(SetupFault, match="no inventory at"):
        next(inventory_entries(objects, f"s3://{bucket}/b.pdf", "source", "", folder))


def test_a_file_that_is_not_the_one_that_was_written_is_refused(
    objects: Objects, inventory: Inventory, folder: Path
) -> None:
    inventory.file(line("a"))
    inventory.manifest["files"][0]["MD5checksum"] = "0" * 32
    with pytest.raises(SetupFault, match="its MD5 differs"):
        listed(objects, inventory, folder)
    del inventory.manifest["files"][0]["MD5checksum"]
    assert [entry.key for entry in listed(objects, inventory, folder)] == ["a"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"no gzip", "line 1 .*as UTF-8 text"),
        (gzip.compress(rows(line("a")).encode())[:-9], "as UTF-8 text"),
        (gzip.compress(b'"source","a"\n'), "line 1 .*2 cells, and .* 9 columns"),
        (gzip.compress(rows(line("a"), line("b", size="many")).encode()), "line 2 .*size or time"),
        (gzip.compress(b"\xff\n"), "as UTF-8 text"),
        (gzip.compress(b"x" * (1 << 24)), "65,536 characters"),
    ],
    # What gzip makes holds the time: a name of its own, or every process that collects the tests finds others.
    ids=["no gzip", "cut off", "too few cells", "a size that is none", "no text", "a line without an end"],
)
def test_a_damaged_file_is_named(objects: Objects, inventory: Inventory, folder: Path, body: bytes, words: str) -> None:
    inventory.raw(body)
    with pytest.raises(SetupFault, match=words) as fault:
        listed(objects, inventory, folder)
    assert "/data/0.csv.gz" in str(fault.value)
