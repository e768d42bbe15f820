"""Which documents are meant: by key, size and time alone, without S3."""

import time
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.options import RunSettings
from tasks.selection import EVERYTHING, Selection

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def includes(pattern: str, key: str) -> bool:
    """Whether a pattern takes a key; leaving out by the same pattern is always the opposite."""
    taken = Selection(include=(pattern,)).takes(key, 1, NOON)
    assert Selection(exclude=(pattern,)).takes(key, 1, NOON) is not taken
    return taken


@pytest.mark.parametrize(
    ("pattern", "taken", "left"),
    [
        ("*.pdf", ["a.pdf", "x/a.pdf", "x/y/a.pdf", ".pdf", "a\nb.pdf"], ["a.PDF", "a.pdf.bak", "a.pdf/b", "pdf"]),
        ("2024/*.pdf", ["2024/a.pdf"], ["2024/01/a.pdf", "a.pdf", "x/2024/a.pdf", "2024a.pdf"]),
        ("2024/**", ["2024/a", "2024/01/a.pdf", "2024/.hidden/a", "2024//a"], ["2024", "2024-old/a", "x/2024/a"]),
        ("**/2024/**", ["2024/a", "x/2024/a", "x/y/2024/z/a"], ["x/2024", "2024"]),
        ("**/a.pdf", ["a.pdf", "x/a.pdf", "x/y/a.pdf"], ["aa.pdf", "a.pdf/b"]),
        ("x/**/y", ["x/y", "x/a/y", "x/a/b/y"], ["x/y/z", "xy", "x"]),
        ("**", ["a", "x/a", "x//a"], []),
        ("*", ["a", "x/a", ".hidden"], []),
        ("*/*", ["x/a"], ["a", "x/y/a"]),
        ("{2023,2024}/**", ["2023/a", "2024/a"], ["2022/a"]),
        ("{x/a,b}.pdf", ["x/a.pdf", "b.pdf", "y/b.pdf"], ["a.pdf", "y/x/a.pdf"]),
        ("scan-{01..03}.tif", ["scan-01.tif", "x/scan-03.tif"], ["scan-1.tif", "scan-04.tif"]),
        ("scan?.pdf", ["scan1.pdf", "scanü.pdf"], ["scan.pdf", "scan12.pdf"]),
        ("[ab].pdf", ["a.pdf", "b.pdf"], ["[ab].pdf", "c.pdf"]),
        ("[!ab].pdf", ["c.pdf"], ["a.pdf", "cc.pdf"]),
        (r"\[ab\].pdf", ["[ab].pdf"], ["a.pdf"]),
        (r"a\*.pdf", ["a*.pdf"], ["ab.pdf"]),
        ("[.pdf", ["[.pdf"], ["a.pdf"]),
        ("{a,b", ["{a,b"], ["a"]),
        ("a b*", ["a b", "x/a b c"], ["ab"]),
        ("!a", ["!a"], ["a", "b"]),
        ("a|b", ["a|b"], ["a", "b"]),
        ("~/a", ["~/a"], ["x/a"]),
        ("문서/**", ["문서/가.pdf"], ["문서"]),
        ("a.pdf", ["a.pdf", "x/a.pdf"], ["xa.pdf", "a_pdf"]),
    ],
)
def test_patterns_mean_what_they_mean_in_a_shell(pattern: str, taken: list[str], left: list[str]) -> None:
    assert [key for key in taken + left if includes(pattern, key)] == taken


@pytest.mark.parametrize(
    ("pattern", "taken", "left"),
    [
        ("*.pdf", ["/a.pdf", "../a.pdf", "x/../a.pdf", "x//a.pdf", "x/./a.pdf", "..pdf"], ["a.pdf/.."]),
        ("**/*.pdf", ["/a.pdf", "../a.pdf", "x/../../a.pdf", "//a.pdf"], []),
        ("x/**", ["x/..", "x/../y", "x//a"], ["/x/a", "../x/a"]),
        ("x/*/a", ["x/../a", "x/./a"], ["x/a", "x/y/z/a"]),
        ("../*", ["../a"], ["a", "x/a"]),
        ("/a", ["/a"], ["a", "x/a"]),
        ("x//a", ["x//a"], ["x/a"]),
        ("*", ["..", "x/.."], []),
    ],
)
def test_a_key_is_no_path(pattern: str, taken: list[str], left: list[str]) -> None:
    assert [key for key in taken + left if includes(pattern, key)] == taken


