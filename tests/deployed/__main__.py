"""Measures the time from upload to result on schedule: `python -m tests.deployed`. Prints a table for docs/deploy.md.

With the stand-in's recogniser `text`, which takes no time worth speaking of: the figures are the pipeline's own share.
"""

import argparse
import os
import statistics
import tempfile
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.local.stack import UPSTAGE_KEY, LocalStack
from tests import sample_documents as documents
from tests.deployed.ground import Ground, grounds, places
from tests.flows.conftest import Place
from tests.stand_in import StandInControl
from tests.steps.conftest import World
from tests.waiting import until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_SECONDS_BETWEEN = 7.0  # documents arrive at different moments of the schedules


def _measure(ground: Ground, s3: "S3Client", name: str, every: int, count: int) -> list[float]:
    """Put documents one after the other. Returns the seconds until each has its result, by the store's clock."""
    bucket = f"latency-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    place = Place(bucket, s3)
    schedule = {"schedule": {"every": every}}
    deployed = ground.deploy(places({name: place}, {name: {"submit": schedule, "collect": schedule}}))
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    until(lambda: ground.runs(f"collect-{name}", "COMPLETED"), "the first collect")
    for number in range(count):
        place.put({f"{number}.pdf": documents.text_pdf([f"{name} {number}", "two"])})
        time.sleep(_SECONDS_BETWEEN)  # what is measured is how documents that arrive over time fare
    until(lambda: len(place.results()) == count, "all results")
    for flow in ("submit", "collect"):
        ground.pause(f"{flow}-{name}")

    def written(key: str) -> datetime:
        return s3.head_object(Bucket=bucket, Key=key)["LastModified"]

    return [
        (written(f"out/{number}.pdf.ocr.json") - written(f"in/{number}.pdf")).total_seconds() for number in range(count)
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.deployed", description=__doc__)
    parser.add_argument("--documents", type=int, default=8, help="how many for each row")
    parser.add_argument("--every", type=int, nargs="+", default=[10, 60], help="seconds between runs; a row each")
    given = parser.parse_args()
    os.environ.update({"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"})
    with (
        tempfile.TemporaryDirectory(prefix="deployed-") as folder,
        LocalStack(Path(folder) / "stack", recogniser="text", services=("s3", "upstage")) as stack,
        grounds(stack, Path(folder)) as ground,
        ground.worker(),
    ):
        StandInControl(stack.upstage_url, UPSTAGE_KEY).reset()
        s3 = World.client(stack.s3_url)
        print("| submit and collect every | worker asks every | documents | min s | median s | max s |")
        print("|--:|--:|--:|--:|--:|--:|")
        for every in given.every:
            took = _measure(ground, s3, f"every-{every}-s", every, given.documents)
            figures = (min(took), statistics.median(took), max(took))
            cells = [f"{every} s", "1 s", str(len(took)), *(f"{figure:.1f}" for figure in figures)]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
