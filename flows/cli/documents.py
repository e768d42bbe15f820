"""The command `documents`: lists documents that are poor, slow, large or failed."""

import csv
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from flows.cli.catalogue import catalogue_of, ledger_store
from flows.cli.output import SCHEMA_VERSION, Page, Styled, writing
from tasks.catalogue.catalogue import Catalogue
from tasks.catalogue.queries import SHOWN_COLUMNS, DocumentFilter, Totals, documents, totals, write_documents
from tasks.faults import SetupFault
from tasks.number_format import dollars, number, quantity, share, span
from tasks.options import Credentials
from tasks.printable import printable_json
from tasks.store.location import Location
from tasks.store.settings import DestinationOptions

_SHOWN = 20

Form = Literal["table", "csv", "json"]


def list_documents(
    destination: str,
    wanted: DocumentFilter,
    form: Form,
    parquet: Path | None,
    credentials: Credentials,
    bucket: DestinationOptions,
) -> None:
    """Print the documents that match a filter, or write them as Parquet.

    Args:
        destination: the S3 prefix of results and ledger.
        wanted: the filter.
        form: the output format; text shows the first twenty documents, CSV and JSON all.
        parquet: a Parquet file to write instead.
        credentials: where the S3 credentials come from.
        bucket: settings of the destination's bucket.

    Raises:
        SetupFault: DuckDB is not installed, there is no ledger, or the file cannot be written.
    """
    if wanted.slowest is not None and wanted.largest is not None:
        raise SetupFault("--slowest and --largest both sort the list: give only one of them")
    place = Location.parse(destination)
    with catalogue_of(ledger_store(place, credentials, bucket), place) as catalogue:
        if parquet is not None:
            _write(catalogue, wanted, parquet)
        elif form == "csv":
            _print_csv(documents(catalogue, wanted))
        elif form == "json":
            _print_json(str(place), totals(catalogue, wanted), documents(catalogue, wanted))
        else:
            _show(Page(), str(place), catalogue, wanted)


def _write(catalogue: Catalogue, wanted: DocumentFilter, file: Path) -> None:
    """Write the file completely or not at all."""
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}", delete=False) as made:
            made.close()
            try:
                written = write_documents(catalogue, wanted, Path(made.name))
                Path(made.name).replace(file)
            except BaseException:
                Path(made.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise SetupFault(f"{file} cannot be written ({error.strerror}): choose another file with --parquet") from error
    Page().say(f"{quantity(written, 'document')} in {file.absolute()}")


def _plain(value: Any) -> Any:
    """A value as it appears in CSV."""
    return str(value).lower() if isinstance(value, bool) else _dated(value)


def _dated(value: Any) -> Any:
    """A value, with a datetime turned into text."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value


def _print_csv(rows: Iterator[Mapping[str, Any]]) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    with writing():
        out.writerow(SHOWN_COLUMNS)
        for row in rows:
            bins = row["confidence_bins"]
            plain = {**row, "confidence_bins": None if bins is None else ";".join(map(str, bins))}
            out.writerow([_plain(value) for value in plain.values()])


class DocumentList(BaseModel):
    """What `--json` prints."""

    destination: str
    matching: int = Field(description="documents in the list")
    pages: int
    words: int
    documents: list[dict[str, Any]] = Field(description="one object a document, with the columns of the catalogue")


def _print_json(destination: str, sums: Totals, rows: Iterator[Mapping[str, Any]]) -> None:
    """One JSON object, written row by row: there may be millions."""
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"

    def text(value: Any) -> str:
        return printable_json(json.dumps(value, ensure_ascii=False), ascii_only=ascii_only)

    with writing():
        head = {
            "schema_version": SCHEMA_VERSION,
            "destination": destination,
            "matching": sums.documents,
            "pages": sums.pages,
            "words": sums.words,
        }
        sys.stdout.write(text(head)[:-1] + ', "documents": [')
        for place, row in enumerate(rows):
            sys.stdout.write((", " if place else "") + text({name: _dated(value) for name, value in row.items()}))
        sys.stdout.write("]}\n")


def _show(page: Page, destination: str, catalogue: Catalogue, wanted: DocumentFilter) -> None:
    overall, sums = totals(catalogue), totals(catalogue, wanted)
    rows = list(documents(catalogue, wanted, None if wanted.slowest or wanted.largest else _SHOWN))
    if rows and wanted.failed:
        page.table([(row["document"], row["code"], row["reason"]) for row in rows], ("document", "code", "reason"))
    elif rows:
        page.table([_row(row) for row in rows], _HEADER)
    states = f"{number(overall.done)} done, {number(overall.failed)} failed"
    if wanted == DocumentFilter():
        counts = f"{quantity(overall.documents, 'document')} at {destination}: {states}"
    else:
        counts = (
            f"{number(sums.documents)} of {quantity(overall.documents, 'document')} at {destination} match "
            f"(of all: {states})"
        )
    page.say(counts, "bold")
    confidence = "" if sums.confidence is None else f", mean confidence {share(sums.confidence)}"
    pages, words = quantity(sums.pages, "page"), quantity(sums.words, "word")
    page.say(f"{pages}, {number(sums.blank_pages)} of them blank; {words}{confidence}")
    if sums.unmeasured:
        page.say(
            f"{number(sums.unmeasured)} done documents were published before words, confidence and cost were recorded: "
            "their columns are empty"
        )
    if (left := sums.documents - len(rows)) > 0 and not (wanted.slowest or wanted.largest):
        page.say(f"… and {number(left)} more; --csv, --json or --parquet FILE list all")


_HEADER = (
    "document",
    "state",
    "pages",
    "blank",
    "words",
    "confidence",
    "least",
    "waiting",
    "API",
    "collecting",
    "cost",
)
_POOR = 0.6


def _row(row: Mapping[str, Any]) -> list[str | Styled]:
    mean = row["confidence_mean"]
    poor = mean is not None and mean < _POOR
    return [
        row["document"],
        Styled(row["state"], "red" if row["state"] == "failed" else ""),
        number(row["pages"]),
        number(row["blank_pages"]) if row["blank_pages"] else "",
        "" if row["words"] is None else number(row["words"]),
        Styled(share(mean), "bold red" if poor else ""),
        share(row["confidence_min"]),
        *(
            "" if row[name] is None else span(row[name])
            for name in ("waiting_seconds", "api_seconds", "collecting_seconds")
        ),
        "" if row["cost"] is None else dollars(row["cost"]),
    ]
