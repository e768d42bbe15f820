"""An address or a pattern that leads to nothing is answered with the nearest that there is."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.context import RunContext
from tasks.options import RunSettings
from tasks.selection import Selection
from tasks.similar_names import did_you_mean, mistyped
from tasks.steps.nearest import why_no_ledger, why_nothing
from tasks.store.local_folder import FolderObjects
from tasks.store.location import Location

BUCKET = "bucket"
KEYS = [
    *(f"archive/{number:04}.pdf" for number in range(1500)),  # more than is looked at
    "scans/2024/a.pdf", "scans/2024/b.tif", "scans/2025/c.pdf", "scans-old/x.pdf",
    "results/_jobs/done/1.json", "results/a.pdf.ocr.json", "more/deep/ledger/_jobs/done/1.json", "marker/",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FolderObjects:
    """A bucket with documents, results, a ledger, and a folder with more objects than anybody looks at."""
    objects = FolderObjects(tmp_path_factory.mktemp("store"))
    for key in KEYS:
        objects.put(BUCKET, key, b"" if key.endswith("/") else b"body", {}, "application/pdf")
    return objects


@pytest.mark.parametrize(("name", "known", "meant"), [
    ("leters", ["letters", "archive"], "letters"),
    ("archvie", ["letters", "archive"], "archive"),
    ("goood", ["good"], "good"),
    ("invoices", ["letters", "archive"], None),
    ("scans-2022", ["scans-2021"], None),
    ("2022q4", ["2022q3"], None),
    ("site-b", ["site-a"], None),
    ("letters", [], None),
])  # fmt: skip
def test_a_name_is_taken_for_a_misspelling_unless_it_is_another_of_a_series(
    name: str, known: list[str], meant: str | None
) -> None:
    assert mistyped(name, known) == meant


def asked(store: FolderObjects, source: str, **selection: Any) -> str:
    settings = RunSettings(
        source=f"s3://{BUCKET}/{source}",
        destination=f"s3://{BUCKET}/results",
        selection=Selection.model_validate(selection),
    )
    return why_nothing(RunContext(settings, store))


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("scnas", "scans"),
        ("Scans", "scans"),
        ("sacns/2024", "scans/2024"),
        ("scans/2042", "scans/2024"),
        ("cans", "scans"),
        ("scnas/2042", "scans/2024"),
        ("scan", "scans"),
        ("archvie", "archive"),
        ("nothing-like-it", None),
        ("scans/2024/zzzzzz", None),
    ],
)
def test_a_source_that_holds_nothing_is_answered_with_the_nearest(
    store: FolderObjects, source: str, meant: str | None
) -> None:
    why = asked(store, source)
    assert why.startswith(f"there is nothing at s3://{BUCKET}/{source}")
    assert ("Did you mean" in why) == (meant is not None)
    if meant is not None:
        assert why.endswith(f"Did you mean s3://{BUCKET}/{meant}?")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("nothing-like-it", f"in s3://{BUCKET} there are archive/, marker/, more/, …"),
        ("scans/zzzzzz/deeper", f"in s3://{BUCKET}/scans there are 2024/, 2025/"),
        ("scans/2024/zzzzzz", f"in s3://{BUCKET}/scans/2024 there are a.pdf, b.tif"),
    ],
)
def test_a_source_that_nothing_is_like_is_answered_with_what_there_is(
    store: FolderObjects, source: str, names: str
) -> None:
    assert asked(store, source) == f"there is nothing at s3://{BUCKET}/{source}; {names}"


@pytest.mark.parametrize(
    ("include", "meant"),
    [
        ("*.pfd", "*.pdf"),
        ("2042/**", "2024/**"),
        ("2024/a.pfd", "2024/a.pdf"),
        ("2024/*.tiff", "2024/*.tif"),
        ("zzz", None),
    ],
)
def test_a_pattern_that_nothing_is_like_is_answered_with_the_nearest(
    store: FolderObjects, include: str, meant: str | None
) -> None:
    why = asked(store, "scans", include=[include])
    assert f"matches --include '{include}': there are 2024/a.pdf, 2024/b.tif, 2025/c.pdf" in why
    assert why.endswith(f". Did you mean --include '{meant}'?") == (meant is not None)


def test_a_bracket_that_is_never_closed_is_pointed_out(store: FolderObjects) -> None:
    assert "'[ab.pdf' has a [ that no ] closes, so it stands for itself" in asked(store, "scans", include=["[ab.pdf"])
    assert "'{a,b.pdf' has a { that no } closes" in asked(store, "scans", include=["{a,b.pdf"])
    assert "stands for itself" not in asked(store, "scans", include=["[xy].{x,y}", r"\[a"])


def test_whatever_else_leaves_nothing_is_named(store: FolderObjects) -> None:
    assert "matches --exclude '**' --min-bytes '7'" in asked(store, "scans", exclude=["**"], min_bytes=7)
    assert "matches --only-supported" in asked(store, "scans", only_supported=True)
    assert "only folders, and files that this program has written" in asked(store, "results")
    assert "only folders, and files that this program has written" in asked(store, "marker")
    assert "the manifest names no document" in asked(store, "scans", manifest="list.csv")


@pytest.mark.parametrize(
    ("destination", "meant"),
    [
        ("resluts", "results"),
        ("", "results"),
        ("scans", "results"),
        ("more/deep", "more/deep/ledger"),
        ("more/deep/leger", "more/deep/ledger"),
        ("more/deep/nothing-like-it", "more/deep/ledger"),
    ],
)
def test_a_destination_without_a_ledger_is_answered_with_one_that_has_one(
    store: FolderObjects, destination: str, meant: str
) -> None:
    place = Location.parse(f"s3://{BUCKET}/{destination}")
    why = why_no_ledger(store, place)
    assert why == (
        f"there is no ledger at {place}: no run has used this destination. Did you mean s3://{BUCKET}/{meant}?"
    )
    assert why_no_ledger(store, Location.parse(f"s3://{BUCKET}/{meant}")) is None


def test_where_there_is_nothing_nothing_is_suggested(tmp_path: Path) -> None:
    store = FolderObjects(tmp_path)
    assert asked(store, "a/b/c") == f"there is nothing at s3://{BUCKET}/a/b/c"
    assert asked(store, "") == f"there is nothing at s3://{BUCKET}"
    store.put(BUCKET, "in/a.pdf", b"", {}, "application/pdf")
    assert asked(store, "ni").endswith(f"Did you mean s3://{BUCKET}/in?"), "however short"
    place = Location.parse(f"s3://{BUCKET}")
    assert why_no_ledger(store, place) == f"there is no ledger at {place}: no run has used this destination"


@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=5))
def test_what_is_suggested_is_there(wrong: str, names: list[str]) -> None:
    meant = did_you_mean(wrong, names)
    assert meant is None or meant in names
