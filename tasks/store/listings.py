"""Lists of documents from elsewhere: manifests of keys, and S3 Inventories. Read line by line."""

import csv
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_plus

from pydantic import BaseModel, Field, ValidationError

from tasks.faults import DocumentChanged, ObjectRefused, SetupFault
from tasks.scratch import scratch_database
from tasks.store.object_store import Entry, ObjectStore

_OBJECT = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9])/(.+)", re.DOTALL | re.IGNORECASE)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_LONGEST_LINE = 1 << 16
_LONGEST_KEY = 1024
_JSON_LINES = (".jsonl", ".ndjson", ".json")
_NEEDED = {"Size": "Size", "LastModifiedDate": "Last modified", "ETag": "ETag"}


def object_address(uri: str) -> tuple[str, str]:
    """Parse `s3://bucket/key` into bucket and key. Slashes in the key are kept as they are.

    Raises:
        SetupFault: it is not such an address.
    """
    match = _OBJECT.fullmatch(uri)
    if match is None:
        raise SetupFault(f"'{uri}' is not an object's address; write it as s3://bucket/key")
    return match[1], match[2]


def storable(key: str) -> bool:
    """Whether this is a valid key for an object."""
    try:
        return 0 < len(key.encode()) <= _LONGEST_KEY
    except UnicodeEncodeError:
        return False


def manifest_keys(objects: ObjectStore, place: str, bucket: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the documents named by a manifest, as bucket and key, in its order.

    A file that ends in .jsonl, .ndjson or .json has JSON lines: each is a key as a string, or an object with `key` and
    optionally `bucket`. Any other file is CSV:

    - With a header (a cell of the first line is `key`): the keys are in that column, the buckets in the column `bucket`
      if there is one. Other columns are ignored.
    - Without a header, one cell per line: the key. A key that contains a comma or a quotation mark has to be quoted.
    - Without a header, two or three cells per line: bucket, key and version, as written and read by S3 Batch
      Operations. Only in this form are keys URL-encoded, as S3 requires. The version is ignored: the current one is
      used.

    A key may also be written as an address, s3://bucket/key. Blank lines are skipped.

    Args:
        objects: the store.
        place: the manifest's location: s3://bucket/key, or a local file.
        bucket: the bucket of keys that come without one.
        folder: a temporary folder for a copy.

    Raises:
        SetupFault: it cannot be read, or one of its lines is invalid.
    """
    file = _fetched(objects, place, folder / "manifest", "manifest") if is_address(place) else Path(place)
    read = _json_keys if place.lower().endswith(_JSON_LINES) else _csv_keys
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for number, named, key in read(_Lines(lines, place)):
                if is_address(key):
                    try:
                        named, key = object_address(key)
                    except SetupFault as fault:
                        raise _bad(place, number, str(fault)) from fault
                yield named or bucket, key
    except OSError as error:
        raise SetupFault(f"the manifest {place} cannot be read here: {error.strerror}; correct its path") from error


class Once:
    """Detects names that a list contains twice, in a temporary file. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._database = scratch_database(folder / "seen.sqlite")
        self._database.execute("CREATE TABLE seen (name BLOB PRIMARY KEY) WITHOUT ROWID")

    def first(self, name: str) -> bool:
        """Whether this name has not been seen before."""
        name_bytes = name.encode("utf-8", "surrogatepass")
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (name_bytes,)).rowcount == 1

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def is_address(place: str) -> bool:
    """Whether this is an address in S3 rather than a key or a path."""
    return place[:5].lower() == "s3://"


def _bad(place: str, number: int, what: str) -> SetupFault:
    return SetupFault(f"line {number} of {place}: {what}")


def _fetched(objects: ObjectStore, uri: str, to: Path, what: str) -> Path:
    bucket, key = object_address(uri)
    described = objects.head(bucket, key)
    if described is None:
        raise SetupFault(f"there is no {what} at {uri}: correct its address")
    try:
        objects.fetch(bucket, key, described.etag, to)
    except DocumentChanged as moved:
        raise SetupFault(f"the {what} at {uri} changed while it was read: start again when it is complete") from moved
    except ObjectRefused as refused:
        raise SetupFault(f"the {what} cannot be read: {refused}") from refused
    return to


class _Lines:
    """The lines of a text file, numbered and limited in length."""

    def __init__(self, lines: IO[str], place: str) -> None:
        self._lines = lines
        self.place = place
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        while True:
            self.number += 1
            try:
                line = self._lines.readline(_LONGEST_LINE)
            except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise self.bad(f"from about here it cannot be read as UTF-8 text ({error})") from error
            if not line:
                return
            if len(line) == _LONGEST_LINE:
                raise self.bad(f"it is longer than {_LONGEST_LINE:,} characters, so this is not a list of keys")
            yield line

    def rows(self) -> Iterator[list[str]]:
        """Yield the CSV rows that are not blank."""
        rows = csv.reader(self, strict=True)
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                raise self.bad(f"it is not CSV ({error}): quotation marks inside a cell must be doubled") from error
            if row is None:
                return
            if any(cell.strip() for cell in row):
                yield row

    def bad(self, what: str) -> SetupFault:
        return _bad(self.place, self.number, what)


