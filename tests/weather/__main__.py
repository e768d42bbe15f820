"""Plays all scenarios on a local stack of its own and prints the table: `python -m tests.weather`."""

import os
import sys
import tempfile
from pathlib import Path

from deployments.local.stack import UPSTAGE_KEY, LocalStack
from tests.stand_in import StandInControl
from tests.steps.conftest import World
from tests.weather.drive import Measured, calm, play
from tests.weather.ground import Ground
from tests.weather.scenarios import SCENARIOS

_HEAD = (
    "fault",
    "tried how often",
    "documents",
    "lost",
    "pages that never came, paid again",
    "pages paid twice",
    "counted as possible duplicates",
    "API calls relative to calm",
    "S3 calls relative to calm",
)


def _row(cells: tuple[object, ...]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _cells(measured: Measured) -> tuple[object, ...]:
    return (
        measured.name,
        measured.hits,
        measured.documents,
        measured.lost,
        measured.sent_again_pages,
        measured.billed_twice_pages,
        measured.counted_duplicates,
        f"{measured.api_ratio:.2f}",
        f"{measured.s3_ratio:.2f}",
    )


def main() -> None:
    """Play and print."""
    with (
        tempfile.TemporaryDirectory(prefix="weather-") as folder,
        LocalStack(Path(folder), recogniser="text", services=("s3", "upstage")) as stack,
    ):
        # Nothing of the user's environment decides where calls go.
        os.environ.update({"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"})
        control = StandInControl(stack.upstage_url, UPSTAGE_KEY)
        ground = Ground(World.client(stack.s3_url), stack.s3_url, control, stack.data / "upstage" / "requests")
        undisturbed = calm(ground)
        print(_row(_HEAD))
        print("|---" + "|--:" * (len(_HEAD) - 1) + "|")
        for scenario in SCENARIOS:
            print(_row(_cells(play(scenario, ground, undisturbed))), flush=True)
        print(f"\nCalm: {undisturbed.api_calls} calls to the API and {undisturbed.s3_calls} to S3.", file=sys.stderr)


if __name__ == "__main__":
    main()
