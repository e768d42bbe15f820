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
from typing import Any

from tests.bench.runs.ground import Ground, Measured

PEERS = {"a Prefect flow with .map and retries": "prefect_map", "a loop: submit, poll every 5 s": "loop"}


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
        after: seconds from the last result to the end of the process.
    """

    name: str
    documents: int
    pages: int
    rate: float
    ratio: float
    cpu: dict[str, float]
    task_runs: float
    peak: float
    after: float


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
    name: str, measured: Sequence[Measured], documents: int, pages: int, yardstick: float, task_runs: Sequence[float]
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
        statistics.median(each.after for each in measured),
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as a table in markdown."""
    lines = [
        "| | documents of pages | documents/s | ratio | CPU ms a document: client · Prefect · S3 · API | "
        "task runs a document | peak, MB | exit after the last result, s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cpu = " · ".join(f"{row.cpu.get(process, 0):.0f}" for process in ("client", "prefect", "s3", "upstage"))
        lines.append(
            f"| {row.name} | {row.documents:,} of {row.pages} | {row.rate:.1f} | {row.ratio:.2f} | {cpu} "
            f"| {row.task_runs:.2f} | {row.peak:.0f} | {row.after:.1f} |"
        )
    return "\n".join(lines)


def prefect_rows(ground: Ground, documents: int, pages: int, workers: int) -> tuple[Measured, float]:
    """What the product takes, and how many task runs a document."""
    before = ground.task_runs()
    measured = ground.entrant(ground.bucket(documents, pages), workers)
    return measured, (ground.settled_task_runs() - before) / documents


def side_rows(ground: Ground, documents: int, pages: int, workers: int, processes: Sequence[int]) -> list[Row]:
    """Peers, and several processes of the product with a shard each, beside the yardstick of the same size."""
    plain = ground.yardstick(ground.bucket(documents, pages), workers)
    rows = [_row("plain script", [plain], documents, pages, plain.rate, [0])]
    for name, module in PEERS.items():
        before = ground.task_runs()
        measured = ground.peer(module, ground.bucket(documents, pages), workers)
        task_runs = [ground.settled_task_runs() - before]
        rows.append(_row(name, [measured], documents, pages, plain.rate, task_runs))
    for number in processes:
        before = ground.task_runs()
        measured = ground.fleet(ground.bucket(documents, pages), workers, number)
        task_runs = [ground.settled_task_runs() - before]
        rows.append(_row(f"bulk-ocr run, {number} processes", [measured], documents, pages, plain.rate, task_runs))
    return rows


def latency(ground: Ground, bucket: str) -> float:
    """Seconds from the end of a document's last batch to its result; the median."""
    waits: list[float] = []
    for record in ground.done(bucket):
        ends = [request.completed_at for request in record.job.requests if request.completed_at is not None]
        if ends:
            waits.append((record.finished_at - max(ends)).total_seconds())
    return statistics.median(waits)


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.runs", description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=["100x3", "1000x3", "20x300"], help="documents x pages")
    parser.add_argument("--rounds", type=int, default=3, help="how often each entrant runs")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--memory", nargs="*", default=["2x100", "1x1000"], help="sizes of which the peak is told")
    parser.add_argument("--side", default="100x3", help="size at which peers and processes are measured")
    parser.add_argument("--processes", type=int, nargs="*", default=[2, 4], help="of several at once")
    parser.add_argument("--kill", default="60x3", help="size at which entrants are killed")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    given = parser.parse_args()
    workers = given.workers
    rows: list[Row] = []
    told: dict[str, Any] = {}

    def keep() -> None:
        """Write what is known so far: a long run that is cut short is not for nothing."""
        if given.json:
            given.json.write_text(json.dumps({"rows": [asdict(row) for row in rows], **told}, indent=1))

    with tempfile.TemporaryDirectory() as folder:
        ground = Ground(Path(folder))
        try:
            for size in given.sizes:
                rows += measure(ground, *_size(size), given.rounds, workers)
                keep()
            for size in given.memory:
                documents, pages = _size(size)
                measured, task_runs = prefect_rows(ground, documents, pages, workers)
                rows.append(_row("bulk-ocr run", [measured], documents, pages, measured.rate, [task_runs * documents]))
                keep()
            if given.side:
                rows += side_rows(ground, *_size(given.side), workers, given.processes)
                keep()
            bucket = ground.bucket(20, 3)
            calls = ground.calls(bucket, workers)
            empty = ground.calls(ground.bucket(0, 3), workers, empty=True)
            told["calls to S3 a document"] = {
                method: (number - empty.get(method, 0)) / 20 for method, number in calls.items() if method != "LIST"
            }
            told["seconds from a batch's end to the result"] = latency(ground, bucket)
            told["start-up, seconds and CPU seconds"] = ground.start_up(bucket)
            keep()
            told["killed at a third"] = [
                asdict(ground.killed(name, *_size(given.kill), workers))
                for name in (("bulk-ocr run", *PEERS.values()) if given.kill else ())
            ]
        finally:
            ground.close()
        if given.side:  # the runs start a server of their own, or do without
            ground = Ground(Path(folder) / "without", prefect=False)
            try:
                documents, pages = _size(given.side)
                measured = ground.entrant(ground.bucket(documents, pages), workers)
                rows.append(
                    _row("bulk-ocr run, its own Prefect server", [measured], documents, pages, measured.rate, [0])
                )
            finally:
                ground.close()
    print(table(rows))
    print()
    for name, value in told.items():
        print(f"- {name}: {json.dumps(value)}")
    keep()


def _size(text: str) -> tuple[int, int]:
    documents, pages = map(int, text.split("x"))
    return documents, pages


if __name__ == "__main__":
    main()
