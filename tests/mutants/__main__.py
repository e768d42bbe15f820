"""Puts small faults into the core, one at a time, and tells which of them no test notices.

    python -m tests.mutants --sample 100
    python -m tests.mutants --files tasks/job/*.py --sample 0

The sources are never touched: each fault is put into a copy of the tree. The first run measures which tests reach which
lines, and each fault is tried with the tests that reach it, until one fails.
"""

import argparse
import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.operators import Mutant, mutants
from tests.mutants.selection import BaselineFailed, Selection, measured

ROOT = Path(__file__).resolve().parents[2]
CORE = ["tasks/job/*.py", "tasks/store/ledger.py", "tasks/steps/*.py", "tasks/context.py"]
TESTS = ["tests/job", "tests/store", "tests/steps"]
_TREE = ["tasks", "flows", "deployments", "tests", "pyproject.toml"]
_HANGS = 60  # seconds that one test may take before it counts as failed: a fault may well be an endless loop


@dataclass(frozen=True)
class Fault:
    """A mutant of a file."""

    file: str
    mutant: Mutant
    source: bytes

    @property
    def line(self) -> int:
        """Where the edit begins."""
        return self.source.count(b"\n", 0, self.mutant.start) + 1

    def diff(self) -> str:
        """The edit, as a patch that can be applied."""
        before, after = self.source.decode(), self.mutant.applied(self.source).decode()
        lines = difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{self.file}", f"b/{self.file}", n=1
        )
        return "".join(lines)


def faults(root: Path, patterns: list[str]) -> list[Fault]:
    """All faults of the files that fit the patterns."""
    files = dict.fromkeys(file for pattern in patterns for file in sorted(root.glob(pattern)))
    return [
        Fault(file.relative_to(root).as_posix(), mutant, source)
        for file in files
        for source in [file.read_bytes()]
        for mutant in mutants(source)
    ]


def survives(tree: Path, fault: Fault, selection: Selection) -> bool:
    """Whether all tests that reach the fault pass with it, in a copy of the tree."""
    tests = selection.tests(fault.file, fault.mutant.lines)
    if not tests:
        return True
    file = tree / fault.file
    file.write_bytes(fault.mutant.applied(fault.source))
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--timeout={_HANGS}", *tests]
        # Mutants of the same length within the same second look the same to Python's cache of what it compiled.
        fresh = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        return (
            subprocess.run(
                command, cwd=tree, env=fresh, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ).returncode
            == 0
        )
    finally:
        file.write_bytes(fault.source)


def run(root: Path, patterns: list[str], tests: list[str], sample: int, seed: int) -> list[Fault]:
    """Try faults, and print how it goes. Returns those that survived.

    Raises:
        BaselineFailed: the tests cannot be run without any.
    """
    found = faults(root, patterns)
    chosen = found if not 0 < sample < len(found) else random.Random(seed).sample(found, sample)
    chosen.sort(key=lambda fault: (fault.file, fault.mutant.start, fault.mutant.end))
    print(f"{len(chosen)} of {len(found)} mutants; measuring which tests reach which lines", flush=True)
    selection = measured(root, sorted({fault.file for fault in found}), tests)
    for test in sorted(selection.failing):
        print(f"left out, since it fails without any fault: {test}", flush=True)
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        for name in _TREE:
            if (root / name).is_dir():
                shutil.copytree(root / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            elif (root / name).exists():
                shutil.copy(root / name, tree / name)
        for number, fault in enumerate(chosen, start=1):
            survived = survives(tree, fault, selection)
            fate = "SURVIVED" if survived else "died"
            print(f"{number}/{len(chosen)} {fate} {fault.file}:{fault.line} {fault.mutant.operator}", flush=True)
            if survived:
                survivors.append(fault)
                print(fault.diff(), flush=True)
    print(f"{len(survivors)} of {len(chosen)} survived")
    for fault in survivors:
        print(f"  {fault.file}:{fault.line} {fault.mutant.operator}")
    return survivors


def main() -> None:
    """Try a sample of the core's mutants."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=100, help="how many mutants, drawn at random; 0 for all")
    parser.add_argument("--seed", type=int, default=0, help="another number draws another sample")
    parser.add_argument("--files", nargs="+", default=CORE, metavar="GLOB", help="which modules get faults")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH", help="which tests may notice them")
    given = parser.parse_args()
    try:
        run(ROOT, given.files, given.tests, given.sample, given.seed)
    except BaselineFailed as failed:
        sys.exit(str(failed))


if __name__ == "__main__":
    main()
