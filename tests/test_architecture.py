"""Rules about the code that no linter knows."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRODUCT = [*sorted(ROOT.glob("tasks/**/*.py")), *sorted(ROOT.glob("flows/**/*.py"))]


def _calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))


def _name(call: ast.Call) -> str:
    return ast.unparse(call.func)


def test_no_model_is_changed_unchecked() -> None:
    """`model_copy(update=…)` takes any name and any value without a look."""
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in PRODUCT
        for call in _calls(path)
        if _name(call).endswith(".model_copy") and any(keyword.arg == "update" for keyword in call.keywords)
    ]
    assert found == []


def test_jobs_and_leases_are_made_by_transitions_only() -> None:
    makers = {"Job", "Lease", "DoneJob", "FailedJob", "Job.model_validate", "Request.model_validate"}
    found = {str(path.relative_to(ROOT)) for path in PRODUCT for call in _calls(path) if _name(call) in makers}
    assert found == {"tasks/job/transitions.py"}


def test_no_file_is_two() -> None:
    """Beyond about 500 lines a file is usually two."""
    long = {str(path.relative_to(ROOT)) for path in PRODUCT if len(path.read_text(encoding="utf-8").splitlines()) > 500}
    assert long == set()
