"""A discrete-event model of a backfill: what 1, 10 and 100 million documents take, and where that comes from.

`python -m tests.bench.model`: a table for each number of documents and each published tier of the API. What a document
costs is measured (`tests.bench.runs`) or counted (calls); prices are parameters. `--check FIGURES.json` puts the rates
that the model predicts beside those of a measured run.

A backfill is a straight line once its window is full, so the first documents are simulated one group at a time, and the
rest follows at the rate of their second half.
"""

import argparse
import json
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import simpy

TIERS = ((2, 1_200), (4, 2_400), (10, 6_000), (20, 12_000), (40, 24_000))
"""Requests a second and pages a minute, as published for asynchronous OCR."""

_SIMULATED = 20_000
_GROUPS_A_WINDOW = 100


@dataclass(frozen=True)
class Costs:
    """What a document costs, and what is paid for it. Counted where nothing else is said.

    Attributes:
        client: processor seconds of the run; measured. A process has one core: Python's lock.
        services: the same of everything else on the machine; measured. None at S3 and the API.
        cores: of the machine.
        processes: of the run.
        api: seconds at the API for a request, and more for each page.
        poll: seconds between two polls, on the average half of which a finished job waits.
        window: jobs open at once.
        writes, reads, deletes: calls to S3.
        keys: objects a second that listings give: a store answers some ten calls a second in each of eight stretches.
        record: bytes on record of a done document.
        small: bytes of the object that says whose the request is.
        rows: task runs at Prefect's server.
        row: bytes of one, its events included, as PostgreSQL holds them.
        put_price, get_price: dollars for a thousand calls: PUT and LIST, GET and HEAD. DELETE is free.
        storage_price: dollars for a gigabyte in a month. All three: S3 Standard in us-east-1, as published at
            https://aws.amazon.com/s3/pricing/ for the first 50 TB.
        passes: listings of everything in a day, by a scheduled `submit`.
        longest_listing: seconds that a pass may list, before the documents should be divided over prefixes.
        dearest_day: dollars that listings may cost in a day, before they should.
    """

    client: float = 0.055
    services: float = 0.0
    cores: float = 2.0
    processes: int = 1
    api: tuple[float, float] = (2.0, 0.5)
    poll: float = 5.0
    window: int = 1000
    writes: int = 7
    reads: int = 4
    deletes: int = 1
    keys: float = 80_000.0
    record: int = 2_500
    small: int = 100
    rows: float = 0.02
    row: int = 15_800
    put_price: float = 0.005
    get_price: float = 0.0004
    storage_price: float = 0.023
    passes: int = 24
    longest_listing: float = 600.0
    dearest_day: float = 1.0


@dataclass(frozen=True)
class Figures:
    """What a backfill takes.

    Attributes:
        documents: how many.
        tier: requests a second and pages a minute.
        seconds: from the first listing to the last result.
        rate: documents a second, once the window is full.
        workers: machines like the one that is modelled, which the tier needs.
        calls_cost: dollars for the calls about documents.
        listing_cost: dollars for one pass of listings.
        ledger: bytes on record at the end.
        database: bytes at Prefect's server.
        prefixes: over how many the documents should be divided, so that a pass stays short and cheap.
    """

    documents: int
    tier: tuple[float, float]
    seconds: float
    rate: float
    workers: int
    calls_cost: float
    listing_cost: float
    ledger: float
    database: float
    prefixes: int


