"""What the mutation run puts in: each kind of fault once, valid Python, and nothing where no test could tell."""

import ast
from pathlib import Path

import pytest

from tests.mutants.operators import mutants
from tests.mutants.selection import Selection

ROOT = Path(__file__).resolve().parents[2]


def edits(source: str) -> dict[str, list[str]]:
    """The edits of a source by operator, as `old -> new`."""
    found: dict[str, list[str]] = {}
    text = source.encode()
    for mutant in mutants(text):
        edit = f"{text[mutant.start : mutant.end].decode()} -> {mutant.new.decode()}"
        found.setdefault(mutant.operator, []).append(edit)
    return found


@pytest.mark.parametrize(
    ("line", "operator", "expected"),
    [
        ("return a < b", "comparison", ["< -> <=", "< -> >="]),
        ("return a is not b", "comparison", ["is not -> is"]),
        ("return a not in b", "comparison", ["not in -> in"]),
        ("return a == 'x'", "text compared with", ["'x' -> \"another text\""]),
        ("return a and (b or a)", "boolean", ["and -> or", "or -> and"]),
        ("return not a", "negation", ["not a -> (a)"]),
        ("return a if b else 'x'", "condition", ["b -> not (b)"]),
        ("return [x for x in a if x]", "condition", ["x -> not (x)"]),
        ("return a - b * a", "arithmetic", ["- -> +", "* -> +"]),
        ("return 900", "constant", ["900 -> 901"]),
        ("return f(a, retry_helps=True)", "constant", ["True -> False"]),
        ("return f(a, retry_helps=b)", "argument dropped", [", retry_helps=b -> "]),
        ("return f(x=a, y=b)", "argument dropped", ["x=a,  -> ", ", y=b -> "]),
        ("return max(a, b)", "other call", ["max -> min"]),
        ("return a.model_copy(update={'x': a, 'y': b})", "update dropped", ["'x': a,  -> ", ", 'y': b -> "]),
    ],
)
def test_each_kind_of_fault_in_an_expression(line: str, operator: str, expected: list[str]) -> None:
    assert edits(f"def f(a, b):\n    {line}\n")[operator] == expected


def test_each_kind_of_fault_in_a_statement() -> None:
    source = """
def f(a, b):
    a.total += b
    a.sweep(b)
    try:
        a = g(a)
    except (KeyError, ValueError) as error:
        raise TransientFault("words") from error
    for each in b:
        if each:
            continue
        return each
    return a
"""
    found = edits(source)
    assert found["arithmetic"] == ["+ -> -"]
    assert found["exception not caught"] == ["(KeyError, ValueError) -> ()"]
    assert found["condition"] == ["each -> not (each)"]
    assert found["return removed"] == ["return each -> pass"]
    assert [edit.partition(" -> ")[0] for edit in found["statement removed"]] == [
        "a.total += b",
        "a.sweep(b)",
        "a = g(a)",
        'raise TransientFault("words") from error',
        "continue",
    ]


def test_constants_of_modules_and_defaults_of_classes_are_reached_by_every_test_of_the_file() -> None:
    found = mutants(b"_SECONDS = 900\n\n\nclass Sent:\n    lost: int = 0\n\n    def f(self):\n        return 1\n")
    assert [(mutant.new, list(mutant.lines)) for mutant in found] == [(b"901", []), (b"1", []), (b"2", [8])]


def test_what_no_test_should_assert_is_left_alone() -> None:
    source = '''
"""A docstring."""

import logging
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    x = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """A docstring."""

    size: Annotated[int, Field(ge=1)] = Field(description=f"at most {1 + 1}")

    def f(self, a: Literal[1], b: Literal["x"]) -> int:
        """A docstring."""
        log.warning("%s: %s", a, b, exc_info=True)
        new: str = "text" + f"{a + 1}"
        return new
'''
    assert edits(source) == {}


def test_every_mutant_of_a_real_module_is_valid_and_another_one() -> None:
    source = (ROOT / "tasks/job/coverage.py").read_bytes()
    whole = [ast.dump(ast.parse(mutant.applied(source))) for mutant in mutants(source)]
    assert len({*whole, ast.dump(ast.parse(source))}) == len(whole) + 1 > 30


def test_the_tests_that_reach_the_fewest_lines_are_tried_first() -> None:
    selection = Selection({"a.py": {1: {"broad", "narrow"}, 2: {"broad"}, 3: {"broad", "other"}}})
    assert selection.tests("a.py", [1]) == ["narrow", "broad"]
    assert selection.tests("a.py", range(2, 4)) == ["other", "broad"]
    assert selection.tests("a.py", []) == ["narrow", "other", "broad"]
    assert selection.tests("b.py", [1]) == []
