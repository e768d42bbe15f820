"""How much of an account's rate limits the learned rate uses: `python -m tests.bench.rates`.

One process, or several that know nothing of one another, run over shards of the same documents against the stand-in,
which refuses what exceeds its limit. Each second, its counts are read. The table covers the time from one minute after
the first call until the first of the processes has sent its last document: from then on, the others have the account to
themselves. Submissions and polls have one limit there, pages another.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.runs.ground import Ground, run_command, shard_options
from tests.stand_in import StandInControl

_LOOK_SECONDS = 1.0
_WARM_UP_SECONDS = 60.0
_STORAGE = "GET /storage"
_SUBMISSION = "POST "


@dataclass(frozen=True)
class Sample:
    """The stand-in's counts at one moment.

    Attributes:
        at: UNIX time in seconds.
        submissions: how many were accepted.
        polls: how many status calls were answered.
        refused: how many calls of either kind were answered 429.
    """

    at: float
    submissions: int
    polls: int
    refused: int


@dataclass(frozen=True)
class Share:
    """One line of the table.

    Attributes:
        limit: of requests a second, or of pages a minute.
        unit: which of both.
        processes: number of processes.
        seconds: length of the period measured.
        used: the share of the limit that was used.
        submissions: the share of the limit that submissions used.
        refused: refused calls, as a share of all calls of that period.
        fewest: documents sent in the period by the process that sent the fewest.
        most: the same by the process that sent the most.
        lost: documents without a result.
        billed_twice: pages billed more than once.
    """

    limit: int
    unit: str
    processes: int
    seconds: float
    used: float
    submissions: float
    refused: float
    fewest: int
    most: int
    lost: int
    billed_twice: int


def measure(ground: Ground, limit: int, unit: str, documents: int, processes: int) -> Share:
    """Run the product against a limit, and tell how much of it was used.

    Args:
        ground: the stack.
        limit: of requests a second, or of pages a minute.
        unit: "requests" or "pages".
        documents: how many, of one page each (of three where pages are limited).
        processes: how many share them.
    """
    pages = 3 if unit == "pages" else 1
    kept = {"pages_per_minute": limit} if unit == "pages" else {"requests_per_second": limit}
    bucket = ground.bucket(documents, pages)
    billed = len(ground.control.billed())
    ground.control.reset()
    ground.control.set(keep_rates=True, **kept)
    try:
        samples = _run(ground, bucket, processes)
    finally:
        ground.control.reset()
    done = ground.done(bucket)
    sent_at: dict[str, list[float]] = {}
    for request in (request for record in done for request in record.job.requests):
        sent_at.setdefault(request.run or "", []).append(request.submitted_at.timestamp())
    begun, all_sending_until = samples[0].at + _WARM_UP_SECONDS, min(max(times) for times in sent_at.values())
    period = [sample for sample in samples if begun <= sample.at <= all_sending_until]
    if len(period) < 2:
        raise RuntimeError(f"{documents} documents were sent in less than a minute: take more")
    first, end = period[0], period[-1]
    seconds = end.at - first.at
    submitted = end.submissions - first.submissions
    calls = submitted + end.polls - first.polls
    allowed = limit * seconds / (60 if unit == "pages" else 1)
    sent = submitted * pages if unit == "pages" else submitted
    by_process = [sum(first.at <= moment <= end.at for moment in times) for times in sent_at.values()]
    refused = end.refused - first.refused
    return Share(
        limit=limit,
        unit=unit,
        processes=processes,
        seconds=seconds,
        used=(sent if unit == "pages" else calls) / allowed,
        submissions=sent / allowed,
        refused=refused / max(1, calls + refused),
        fewest=min(by_process),
        most=max(by_process),
        lost=documents - len(done),
        billed_twice=sum(entry["pages"] for entry in ground.control.billed(since=billed)) - documents * pages,
    )


def _run(ground: Ground, bucket: str, processes: int) -> list[Sample]:
    """Run the processes to their end. Returns a sample a second from the first call on."""
    environment = ground.stack.process_environment()
    commands = [
        run_command(bucket, 16, "--requests-per-second", "auto", "--pages-per-minute", "auto", *shard)
        for shard in shard_options(processes)
    ]
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    samples: list[Sample] = []
    while any(process.poll() is None for process in started):
        sample = _sample(ground.control)
        if samples or sample.submissions:
            samples.append(sample)
        time.sleep(_LOOK_SECONDS)  # a sample a second: the rate is the difference of two counts over time
    if failed := [process.returncode for process in started if process.returncode]:
        raise RuntimeError(f"a run ended with {failed}")
    return [*samples, _sample(ground.control)]


def _sample(control: StandInControl) -> Sample:
    answers: Mapping[str, Mapping[str, int]] = control.answers()
    submissions = polls = refused = 0
    for call, outcomes in answers.items():
        if call.startswith(_STORAGE):
            continue
        refused += outcomes.get("429", 0)
        accepted = sum(number for status, number in outcomes.items() if status.startswith("2"))
        submissions += accepted * call.startswith(_SUBMISSION)
        polls += accepted * (not call.startswith(_SUBMISSION))
    return Sample(time.time(), submissions, polls, refused)


def table(shares: Sequence[Share]) -> str:
    """Return the shares as a table in markdown."""
    lines = [
        "| limit | processes | share used | by submissions | calls refused | documents sent by each process "
        "| lost | pages billed twice | seconds measured |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for share in shares:
        unit = "pages a minute" if share.unit == "pages" else "requests a second"
        sent = f"{share.most}" if share.processes == 1 else f"{share.fewest} to {share.most}"
        lines.append(
            f"| {share.limit:,} {unit} | {share.processes} | {share.used:.0%} | {share.submissions:.0%} "
            f"| {share.refused:.1%} | {sent} | {share.lost} | {share.billed_twice} | {share.seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rates", description=__doc__)
    parser.add_argument("--requests", nargs="*", default=["2x200", "10x900"], help="requests a second x documents")
    parser.add_argument("--pages", nargs="*", default=["600x700"], help="pages a minute x documents of three pages")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--json", type=Path, help="also write the figures there")
    given = parser.parse_args()
    shares: list[Share] = []
    with tempfile.TemporaryDirectory() as folder:
        ground = Ground(Path(folder))
        try:
            for unit, sizes in (("requests", given.requests), ("pages", given.pages)):
                for size in sizes:
                    limit, documents = map(int, size.split("x"))
                    for processes in given.processes:
                        shares.append(measure(ground, limit, unit, documents, processes))
                        print(table(shares[-1:]).splitlines()[-1], flush=True)
                        if given.json:
                            told: list[dict[str, Any]] = [asdict(share) for share in shares]
                            given.json.write_text(json.dumps(told, indent=1))
        finally:
            ground.close()
    print(table(shares))


if __name__ == "__main__":
    main()
