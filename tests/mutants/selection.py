"""Which tests reach which lines: one run of all tests with coverage, kept until the code or a test changes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from coverage import CoverageData

_DATA = ".coverage.mutants"  # in the tree's root; git ignores it


class BaselineFailed(Exception):
    """The tests cannot be run without any fault put in: no mutant could be told from that."""


class Selection:
    """Tells which tests reach a line.

    Args:
        reached: by file, by line: the tests, as pytest names them.
        failing: tests that fail without any fault, and are left out.
    """

    def __init__(self, reached: dict[str, dict[int, set[str]]], failing: Iterable[str] = ()) -> None:
        self._reached = reached
        self.failing = frozenset(failing)
        self._breadth: dict[str, int] = defaultdict(int)
        for lines in reached.values():
            for tests in lines.values():
                for test in tests:
                    self._breadth[test] += 1

    def tests(self, file: str, lines: Iterable[int]) -> list[str]:
        """The pytest ids of the tests that reach any of the lines, or any line of the file where none is given.

        Those that reach the fewest lines come first: they are the most likely to fail, and the fastest.
        """
        by_line = self._reached.get(file, {})
        wanted = list(lines) or list(by_line)
        tests = set[str]().union(*(by_line.get(line, set()) for line in wanted)) - self.failing
        return sorted(tests, key=lambda test: (self._breadth[test], test))


def _pytest_id(context: str) -> str:
    """`tests.steps.test_poll.test_x` as pytest writes it; all parameters of the test."""
    module, _, test = context.rpartition(".")
    return f"{module.replace('.', '/')}.py::{test}"


def measured(root: Path, files: Sequence[str], tests: Sequence[str]) -> Selection:
    """Run the tests once, and see which lines each reaches.

    Args:
        root: the tree, in which `tests` can be imported.
        files: the modules that matter, relative to it.
        tests: files or folders of tests, relative to it.

    Raises:
        BaselineFailed: the tests cannot be run.
    """
    data, stamp = root / _DATA, root / f"{_DATA}.json"
    state = {"tests": list(tests), "files": sorted(files), "tree": _fingerprint(root)}
    kept = json.loads(stamp.read_text()) if data.exists() and stamp.exists() else {}
    if kept.get("state") != state:
        stamp.unlink(missing_ok=True)
        kept = {"state": state, "failing": _run(root, files, tests)}
        stamp.write_text(json.dumps(kept))
    return Selection(_read(root, data), kept["failing"])


def _run(root: Path, files: Sequence[str], tests: Sequence[str]) -> list[str]:
    """Run the tests with coverage. Gives those that fail."""
    settings, cache = root / f"{_DATA}.rc", root / f"{_DATA}.cache"
    settings.write_text("[run]\ndynamic_context = test_function\n")
    shutil.rmtree(cache, ignore_errors=True)
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}", f"--data-file={root / _DATA}"]
    command += [f"--include={','.join(files)}", "-m", "pytest", "-q", "-o", f"cache_dir={cache}", *tests]
    fresh = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # else its mutants would be taken for what this compiles
    done = subprocess.run(command, cwd=root, env=fresh, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    last = cache / "v" / "cache" / "lastfailed"
    failed = json.loads(last.read_text()) if last.exists() else {}
    if done.returncode not in (0, 1) or any("::" not in test for test in failed):
        raise BaselineFailed(f"the tests cannot be run as they are:\n{done.stdout[-3000:]}")
    return sorted({test.partition("[")[0] for test in failed})


def _read(root: Path, file: Path) -> dict[str, dict[int, set[str]]]:
    data = CoverageData(str(file))
    data.read()
    reached = {}
    for measured_file in data.measured_files():
        lines = data.contexts_by_lineno(measured_file)
        name = Path(measured_file).relative_to(root).as_posix()
        reached[name] = {
            line: {_pytest_id(context) for context in contexts if context} for line, contexts in lines.items()
        }
    return reached


def _fingerprint(root: Path) -> str:
    whole = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        if not any(part.startswith(".") for part in file.relative_to(root).parts):
            whole.update(file.read_bytes())
    return whole.hexdigest()
