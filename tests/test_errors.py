"""`docs/errors.md` explains every code, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.faults import ExitStatus, FailureCode

_ROOT = Path(__file__).parents[1]
PAGE = (_ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
_MESSAGES = re.findall(r"^\| ([^|]+?) \|", PAGE[PAGE.index("## Messages that end") :], re.MULTILINE)


def _text(node: ast.expr) -> str:
    """A message as it stands in the code, with … for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "…"


def _literals() -> Iterator[str]:
    for file in (file for root in ("tasks", "flows") for file in (_ROOT / root).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr | ast.Constant):
                yield re.sub("…+", "…", _text(node))


def test_every_code_of_a_failure_has_a_heading_that_search_engines_find() -> None:
    headings = re.findall(r"^### `([a-z-]+)`$", PAGE, re.MULTILINE)
    assert headings == sorted(FailureCode), (
        "docs/errors.md needs one section '### `code`' for each FailureCode, and no other, in alphabetical order; "
        f"missing: {sorted(set(FailureCode) - set(headings))}, unknown: {sorted(set(headings) - set(FailureCode))}"
    )


def test_every_code_of_a_failure_is_raised_somewhere() -> None:
    used = {
        node.attr
        for file in (_ROOT / "tasks").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "FailureCode"
    }
    assert {code.name for code in FailureCode} - used == set(), "codes that no document can fail with"


def test_every_exit_status_is_explained() -> None:
    assert [int(status) for status in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == list(ExitStatus)


@pytest.fixture(scope="module")
def literals() -> str:
    return "\n".join(_literals())


@pytest.mark.parametrize(
    "message", [message for message in _MESSAGES if message != "message" and set(message) != {"-"}]
)
def test_a_message_on_the_page_is_one_of_the_programs(message: str, literals: str) -> None:
    assert message.removesuffix("…").strip() in literals
