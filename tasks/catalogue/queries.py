"""Queries on the catalogue: documents, pages and cost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from tasks.catalogue.catalogue import Catalogue
from tasks.catalogue.database import COLUMNS, COLUMNS_IN_FILES, TIME_COLUMNS
from tasks.catalogue.row import Row

Grouping = Literal["day", "month", "prefix", "model", "run", "backfill"]

_MODEL = "CASE WHEN answer_schema IS NULL THEN model ELSE model || ' (' || answer_schema || ')' END"
_GROUPS: Mapping[Grouping, str] = {
    "day": "strftime(\"at\", '%Y-%m-%d')",
    "month": "strftime(\"at\", '%Y-%m')",
    "prefix": "prefix",
    "model": _MODEL,
    "run": "run",
    "backfill": "backfill",
}
_LIKE, _CLOSE = 0.8, 0.03  # similarity from 0 to 1: the minimum for a suggestion, and the maximum distance to the best

SHOWN_COLUMNS = tuple(name for name in COLUMNS if name != "spends")
_SHOWN = ", ".join(f'"{name}"' for name in SHOWN_COLUMNS)


@dataclass(frozen=True)
class DocumentFilter:
    """Selects the documents that satisfy every condition.

    Attributes:
        below_confidence: the mean confidence of the words is below this.
        blank: there are blank pages.
        failed: the document failed; if False, done and failed documents are selected.
        slowest: only this many documents, those with the longest time from claim to result first.
        largest: only this many documents, those with the most pages first.
    """

    below_confidence: float | None = None
    blank: bool = False
    failed: bool = False
    slowest: int | None = None
    largest: int | None = None


@dataclass(frozen=True)
class Totals:
    """Sums over documents.

    Attributes:
        documents: the number of documents.
        done: those whose result is published.
        failed: those that were given up.
        pages: pages of the done documents.
        words: words of the done documents.
        blank_pages: blank pages of the done documents.
        confidence: the mean confidence of all words that have one, from 0 to 1.
        unmeasured: done documents with a record from before words and confidence were recorded.
    """

    documents: int
    done: int
    failed: int
    pages: int
    words: int
    blank_pages: int
    confidence: float | None
    unmeasured: int


def totals(catalogue: Catalogue, wanted: DocumentFilter | None = None) -> Totals:
    """Return the sums over the documents that a filter selects, ignoring its limits; without a filter, over all."""
    where, parameters = _where(wanted or DocumentFilter())
    row = catalogue.database.one(
        "SELECT count(*) AS documents, count(*) FILTER (state = 'done') AS done, "
        "count(*) FILTER (state = 'failed') AS failed, coalesce(sum(pages) FILTER (state = 'done'), 0) AS pages, "
        "coalesce(sum(words), 0) AS words, coalesce(sum(blank_pages), 0) AS blank_pages, "
        "sum(confidence_mean * list_sum(confidence_bins)) / sum(list_sum(confidence_bins)) AS confidence, "
        f"count(*) FILTER (state = 'done' AND words IS NULL) AS unmeasured FROM current WHERE {where}",
        parameters,
    )
    confidence = row.pop("confidence")
    return Totals(
        **{name: int(value) for name, value in row.items()},
        confidence=None if confidence is None else float(confidence),
    )


def documents(catalogue: Catalogue, wanted: DocumentFilter, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows that a filter selects, with every column except `spends`."""
    query, parameters = _documents(wanted, limit)
    yield from catalogue.database.rows(query, parameters)


def write_documents(catalogue: Catalogue, wanted: DocumentFilter, file: Path) -> int:
    """Write the rows that a filter selects to a Parquet file. Returns the number of rows."""
    query, parameters = _documents(wanted, None)
    catalogue.database.run(f"CREATE OR REPLACE TEMP TABLE exported AS {query}", parameters)
    times = ", ".join(f'CAST("{name}" AS {COLUMNS_IN_FILES[name]}) AS "{name}"' for name in TIME_COLUMNS)
    return catalogue.database.write_parquet(f"SELECT * REPLACE ({times}) FROM exported", file)


