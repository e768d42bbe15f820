"""How the tests are laid out: shared things in conftests and plain modules, and every folder in the index."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent


def _imported(file: Path) -> Iterator[str]:
    """The dotted names that a module imports; of `from a import b` both `a` and `a.b`, since `b` can be a module."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _test_module(name: str) -> bool:
    # A name under `tests.flows` can also be a function; only a file makes it a module.
    parts = name.split(".")
    return parts[0] == "tests" and parts[-1].startswith("test_") and ROOT.joinpath(*parts).with_suffix(".py").is_file()


def test_no_test_module_imports_another() -> None:
    files = sorted(TESTS.rglob("*.py"))
    found = [
        f"{file.relative_to(ROOT)} imports {name}" for file in files for name in _imported(file) if _test_module(name)
    ]
    assert not found, "move what they share to a conftest or a plain module"


def test_the_product_imports_nothing_of_the_tests() -> None:
    files = sorted(file for package in ("flows", "tasks", "deployments") for file in (ROOT / package).rglob("*.py"))
    assert files
    assert not [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        if b"tests" in file.read_bytes()  # few do: reading is faster than parsing
        for name in _imported(file)
        if name.split(".")[0] == "tests"
    ]


def test_the_index_names_every_folder() -> None:
    index = (TESTS / "README.md").read_text(encoding="utf-8")
    folders = {file.parent.relative_to(TESTS).as_posix() for file in TESTS.rglob("test_*.py")} - {"."}
    assert not [folder for folder in sorted(folders) if f"`{folder}/`" not in index]
