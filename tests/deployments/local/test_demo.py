"""The demo, as a newcomer runs it: real recognition, and a second run that sends nothing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.local.stack import DEFAULT_DATA
from tests.waiting import PATIENCE

pytestmark = pytest.mark.servers


def _demo(folder: Path) -> str:
    process = subprocess.run(
        [sys.executable, "-m", "flows.cli", "demo", "--exit"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_the_demo_recognises_its_samples_and_sends_nothing_twice(tmp_path: Path, prefect_database: Path) -> None:
    shutil.copytree(prefect_database, tmp_path / DEFAULT_DATA / "prefect")  # making one takes 10 s
    first = _demo(tmp_path)
    assert "8 documents: 8 done, 0 failed, 0 were done before. 23 pages sent in 8 requests" in " ".join(first.split())
    rows = [line.split()[-1] for line in first.splitlines() if re.search(r"\.ocr\.json\s+\d+\s+\d+", line)]
    assert rows == ["yes"] * len(rows), first
    second = _demo(tmp_path)
    assert "0 done, 0 failed, 8 were done before. 0 pages sent in 0 requests" in " ".join(second.split())