def _documents(wanted: DocumentFilter, limit: int | None) -> tuple[str, list[Any]]:
    where, parameters = _where(wanted)
    order = "document, model, answer_schema, text_layers, ended_at"
    if wanted.slowest is not None:
        where += " AND total_seconds IS NOT NULL"
        order = f"total_seconds DESC, {order}"
    elif wanted.largest is not None:
        where += " AND pages IS NOT NULL"
        order = f"pages DESC, {order}"
    limits = [number for number in (wanted.slowest, wanted.largest, limit) if number is not None]
    bound = f" LIMIT {min(limits)}" if limits else ""
    return f"SELECT {_SHOWN} FROM current WHERE {where} ORDER BY {order}{bound}", parameters


def _where(wanted: DocumentFilter) -> tuple[str, list[Any]]:
    conditions: list[str] = ["true"]
    parameters: list[Any] = []
    if wanted.below_confidence is not None:
        conditions.append("confidence_mean < ?")
        parameters.append(wanted.below_confidence)
    if wanted.blank:
        conditions.append("blank_pages > 0")
    if wanted.failed:
        conditions.append("state = 'failed'")
    return " AND ".join(conditions), parameters


@dataclass(frozen=True)
class Usage:
    """Pages and costs of one group, or of all documents. Costs are in dollars.

    Attributes:
        name: the group, such as a day or a run; empty if the record does not name it.
        documents: documents that were sent.
        requests: submissions that the API accepted.
        pages: pages in them, which are on the vendor's bill.
        cost: the cost of these pages.
        possible_pages: pages without an answer on record, which may be on the bill as well.
        possible_cost: the cost of those pages.
        possible_duplicates: submissions that may be billed and were, or will be, repeated.
        billed_pages: billed pages according to the answers, for published results.
        unpriced_pages: pages of records without a price.
    """

    name: str
    documents: int = 0
    requests: int = 0
    pages: int = 0
    cost: float = 0
    possible_pages: int = 0
    possible_cost: float = 0
    possible_duplicates: int = 0
    billed_pages: int = 0
    unpriced_pages: int = 0


# A request appears in several rows if its job failed and was retried, but was paid for once. A document that is redone
# is claimed again, and what it costs then is added.
_SPENT_COLUMNS = (
    "id VARCHAR, model VARCHAR, answer_schema VARCHAR, prefix VARCHAR, backfill VARCHAR, accepted BOOLEAN, "
    'request VARCHAR, "at" TIMESTAMP, run VARCHAR, price DOUBLE, pages BIGINT, '
    "possible_duplicates BIGINT"
)
_SPENT = """
INSERT INTO spent
SELECT id, max(model) AS model, max(answer_schema) AS answer_schema, max(prefix) AS prefix, max(backfill) AS backfill,
       s.accepted AS accepted, s.request AS request, max(s."at") AS "at", max(s.run) AS run, max(s.price) AS price,
       max(s.pages) AS pages,
       -- Rows saved by an earlier version have no such count; there, each lost answer is one.
       max(coalesce(s.possible_duplicates, CASE WHEN s.accepted THEN 0 ELSE 1 END)) AS possible_duplicates
FROM (
    SELECT id, claimed_at, model, answer_schema, prefix, backfill, unnest(spends) AS s
    FROM (SELECT * FROM history UNION ALL BY NAME SELECT * FROM underway)
    WHERE {part}
)
GROUP BY id, claimed_at, s.accepted, s.request, s.number
"""
_BILLED = """
SELECT model, answer_schema, prefix, backfill, billed_pages, spends[1]."at" AS "at", spends[1].run AS run
FROM current WHERE billed_pages > 0
"""


