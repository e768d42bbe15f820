"""Addresses in S3: `s3://bucket/prefix`."""

import re
from dataclasses import dataclass

from tasks.faults import DocumentFault, FailureCode, SetupFault

# AWS: 3 to 63 characters. Other stores allow capitals and underscores, so only what can't be a bucket is refused.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_LONGEST_KEY = 1024
DEFAULT_MODEL = "ocr"
LEDGER_FOLDER = "_jobs/"
_RESULT = re.compile(r"\.ocr(\.[A-Za-z0-9._-]+)?\.(json|txt)\Z")
# A folder of the ledger and JSON in it, a file of the catalogue, or the object that the proof of conditional writes
# makes and deletes.
_LEDGER = re.compile(
    r"(?:\A|/)_jobs/(?:[a-z]+/.*\.json|catalogue/[a-z]+/[0-9a-f]{32}\.(?:parquet|jsonl\.gz)|check-[0-9a-f]{32})\Z",
    re.DOTALL,
)
# Documents can be called "scan.ocr.pdf": with a document's ending before it, the name is this program's.
_OWN_PDF = re.compile(
    r"\.(?:pdf|tiff?|jpe?g|png|bmp|dib|hei[cf]|docx|pptx|xlsx|hwpx?)\.ocr(\.[A-Za-z0-9._-]+)?\.pdf\Z", re.IGNORECASE
)
_PERHAPS_PDF = re.compile(r"\.ocr(\.[A-Za-z0-9._-]+)?\.pdf\Z")
_MARKERS = {".keep", ".gitkeep"}
_HADOOP_FOLDER = "_$folder$"


@dataclass(frozen=True)
class Location:
    """A bucket and a prefix in it. The prefix is a folder: empty, or ending with a slash."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> "Location":
        """Read `s3://bucket/prefix`; the prefix may be left out.

        Raises:
            SetupFault: it is no such address.
        """
        scheme, separator, rest = uri.partition("://")
        bucket, _, prefix = rest.partition("/")
        if scheme.lower() != "s3" or not separator or not _BUCKET.fullmatch(bucket):
            raise SetupFault(f"'{uri}' is not an S3 address; write it as s3://bucket/prefix")
        prefix = prefix.strip("/")
        return cls(bucket, f"{prefix}/" if prefix else "")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, relative: str) -> str:
        """The key of something in this folder."""
        return f"{self.prefix}{relative}"

    def relative(self, key: str) -> str:
        """A key as seen from this folder; a document named directly as the source is just its own name."""
        if self.prefix and key == self.prefix.rstrip("/"):
            return key.rpartition("/")[2]
        return key.removeprefix(self.prefix)


def result_suffix(model: str = DEFAULT_MODEL, schema: str | None = None, text_layers: str | None = None) -> str:
    """What the keys of results end in."""
    variant = [model if model != DEFAULT_MODEL else None, schema, text_layers]
    return ".".join(("", "ocr", *filter(None, variant), "json"))


def result_key(
    source: Location,
    destination: Location,
    key: str,
    model: str = DEFAULT_MODEL,
    schema: str | None = None,
    text_layers: str | None = None,
) -> str:
    """Where the result of a document lies: `a/b.pdf.ocr.json`.

    A model other than the alias, a schema, and whose text was taken, come before the ending, so that the results of
    several lie side by side: `a/b.pdf.ocr.ocr-250904.clova.json`, `a/b.pdf.ocr.skip-text.json`.

    Raises:
        DocumentFault: the key would be longer than S3 allows (1,024 bytes).
    """
    if source.relative(key).startswith(LEDGER_FOLDER):
        raise DocumentFault(
            FailureCode.KEY_RESERVED,
            f"its result would be in the ledger's folder {LEDGER_FOLDER}: move the document",
        )
    result = destination.key(source.relative(key) + result_suffix(model, schema, text_layers))
    length = len(result.encode())
    if length > _LONGEST_KEY:
        raise DocumentFault(
            FailureCode.KEY_TOO_LONG,
            f"its result would need a key of {length} bytes, but S3 allows {_LONGEST_KEY}: "
            "shorten the document's key or choose a shorter destination",
        )
    return result


def text_key(result: str) -> str:
    """Where the plain text of a result lies."""
    return result.removesuffix(".json") + ".txt"


def pdf_key(result: str) -> str:
    """Where the searchable PDF of a result lies."""
    return result.removesuffix(".json") + ".pdf"


def is_output(key: str) -> bool:
    """Whether a key is one that this program gives to results and records of some destination, wherever it lies.

    Told by its shape alone: reading every object of a source would cost more than the listing. Such keys end in
    .json, .txt, .parquet or .gz, which no format that can be recognised does, or in a document's ending and .ocr.pdf;
    the ledger's folder may hold documents of others.
    """
    return bool(_RESULT.search(key) or _LEDGER.search(key) or _OWN_PDF.search(key))


def may_be_output(key: str) -> bool:
    """Whether a key that is no output by its shape may be the searchable PDF of a document without an ending.

    "scan.ocr.pdf" may as well be somebody's document: the object's metadata tell.
    """
    return bool(_PERHAPS_PDF.search(key)) and not is_output(key)


def is_marker(key: str, size: int | None = None) -> bool:
    """Whether a key is that of a folder's marker, as consoles, Hadoop and version control leave them.

    Args:
        key: the key.
        size: the object's, where it is known. An empty object is a marker if its name has no ending; with one it is a
            document, and an empty one.
    """
    name = key.rpartition("/")[2]
    return not name or name in _MARKERS or name.endswith(_HADOOP_FOLDER) or (size == 0 and not ending(key))


def ending(key: str) -> str:
    """What a key's file name ends in, in lower case with its dot; empty when it has no such ending."""
    stem, dot, last = key.rpartition("/")[2].rpartition(".")
    return f".{last.lower()}" if stem and dot and last else ""
