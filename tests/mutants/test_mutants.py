"""The mutation run as a whole, on a project of one function: faults are put into a copy, and survivors are told."""

from pathlib import Path

import pytest

from tests.mutants.__main__ import run

SOURCE = "def smaller(a, b):\n    return a < b\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose test does not tell `<` from `<=`."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tasks" / "small.py").write_text(SOURCE)
    for package in ("tasks", "tests"):
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "tests" / "test_small.py").write_text(
        "from tasks.small import smaller\n\n\ndef test_it():\n    assert smaller(1, 2)\n\n\n"
        "def test_that_fails_anyway():\n    assert smaller(2, 2)\n"
    )
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    return tmp_path


def test_a_mutant_that_no_test_notices_is_told_with_its_place_and_its_edit(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    survivors = run(project, ["tasks/*.py"], ["tests"], sample=0, seed=0)
    assert [(fault.file, fault.line, fault.mutant.new) for fault in survivors] == [("tasks/small.py", 2, b"<=")]
    output = capsys.readouterr().out
    assert "left out, since it fails without any fault: tests/test_small.py::test_that_fails_anyway\n" in output
    assert "1/2 SURVIVED tasks/small.py:2 comparison\n" in output
    assert "2/2 died tasks/small.py:2 comparison\n" in output
    assert "-    return a < b\n+    return a <= b\n" in output
    assert "1 of 2 survived" in output
    assert (project / "tasks" / "small.py").read_text() == SOURCE