def usage(
    catalogue: Catalogue,
    by: Grouping | None,
    otherwise: float,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Usage]:
    """Return the pages and costs of all documents: done, failed and open.

    Args:
        catalogue: the catalogue.
        by: the grouping; None for one sum over all.
        otherwise: dollars a page for records without a price.
        since: only pages sent from this time on (naive, UTC).
        until: only pages sent before this time (naive, UTC).

    Returns:
        One entry for each group, ordered by name.
    """
    database = catalogue.database
    group = _GROUPS[by] if by else "''"
    period, bounds = _period(since, until)
    _make_spent(catalogue)
    groups: dict[str, dict[str, Any]] = {}
    for part in catalogue.parts("id"):  # each document is in exactly one part, so counts can be added
        rows = database.rows(
            f"SELECT coalesce({group}, '') AS name, count(DISTINCT id) AS documents, "
            "count(*) FILTER (accepted AND request IS NOT NULL) AS requests, "
            "coalesce(sum(pages) FILTER (accepted), 0) AS pages, "
            "coalesce(sum(pages * coalesce(price, ?)) FILTER (accepted), 0) AS cost, "
            "coalesce(sum(pages) FILTER (NOT accepted), 0) AS possible_pages, "
            "coalesce(sum(pages * coalesce(price, ?)) FILTER (NOT accepted), 0) AS possible_cost, "
            "coalesce(sum(possible_duplicates), 0) AS possible_duplicates, "
            "coalesce(sum(pages) FILTER (price IS NULL), 0) AS unpriced_pages "
            f"FROM spent WHERE {period} AND {part} GROUP BY 1",
            [otherwise, otherwise, *bounds],
        )
        for row in rows:
            sums = groups.setdefault(row["name"], {"name": row["name"]})
            sums.update({name: sums.get(name, 0) + value for name, value in row.items() if name != "name"})
    billed = database.rows(
        f"SELECT coalesce({group}, '') AS name, sum(billed_pages) AS billed FROM ({_BILLED}) WHERE {period} GROUP BY 1",
        bounds,
    )
    for row in billed:
        groups.setdefault(row["name"], {"name": row["name"]})["billed_pages"] = row["billed"]
    return [_usage(row) for _, row in sorted(groups.items())]


def _make_spent(catalogue: Catalogue) -> None:
    """Create the table of all submissions, once for each catalogue."""
    database = catalogue.database
    if next(database.rows("SELECT 1 FROM duckdb_tables() WHERE table_name = 'spent'"), None) is not None:
        return
    database.run(f"CREATE TABLE spent ({_SPENT_COLUMNS})")
    for part in catalogue.parts("id"):
        database.run(_SPENT.format(part=part))


def _period(since: datetime | None, until: datetime | None) -> tuple[str, list[Any]]:
    conditions, bounds = ["true"], []
    if since is not None:
        conditions.append('"at" >= ?')
        bounds.append(since)
    if until is not None:
        conditions.append('"at" < ?')
        bounds.append(until)
    return " AND ".join(conditions), bounds


def _usage(row: Mapping[str, Any]) -> Usage:
    def count(name: str) -> int:
        return int(row.get(name, 0))

    def dollars(name: str) -> float:
        return round(float(row.get(name, 0)), 6)

    return Usage(
        name=row["name"],
        documents=count("documents"),
        requests=count("requests"),
        pages=count("pages"),
        cost=dollars("cost"),
        possible_pages=count("possible_pages"),
        possible_cost=dollars("possible_cost"),
        possible_duplicates=count("possible_duplicates"),
        billed_pages=count("billed_pages"),
        unpriced_pages=count("unpriced_pages"),
    )


def rows_of_document(catalogue: Catalogue, document: str) -> list[Row]:
    """Return all rows of a document, of any version, model and schema, newest first, without those of open jobs."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    records = catalogue.database.rows(
        f"SELECT {names} FROM history WHERE document = ? "
        "QUALIFY row_number() OVER (PARTITION BY id, etag) = 1 ORDER BY claimed_at DESC, ended_at DESC",
        [document],
    )
    return [Row.model_validate(row) for row in records]


def document_ids(catalogue: Catalogue, document: str) -> list[str]:
    """Return the ids of a document's jobs in the ledger, of any version, model and schema."""
    records = catalogue.database.rows(
        "SELECT id FROM current WHERE document = $1 UNION SELECT id FROM underway WHERE document = $1", [document]
    )
    return [row["id"] for row in records]


def names_like(catalogue: Catalogue, named: str, most: int) -> list[str]:
    """Return at most `most` addresses of documents whose address, or path in the source, is similar to a name."""
    candidates = list(
        catalogue.database.rows(
            "SELECT document, max(greatest(jaro_winkler_similarity(document, $1), jaro_winkler_similarity(path, $1))) "
            "AS likeness FROM (SELECT document, path FROM current UNION ALL SELECT document, path FROM underway) "
            f"GROUP BY document ORDER BY likeness DESC, document LIMIT {most}",
            [named],
        )
    )
    best = candidates[0]["likeness"] if candidates else 0
    return [row["document"] for row in candidates if row["likeness"] >= max(_LIKE, best - _CLOSE)]
