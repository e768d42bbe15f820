"""One command for all figures: `python -m tests.bench.runs`. Prints a table, and writes JSON with `--json FILE`.

Each figure stands beside the yardstick's in the same run, entrants taking turns; medians of as many rounds as asked
for. The machine's own speed cancels out in the ratios; processor time is counted by process.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.runs.ground import Ground, Measured


@dataclass(frozen=True)
class Row:
    """One line of the table; medians over the rounds.

    Attributes:
        name: what was run.
        documents: how many, of so many pages each.
        pages: of each document.
        rate: documents a second.
        ratio: to the yardstick's of the same rounds.
        cpu: processor milliseconds a document, of the client and of each service.
        task_runs: rows at Prefect's server, a document.
        peak: memory of the client, in MB.
    """

    name: str
    documents: int
    pages: int
    rate: float
    ratio: float
    cpu: dict[str, float]
    task_runs: float
    peak: float


def measure(ground: Ground, documents: int, pages: int, rounds: int, workers: int) -> list[Row]:
    """Let the yardstick and the product take turns over buckets of the same documents."""
    plain: list[Measured] = []
    product: list[Measured] = []
    task_runs: list[int] = []
    for _ in range(rounds):
        bucket = ground.bucket(documents, pages)
        plain.append(ground.yardstick(bucket, workers))
        before = ground.task_runs()
        product.append(ground.entrant(bucket, workers))
        task_runs.append(ground.settled_task_runs() - before)
    yardstick = statistics.median(each.rate for each in plain)
    return [
        _row("plain script", plain, documents, pages, yardstick, [0]),
        _row("bulk-ocr run", product, documents, pages, yardstick, task_runs),
    ]


def _row(
    name: str, measured: Sequence[Measured], documents: int, pages: int, yardstick: float, task_runs: Sequence[int]
) -> Row:
    rate = statistics.median(each.rate for each in measured)
    processes = ("client", *measured[0].services)
    return Row(
        name,
        documents,
        pages,
        rate,
        rate / yardstick,
        {process: statistics.median(each.cpu(process) for each in measured) for process in processes},
        statistics.median(task_runs) / documents,
        statistics.median(each.peak for each in measured),
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as a table in markdown."""
    lines = [
        "| | documents of pages | documents/s | ratio | CPU ms a document: client · Prefect · S3 · API | "
        "task runs a document | peak, MB |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cpu = " · ".join(f"{row.cpu.get(process, 0):.0f}" for process in ("client", "prefect", "s3", "upstage"))
        lines.append(
            f"| {row.name} | {row.documents:,} of {row.pages} | {row.rate:.1f} | {row.ratio:.2f} | {cpu} "
            f"| {row.task_runs:.2f} | {row.peak:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.runs", description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=["100x3", "1000x3", "20x300"], help="documents x pages")
    parser.add_argument("--rounds", type=int, default=3, help="how often each entrant runs")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        ground = Ground(Path(folder))
        try:
            for size in given.sizes:
                documents, pages = map(int, size.split("x"))
                rows += measure(ground, documents, pages, given.rounds, given.workers)
            calls = ground.calls(ground.bucket(20, 3), given.workers)
            without = ground.calls(ground.bucket(0, 3), given.workers, empty=True)
        finally:
            ground.close()
    print(table(rows))
    each = {method: (number - without.get(method, 0)) / 20 for method, number in calls.items() if method != "LIST"}
    print("\nCalls to S3 a document:", ", ".join(f"{method} {number:g}" for method, number in sorted(each.items())))
    if given.json:
        given.json.write_text(json.dumps({"rows": [asdict(row) for row in rows], "s3_calls": each}, indent=1))


if __name__ == "__main__":
    main()