class Backfill:
    """The simulated documents.

    Args:
        costs: of a document.
        tier: requests a second and pages a minute.
        documents: how many are simulated.
        pages: of each.
    """

    def __init__(self, costs: Costs, tier: tuple[float, float], documents: int, pages: int) -> None:
        self._costs, self._pages = costs, pages
        self._environment = simpy.Environment()
        # One group holds the process while it works; what else runs on the machine takes its share of the cores.
        self._process = simpy.Resource(self._environment, capacity=costs.processes)
        self._limit = simpy.Resource(self._environment, capacity=1)
        self._seconds_a_document = max(1 / tier[0], 60 * pages / tier[1])
        self._group = max(1, min(costs.window, documents) // _GROUPS_A_WINDOW)
        self._window = simpy.Container(self._environment, capacity=costs.window, init=costs.window)
        self._documents = documents
        self._ends: list[float] = []

    def run(self) -> tuple[float, float]:
        """Simulate. Returns the seconds to the last result, and documents a second in the second half."""
        self._environment.process(self._submit())
        self._environment.run()
        half = len(self._ends) // 2
        span = self._ends[-1] - self._ends[half]
        rate = (len(self._ends) - 1 - half) * self._group / span if span else self._documents / self._ends[-1]
        return self._ends[-1], rate

    def _submit(self) -> Generator[simpy.Event, Any, None]:
        for _ in range(math.ceil(self._documents / self._group)):
            yield self._window.get(self._group)
            with self._limit.request() as turn:
                yield turn
                yield self._environment.timeout(self._group * self._seconds_a_document)
            self._environment.process(self._life())

    def _life(self) -> Generator[simpy.Event, Any, None]:
        costs = self._costs
        yield from self._work()
        yield self._environment.timeout(costs.api[0] + costs.api[1] * self._pages + costs.poll / 2)
        yield from self._work()
        yield self._window.put(self._group)
        self._ends.append(self._environment.now)

    def _work(self) -> Generator[simpy.Event, Any, None]:
        """Half of a group's processor time: sent, or collected."""
        costs = self._costs
        crowded = max(1.0, costs.processes / costs.cores, (1 + costs.services / max(costs.client, 1e-9)) / costs.cores)
        with self._process.request() as turn:
            yield turn
            yield self._environment.timeout(self._group * costs.client / 2 * crowded)


def figures(costs: Costs, tier: tuple[float, float], documents: int, pages: int) -> Figures:
    """What so many documents take."""
    simulated = min(documents, _SIMULATED)
    seconds, rate = Backfill(costs, tier, simulated, pages).run()
    listed = 2 * documents / costs.keys
    allowed = min(tier[0], tier[1] / 60 / pages)
    listing_cost = 2 * documents / 1000 * costs.put_price / 1000
    prefixes = max(listed / costs.longest_listing, listing_cost * costs.passes / costs.dearest_day)
    return Figures(
        documents=documents,
        tier=tier,
        seconds=listed + seconds + (documents - simulated) / rate,
        rate=rate,
        workers=max(1, math.ceil(round(allowed * costs.client, 6))),
        calls_cost=documents * (costs.writes * costs.put_price + costs.reads * costs.get_price) / 1000,
        listing_cost=listing_cost,
        ledger=documents * float(costs.record + costs.small),
        database=documents * costs.rows * costs.row,
        prefixes=max(1, math.ceil(prefixes)),
    )


def table(found: Sequence[Figures], costs: Costs) -> str:
    """The figures as a table in markdown."""
    lines = [
        "| documents | tier: requests/s · pages/min | documents/s | days | processes needed | S3 calls, $ "
        "| one pass of listings, $ | ledger, GB | ledger, $ a month | Prefect's database, GB | prefixes |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for each in found:
        days = each.seconds / 86_400
        lines.append(
            f"| {each.documents:,} | {each.tier[0]:g} · {each.tier[1]:,} | {each.rate:.1f} | {days:.1f} "
            f"| {each.workers} | {each.calls_cost:,.0f} | {each.listing_cost:.2f} | {each.ledger / 1e9:,.1f} "
            f"| {each.ledger / 1e9 * costs.storage_price:,.2f} | {each.database / 1e9:,.2f} | {each.prefixes} |"
        )
    return "\n".join(lines)


def checked(file: Path, costs: Costs) -> str:
    """The model's rate beside the measured one, for every row of a run of the benchmark."""
    lines = ["| documents of pages | measured, documents/s | model | ratio |", "|--:|--:|--:|--:|"]
    for row in json.loads(file.read_text())["rows"]:
        if row["name"] != "bulk-ocr run":
            continue
        cpu = {name: milliseconds / 1000 for name, milliseconds in row["cpu"].items()}
        fitted = replace(
            costs, client=cpu.pop("client"), services=sum(cpu.values()), poll=0.5, api=(0.5, 0.0)
        )  # as the stand-in answers
        seconds, _ = Backfill(fitted, (10_000, 10_000_000), row["documents"], row["pages"]).run()
        rate = row["documents"] / seconds
        lines.append(
            f"| {row['documents']:,} of {row['pages']} | {row['rate']:.1f} | {rate:.1f} | {row['rate'] / rate:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.model", description=__doc__)
    parser.add_argument("--documents", type=int, nargs="*", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--pages", type=int, default=3, help="of a document")
    parser.add_argument("--client", type=float, default=1000 * Costs.client, help="CPU milliseconds a document")
    parser.add_argument("--processes", type=int, default=2, help="of the run, over which its documents are shared out")
    parser.add_argument("--cores", type=float, default=Costs.cores)
    parser.add_argument("--check", type=Path, help="figures of tests.bench.runs to compare with")
    given = parser.parse_args()
    costs = Costs(client=given.client / 1000, processes=given.processes, cores=given.cores)
    found = [figures(costs, tier, documents, given.pages) for documents in given.documents for tier in TIERS]
    print(table(found, costs))
    if given.check:
        print(f"\n{checked(given.check, replace(costs, processes=1))}")


if __name__ == "__main__":
    main()
