"""What it takes to look through a bucket in which everything is done, or open and not due.

`python -m tests.bench.listing --documents 100000 1000000 --open 10000`: for each number of documents that are all done,
one pass of `submit`'s listings; for each number of open jobs, the looks at the open jobs. Against a server that answers
listings at once (`tests.bench.stub_s3`), so the seconds are the program's own. Prints a table, and writes JSON with
`--json FILE`. Each row is a process of its own, whose peak of memory is the row's.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from tasks.clock import Clock
from tasks.context import RunContext
from tasks.options import Options, RunSettings
from tasks.steps.discover import discover
from tasks.steps.poll import OpenJobs
from tasks.store.objects import Objects, connect
from tasks.tally import KnownJobs
from tests.bench.stub_s3 import BUCKET, MODEL

_ACCESS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_REGION": "us-east-1"}


def _context(url: str) -> RunContext:
    settings = RunSettings(source=f"s3://{BUCKET}/in/", destination=f"s3://{BUCKET}/out/", options=Options(model=MODEL))
    return RunContext(settings, Objects(connect(url), Clock()), key="unused")


def done(url: str) -> dict[str, Any]:
    """A pass over documents that are all done: the ledger's listings, then the source's."""
    context = _context(url)
    with tempfile.TemporaryDirectory() as folder, KnownJobs(Path(folder)) as known:
        began = time.monotonic()
        known.load(context.ledger)
        listed = time.monotonic()
        new = met = 0
        for found in discover(context, known):
            met += 1
            new += found.state is None
        ended = time.monotonic()
    return {"keys": 2 * met, "documents": met, "new": new, "ledger": listed - began, "seconds": ended - began}


def still_open(url: str) -> dict[str, Any]:
    """Two looks at the open jobs, none of them due; the second is what a pass costs from then on."""
    jobs = OpenJobs(_context(url))
    first = jobs.survey()
    began, before = time.monotonic(), _calls(url)
    second = jobs.survey()
    calls = {method: number - before.get(method, 0) for method, number in _calls(url).items()}
    return {
        "keys": len(second.open),
        "documents": len(first.open),
        "new": len(second.due),
        "seconds": time.monotonic() - began,
        "calls": {method: number for method, number in calls.items() if number},
    }


def _calls(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/_calls") as answer:
        found: dict[str, int] = json.load(answer)
        return found


def measure(what: str, documents: int) -> dict[str, Any]:
    """One row, in a process of its own beside a server of its own."""
    opened = str(documents if what == "open" else 0)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.stub_s3", str(documents), opened], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    with closing(server.stdout):
        try:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            ran = subprocess.run(
                [sys.executable, "-m", "tests.bench.listing", "--row", what, url],
                env=os.environ | _ACCESS | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
                stdout=subprocess.PIPE,
                check=True,
            )
            row: dict[str, Any] = json.loads(ran.stdout)
            return {"what": what, "calls": _calls(url)} | row
        finally:
            server.kill()
            server.wait()


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table in markdown."""
    lines = ["| | documents | seconds | keys a second | calls | CPU s | peak, MB |", "|---|--:|--:|--:|---|--:|--:|"]
    for row in rows:
        calls = ", ".join(f"{number:,} {method}" for method, number in sorted(row["calls"].items()))
        name = "all done: one pass" if row["what"] == "done" else "all open, none due: a look"
        lines.append(
            f"| {name} | {row['documents']:,} | {row['seconds']:.1f} | {row['keys'] / row['seconds']:,.0f} | {calls} "
            f"| {row['cpu']:.1f} | {row['peak']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.listing", description=__doc__)
    parser.add_argument("--documents", type=int, nargs="*", default=[100_000, 1_000_000], help="all done")
    parser.add_argument("--open", type=int, nargs="*", default=[10_000], help="all open, none due")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        row = {"done": done, "open": still_open}[given.row[0]](given.row[1])
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps(row | {"peak": used.ru_maxrss / 1024, "cpu": used.ru_utime + used.ru_stime}))
        return
    rows = [measure("done", number) for number in given.documents] + [measure("open", number) for number in given.open]
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
