"""Commands that run at the same time, as processes."""

import subprocess

from tests.flows.conftest import FAST, Start
from tests.stand_in import StandInControl
from tests.waiting import PATIENCE


def at_once(start: Start, *commands: tuple[str, ...]) -> list["subprocess.CompletedProcess[str]"]:
    """Run commands at the same time and wait for all."""
    started = [start(*command, *FAST, "--json") for command in commands]
    return [process.completed(PATIENCE) for process in started]


def billed_once(api: StandInControl, hashes: list[str]) -> bool:
    return sorted(submission["sha256"] for submission in api.billed(*hashes)) == sorted(hashes)