def _by_the_book(pattern: str, key: str) -> bool:
    """The meaning of patterns of `a`, `*`, `?`, `**` and slashes, written down as plainly as can be."""
    parts, pieces = tuple(pattern.split("/")), tuple(key.split("/"))

    @cache
    def part(glob: str, name: str) -> bool:
        if not glob:
            return not name
        if glob[0] == "*":
            rest = glob.lstrip("*")
            return any(part(rest, name[index:]) for index in range(len(name) + 1))
        return bool(name) and glob[0] in ("?", name[0]) and part(glob[1:], name[1:])

    def fits(glob: str, name: str) -> bool:
        return bool(name) and part(glob, name) if glob.strip("*") == "" and glob else part(glob, name)

    @cache
    def whole(here: int, at: int) -> bool:
        if here == len(parts):
            return at == len(pieces)
        if parts[here] != "**":
            return at < len(pieces) and fits(parts[here], pieces[at]) and whole(here + 1, at + 1)
        if here == len(parts) - 1:
            return at < len(pieces)
        return any(whole(here + 1, later) for later in range(at, len(pieces) + 1))

    return fits(parts[0], pieces[-1]) if len(parts) == 1 and pattern != "**" else whole(0, 0)


@given(
    st.lists(st.sampled_from(["a", "b", "*", "?", "**", "*a", "a*", "?b", "..", ""]), min_size=1, max_size=6),
    st.lists(st.sampled_from(["a", "b", "ab", "ba", "aab", "..", ""]), min_size=1, max_size=7),
)
def test_folders_are_crossed_as_the_book_says(parts: list[str], pieces: list[str]) -> None:
    pattern, key = "/".join(parts), "/".join(pieces)
    if pattern:
        assert includes(pattern, key) == _by_the_book(pattern, key)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_key_is_taken_by_its_escaped_self(key: str) -> None:
    escaped = "".join(f"\\{char}" if char in "*?[]{}\\,!$" else char for char in key)
    assert includes(escaped, key)
    assert includes("**", key)
    assert not includes(escaped + "x", key)


@given(st.text(min_size=1, max_size=30) | st.text("{},.*?[]!^\\:/a1-", min_size=1, max_size=30), st.text(max_size=30))
def test_any_pattern_gives_an_answer_or_says_what_is_wrong(pattern: str, key: str) -> None:
    wrong = "braces"
    try:
        includes(pattern, key)
    except ValidationError as error:
        wrong = str(error)
    assert "braces" in wrong


@given(
    st.lists(st.sampled_from(["a/**", "a/b/*", "{a,b}/*", "b/*.pdf", "*/a", "**/a", "a", "a/?/c"]), max_size=3),
    st.lists(st.sampled_from(["a", "b", "c", "x.pdf"]), min_size=1, max_size=4),
)
def test_nothing_is_taken_outside_the_folders_that_are_listed(patterns: list[str], pieces: list[str]) -> None:
    selection, key = Selection(include=tuple(patterns)), "/".join(pieces)
    under = [folder for folder in selection.folders() if key.startswith(folder)]
    assert len(under) <= 1, "a document would be listed twice"
    assert under or not selection.takes(key, 1, NOON)


