"""Measures the same backfill on one worker and on three: `python -m tests.machines`. Prints tables for docs/deploy.md.

Every submission takes half a second, as over a network, and every worker sends two documents at once: what more workers
can share out is that time. All processes are on one machine here, so its processors are shared out too.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from deployments.local.stack import UPSTAGE_KEY, LocalStack
from tests.machines.backfill import PAGES, collect_nothing, machines, play
from tests.machines.servers import Servers, servers
from tests.stand_in import StandInControl
from tests.steps.conftest import World

_COLLECTS = 5
_SETTLE_SECONDS = 10.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.machines", description=__doc__)
    parser.add_argument("--documents", type=int, default=240, help=f"how many in each backfill, of {PAGES} pages")
    count = parser.parse_args().documents
    os.environ.update({"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"})
    with (
        tempfile.TemporaryDirectory(prefix="machines-") as name,
        servers(Path(name) / "prefect") as prefect,
        LocalStack(Path(name) / "stack", recogniser="text", services=("s3", "upstage")) as stack,
    ):
        api, s3 = StandInControl(stack.upstage_url, UPSTAGE_KEY), World.client(stack.s3_url)
        print("| workers | documents | seconds | of one worker's | lost | billed twice | counted as possible |")
        print("|--:" * 7 + "|")
        alone, before = 0.0, prefect.rows()
        for workers, kill in ((1, False), (3, False), (3, True)):
            grounds = machines(prefect, stack, Path(name) / f"{workers}-{kill}", workers)
            found = play(grounds, s3, api, count, kill=kill)
            alone = alone or found.seconds
            who = f"{workers}, one killed" if kill else str(workers)
            cells = [who, count, f"{found.seconds:.0f}", f"{found.seconds / alone:.2f}"]
            cells += [found.lost, found.billed_twice, found.counted]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
            if workers == 1:
                backfill = _more(prefect, before)
        before = prefect.rows()
        collect_nothing(machines(prefect, stack, Path(name) / "idle", 1)[0], s3, _COLLECTS)
        collects = _more(prefect, before)
        print("\nRows that a run leaves in Prefect's database:\n")
        print(f"| run | {' | '.join(backfill)} |")
        print("|---" + "|--:" * len(backfill) + "|")
        print(f"| backfill of {count} documents | {' | '.join(map(str, backfill.values()))} |")
        print(f"| collect, no job open | {' | '.join(f'{rows / _COLLECTS:.1f}' for rows in collects.values())} |")


def _more(prefect: Servers, before: Mapping[str, int]) -> dict[str, int]:
    """The rows that have come since, once the servers have written down what they were told."""
    rows = prefect.rows()
    while True:
        time.sleep(_SETTLE_SECONDS)  # the servers write in batches, and nobody says when they are through
        later = prefect.rows()
        if later == rows:
            return {table: number - before[table] for table, number in rows.items()}
        rows = later


if __name__ == "__main__":
    main()
