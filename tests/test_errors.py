"""`docs/errors.md` explains every code, and no other."""

import re
from pathlib import Path

from tasks.faults import ExitStatus, FailureCode

PAGE = (Path(__file__).parents[1] / "docs" / "errors.md").read_text(encoding="utf-8")


def test_every_code_of_a_failure_has_a_heading_that_search_engines_find() -> None:
    assert re.findall(r"^### `([a-z-]+)`$", PAGE, re.MULTILINE) == sorted(FailureCode)


def test_every_exit_status_is_explained() -> None:
    assert [int(status) for status in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == list(ExitStatus)
