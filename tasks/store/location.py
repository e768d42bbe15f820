"""Addresses in S3: `s3://bucket/prefix`."""

import re
from dataclasses import dataclass

from tasks.faults import DocumentFault, FailureCode, SetupFault

# AWS: 3 to 63 characters. Other stores allow capitals and underscores, so only impossible names are refused.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_LONGEST_KEY = 1024
DEFAULT_MODEL = "ocr"
LEDGER_FOLDER = "_jobs/"
_RESULT = re.compile(r"\.ocr(\.[A-Za-z0-9._-]+)?\.(json|txt)\Z")
# A JSON file in a folder of the ledger, a file of the catalogue, or the temporary object of the check for conditional
# writes.
_LEDGER = re.compile(
    r"(?:\A|/)_jobs/(?:[a-z]+/.*\.json|catalogue/[a-z]+/[0-9a-f]{32}\.(?:parquet|jsonl\.gz)|check-[0-9a-f]{32})\Z",
    re.DOTALL,
)
# A document may be called "scan.ocr.pdf"; only with a document's extension before it is the name this program's.
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
        """Parse `s3://bucket/prefix`; the prefix is optional.

        Raises:
            SetupFault: it is not such an address.
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
        """Return the full key of a relative one."""
        return f"{self.prefix}{relative}"

    def relative(self, key: str) -> str:
        """Return a key relative to this folder; the file name if the folder itself names a single document."""
        if self.prefix and key == self.prefix.rstrip("/"):
            return key.rpartition("/")[2]
        return key.removeprefix(self.prefix)


def result_suffix(model: str = DEFAULT_MODEL, schema: str | None = None, text_layers: str | None = None) -> str:
    """Return the suffix of result keys."""
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
    """Return the key of a document's result: `a/b.pdf.ocr.json`.

    A model other than the default alias, a schema, and the use of text layers become part of the suffix, so that
    several results can exist side by side: `a/b.pdf.ocr.ocr-250904.clova.json`, `a/b.pdf.ocr.skip-text.json`.

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
    """Return the key of a result's plain text."""
    return result.removesuffix(".json") + ".txt"


def pdf_key(result: str) -> str:
    """Return the key of a result's searchable PDF."""
    return result.removesuffix(".json") + ".pdf"


def is_output(key: str) -> bool:
    """Whether a key has the form of this program's results and records, in any destination.

    Only the key is checked: reading every object of a source would cost more than listing it. Such keys end in .json,
    .txt, .parquet or .gz, which are not extensions of supported documents, or in a document's extension and .ocr.pdf.
    Other keys in a folder named like the ledger's may be documents.
    """
    return bool(_RESULT.search(key) or _LEDGER.search(key) or _OWN_PDF.search(key))


def document_of_output(key: str) -> str | None:
    """Return the key without the suffix of a result, of its plain text or of its searchable PDF.

    Returns:
        The document's key relative to the source, if the key is relative to the destination. None for other keys.
    """
    match = _RESULT.search(key) or (_OWN_PDF.search(key) and _PERHAPS_PDF.search(key))
    stem = key[: match.start()] if match else None
    return stem if stem and not stem.endswith("/") else None


def may_be_output(key: str) -> bool:
    """Whether a key may be the searchable PDF of a document without an extension.

    "scan.ocr.pdf" may also be a document: the object's metadata show which it is.
    """
    return bool(_PERHAPS_PDF.search(key)) and not is_output(key)


def is_marker(key: str, size: int | None = None) -> bool:
    """Whether a key is a folder marker, as created by consoles, Hadoop and version control.

    Args:
        key: the key.
        size: the object's size, if known. An empty object is a marker if its name has no extension; with an extension,
            it is an empty document.
    """
    name = key.rpartition("/")[2]
    return not name or name in _MARKERS or name.endswith(_HADOOP_FOLDER) or (size == 0 and not ending(key))


def ending(key: str) -> str:
    """Return the extension of a key's file name, in lower case with its dot; empty if it has none."""
    stem, dot, last = key.rpartition("/")[2].rpartition(".")
    return f".{last.lower()}" if stem and dot and last else ""