@pytest.mark.parametrize(
    ("patterns", "folders"),
    [
        ([], [""]),
        (["2024/**"], ["2024/"]),
        (["2024/01/*.pdf"], ["2024/01/"]),
        (["2024/a.pdf"], ["2024/"]),
        (["{2023,2024}/x/*"], ["2023/x/", "2024/x/"]),
        (["2024/**", "2024/01/*"], ["2024/"]),
        (["2024/**", "*.pdf"], [""]),
        (["2024/**", "**/a.pdf"], [""]),
        (["202?/**"], [""]),
        ([r"a\*/b/*"], [""]),
        (["/2024/**"], ["/2024/"]),
        (["{100..130}/**"], [""]),
    ],
)
def test_only_folders_that_can_hold_something_are_listed(patterns: list[str], folders: list[str]) -> None:
    assert list(Selection(include=tuple(patterns)).folders()) == folders


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        ("**/a/" * 100 + "b", "a/" * 500),
        ("**/*a*/" * 100 + "b", "aaa/" * 250),
        ("*a" * 500 + "b", "a" * 1000),
        ("?*" * 500 + "b", "a" * 1000),
        ("*[ab]" * 200 + "c", "ab" * 500),
        ("[" * 1024, "[" * 1024),
        ("**/" * 341 + "b", "/" * 1024),
    ],
)
def test_a_hostile_pattern_takes_no_time(pattern: str, key: str) -> None:
    began = time.process_time()
    assert includes(pattern, key) is (key == pattern)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("given_fields", "words"),
    [
        ({"include": ["{a,b}" * 30]}, "braces"),
        ({"exclude": ["{1..100000000}"]}, "braces"),
        ({"include": ["{" * 1000]}, "braces"),
        ({"include": ["{1..400}", "{1..400}"]}, "800 patterns"),
        ({"include": [""]}, "at least 1 character"),
        ({"include": ["x" * 1025]}, "at most 1024"),
        ({"min_bytes": -1}, "greater than or equal to 0"),
        ({"min_bytes": 2, "max_bytes": 1}, "min_bytes is more than max_bytes"),
        ({"modified_after": NOON, "modified_before": NOON - SECOND}, "modified_after is later"),
        ({"key": ["a"], "manifest": "b.csv"}, "key and manifest each say"),
        ({"inventory": "s3://bucket/manifest.json", "manifest": "b.csv"}, "manifest and inventory each say"),
        ({"inventory": "manifest.json"}, "write it as s3://bucket/key"),
        ({"inventory": "s3://bucket"}, "write it as s3://bucket/key"),
        ({"manifest": "s3://bucket"}, "write it as s3://bucket/key"),
        ({"key": ["a", "s3://bucket/"]}, "write it as s3://bucket/key"),
        ({"limit": 3}, "no such setting"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(given_fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Selection.model_validate(given_fields)


def test_sizes_are_inclusive_and_times_half_open() -> None:
    sized = Selection(min_bytes=10, max_bytes=20)
    assert [size for size in (9, 10, 20, 21) if sized.takes("a", size, NOON)] == [10, 20]
    timed = Selection(modified_after=NOON, modified_before=NOON + 2 * SECOND)
    moments = [NOON + offset * SECOND for offset in (-1, 0, 1, 2)]
    assert [moment for moment in moments if timed.takes("a", 1, moment)] == [NOON, NOON + SECOND]


def test_a_time_without_an_offset_is_utc() -> None:
    assert Selection(modified_after=datetime(2026, 7, 1, 12)).modified_after == NOON
    korean = NOON.astimezone(timezone(timedelta(hours=9)))
    assert Selection(modified_after=korean).takes("a", 1, NOON)
    assert not Selection(modified_before=korean).takes("a", 1, NOON)


def test_exclude_wins_over_include() -> None:
    selection = Selection(include=("*.pdf", "x/**"), exclude=("draft*",))
    keys = ("a.pdf", "x/a.png", "x/draft.pdf", "draft.pdf", "y/a.png")
    assert [key for key in keys if selection.takes(key, 1, NOON)] == ["a.pdf", "x/a.png"]


def test_unsupported_formats_are_told_by_name_alone() -> None:
    selection = Selection(only_supported=True)
    taken = ["a.pdf", "a.PDF", "x.y/scan", "a.tiff", "a.hwpx", ".hidden", "a.", "x/a.b.docx", "scan"]
    left = ["a.txt", "a.pdf.bak", "x/a.zip", "a.doc", "a.pdf/b.xml"]
    assert [key for key in taken + left if selection.takes(key, 1, NOON)] == taken


def test_a_selection_survives_the_way_to_a_task_and_back() -> None:
    selection = Selection(include=("2024/**",), modified_after=NOON, key=("a", "s3://bucket/b"))
    settings = RunSettings(destination="s3://bucket/out", selection=selection)
    assert RunSettings.model_validate_json(settings.model_dump_json()) == settings
    assert hash(RunSettings.model_validate_json(settings.model_dump_json())) == hash(settings)
    assert Selection() == EVERYTHING


@pytest.mark.parametrize(
    ("pattern", "doubt"),
    [
        ("scans/", "'scans/' ends with a slash, which no document does: scans/** selects its contents"),
        ("[a-z.pdf", "has a [ that no ] closes"),
        ("a/[b/c]", "has a [ that no ] closes"),
        ("[]", "has a [ that no ] closes"),
        ("[!]x", "has a [ that no ] closes"),
        ("{a,b.pdf", "has a { that no } closes"),
        ("[]]", None),
        ("[!]x]", None),
        ("[{]x", None),
        ("a\\[", None),
        ("a\\{b", None),
        ("{a/b,c/[de]}", None),
        ("a}", None),
        ("a\\", None),
        ("**/*.pdf", None),
    ],
)
def test_a_pattern_that_was_meant_otherwise_is_doubted(pattern: str, doubt: str | None) -> None:
    for selection in (Selection(include=(pattern,)), Selection(exclude=(pattern,))):
        doubts = selection.doubts()
        assert len(doubts) == (doubt is not None)
        assert doubt is None or doubt in doubts[0]


def test_one_pattern_or_key_may_be_given_without_a_list() -> None:
    assert Selection.model_validate({"include": "2024/**", "exclude": "*.txt"}) == Selection(
        include=("2024/**",), exclude=("*.txt",)
    )
    assert Selection.model_validate({"key": "a.pdf"}).key == ("a.pdf",)