def _json_keys(lines: _Lines) -> Iterator[tuple[int, str | None, str]]:
    for line in lines:
        if not line.strip():
            continue
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise lines.bad(
                'it is not JSON; one key a line is expected, such as "a.pdf" or {"key": "a.pdf"}'
            ) from error
        named, key = (value.get("bucket"), value.get("key")) if isinstance(value, dict) else (None, value)
        if not isinstance(key, str) or not key or not isinstance(named, str | None):
            raise lines.bad("it names no key; a string, or an object with 'key' and optionally 'bucket', is expected")
        yield lines.number, named, key


def _csv_keys(lines: _Lines) -> Iterator[tuple[int, str | None, str]]:
    columns: dict[str, int] | None = None
    for row in lines.rows():
        if columns is None:
            header = [cell.strip().lower() for cell in row]
            columns = {name: header.index(name) for name in ("key", "bucket") if name in header}
            if "key" in columns:
                continue
            columns = {}
        if "key" in columns:
            if max(columns.values()) >= len(row):
                raise lines.bad(f"it has {len(row)} cells, fewer than the header")
            named, key = row[columns["bucket"]] if "bucket" in columns else None, row[columns["key"]]
        elif len(row) == 1:
            named, key = None, row[0]
        elif len(row) > 3 or not _BUCKET.fullmatch(row[0]):
            raise lines.bad(
                f"it has {len(row)} cells, and the first is not a bucket: a key, or bucket,key[,version], is expected; "
                'a key with commas must be quoted: "a,b.pdf"'
            )
        else:
            named, key = row[0], unquote_plus(row[1])
        if not key:
            raise lines.bad("it names no key")
        yield lines.number, named, key


class _File(BaseModel):
    key: str
    checksum: str | None = Field(None, alias="MD5checksum")


class _Inventory(BaseModel):
    """The manifest.json of an S3 Inventory."""

    source: str = Field(alias="sourceBucket")
    destination: str = Field("", alias="destinationBucket")
    form: str = Field(alias="fileFormat")
    columns: str = Field(alias="fileSchema")
    files: list[_File]


def inventory_entries(objects: ObjectStore, manifest: str, bucket: str, prefix: str, folder: Path) -> Iterator[Entry]:
    """Yield the objects under a prefix from an S3 Inventory in CSV, as a listing would.

    If the inventory contains versions, only the newest are used, and no delete markers. Its keys are URL-encoded, with
    + for a space. Its files are verified against their checksums.

    Args:
        objects: the store.
        manifest: the address of the inventory's manifest.json.
        bucket: the bucket that the inventory must describe.
        prefix: the prefix of the keys.
        folder: a temporary folder for one of its files at a time.

    Raises:
        SetupFault: it describes another bucket, has another format, lacks columns, or is damaged.
    """
    inventory = _inventory(objects, manifest, folder)
    if inventory.source != bucket:
        raise SetupFault(
            f"the inventory {manifest} is of bucket '{inventory.source}', but the source is in '{bucket}': "
            "name an inventory of the source's bucket"
        )
    if inventory.form.upper() != "CSV":
        raise SetupFault(
            f"the inventory {manifest} is in {inventory.form}: configure the inventory to be written as CSV"
        )
    columns = [name.strip() for name in inventory.columns.split(",")]
    lacking = [what for name, what in _NEEDED.items() if name not in columns]
    if lacking or "Key" not in columns:
        raise SetupFault(
            f"the inventory {manifest} does not say {', '.join(lacking) or 'Key'} of the objects: "
            "add that to the inventory's configuration"
        )
    where = inventory.destination.rpartition(":")[2] or object_address(manifest)[0]
    for listed in inventory.files:
        uri = f"s3://{where}/{listed.key}"
        file = _fetched(objects, uri, folder / "inventory.csv.gz", f"file of the inventory {manifest}")
        if listed.checksum is not None and _md5(file) != listed.checksum.strip().lower():
            raise SetupFault(
                f"{uri} does not match the inventory {manifest} (its MD5 differs): name a complete inventory"
            )
        with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
            yield from _entries(_Lines(text, uri), columns, prefix)


def _inventory(objects: ObjectStore, manifest: str, folder: Path) -> _Inventory:
    file = _fetched(objects, manifest, folder / "manifest.json", "inventory")
    try:
        return _Inventory.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SetupFault(
            f"{manifest} is not a manifest.json of an S3 Inventory ({f'{where}: ' if where else ''}{first['msg']}): "
            "correct the address"
        ) from error


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _entries(lines: _Lines, columns: list[str], prefix: str) -> Iterator[Entry]:
    for row in lines.rows():
        if len(row) != len(columns):
            raise lines.bad(f"it has {len(row)} cells, and the inventory's manifest names {len(columns)} columns")
        cells = dict(zip(columns, row, strict=True))
        if cells.get("IsLatest", "true").lower() != "true" or cells.get("IsDeleteMarker", "false").lower() == "true":
            continue
        key = unquote_plus(cells["Key"])
        if not key.startswith(prefix):
            continue
        try:
            modified = datetime.fromisoformat(cells["LastModifiedDate"])
            size = int(cells["Size"])
        except ValueError as error:
            raise lines.bad(f"its size or time cannot be read ({error})") from error
        if modified.tzinfo is None:
            modified = modified.replace(tzinfo=UTC)
        yield Entry(key, cells["ETag"].strip('"'), size, modified)
