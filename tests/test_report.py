"""The report: its sums, its exit status, and a page that no document name can break."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.job.outcome import Outcome
from tasks.report import RunReport

HOSTILE = [
    "s3://in/a|b.pdf",
    "s3://in/`code`.pdf",
    "s3://in/``|``.pdf",
    "s3://in/<script>alert(1)</script>.pdf",
    "s3://in/line\nbreak\r\n| a | b |.pdf",
    "s3://in/[link](http://example.org).pdf",
    "s3://in/\\|.pdf",
    "s3://in/&lt;b&gt;.pdf",
    "s3://in/`",
    "",
]


def report(flow: str = "backfill", **numbers: Any) -> RunReport:
    """A report of a run."""
    return RunReport.model_validate({"flow": flow, "source": "s3://in", "destination": "s3://out/x", **numbers})


def tables(markdown: str) -> list[list[list[str]]]:
    """The tables of a page as GitHub's Markdown reads them: a pipe divides cells unless it is escaped."""
    found: list[list[list[str]]] = []
    inside = False
    for line in markdown.split("\n"):
        if not line.startswith("|"):
            inside = False
            continue
        if not inside:
            found.append([])
            inside = True
        # An escaped backslash does not escape the pipe after it.
        cells = re.findall(r"(?:\\.|[^|\\])+", line.strip().strip("|"))
        found[-1].append([cell.strip() for cell in cells])
    return found


@pytest.mark.parametrize(
    ("reasons", "lines"),
    [
        ({}, []),
        ({"nothing": "there is nothing at s3://in. Did you mean s3://inn?"}, None),
        ({"refused": "the API key was rejected"}, None),
        ({"ended": "the disk is full"}, None),
        ({"stopped": "the window is full"}, None),
        ({"held": "the backfill is paused"}, None),
        ({"ceiling": "a.pdf: no room", "stopped": "a.pdf: no room"}, ["a.pdf: no room"]),
        (
            {"failures": [{"document": name, "reason": "broken: xref"} for name in "ab"]},
            ["failed, most often because: broken (2)"],
        ),
    ],
)
def test_the_explanation_gives_every_reason_once(reasons: dict[str, Any], lines: list[str] | None) -> None:
    run = report(**reasons)
    assert run.explanation().splitlines() == [run.sentence(), *(reasons.values() if lines is None else lines)]


def test_outcomes_add_up() -> None:
    run = report()
    run.add(Outcome("open", "1", "a", pages_sent=10, requests=2, possible_duplicates=1))
    run.add(Outcome("done", "1", "a", pages=10, words=70, result="s3://out/a"))
    run.add(Outcome("failed", "2", "b", message="broken", pages_sent=3, requests=1))
    run.add(Outcome("later", "3", "c", message="503"))
    assert (run.pages, run.pages_sent, run.requests, run.possible_duplicates) == (10, 13, 3, 1)
    assert [(failure.document, failure.reason) for failure in run.failures] == [("b", "broken")]
    assert [(result.document, result.result, result.pages, result.words) for result in run.published] == [
        ("a", "s3://out/a", 10, 70)
    ]


@pytest.mark.parametrize(
    ("flow", "numbers", "status"),
    [
        ("backfill", {}, 0),
        ("backfill", {"done": 5, "skipped": 3}, 0),
        ("backfill", {"done": 5, "failed": 1}, 1),
        ("backfill", {"skipped": 1, "failed_before": 1}, 1),
        ("backfill", {"open": 1}, 1),
        ("backfill", {"open": 1, "stopped": "budget"}, 1),
        ("backfill", {"done": 1, "stopped": "budget"}, 1),
        ("backfill", {"open": 1, "failed": 1, "stopped": "budget"}, 1),
        ("submit", {"open": 5}, 0),
        ("collect", {"open": 5, "done": 1}, 0),
        ("collect", {"failed": 1}, 1),
        ("submit", {"refused": "401"}, 3),
        ("backfill", {"refused": "401", "failed": 2, "open": 1}, 3),
    ],
)
def test_the_exit_status_tells_how_the_run_ended(flow: str, numbers: dict[str, object], status: int) -> None:
    assert report(flow, **numbers).exit_status == status


@given(done=st.integers(0, 9), failed=st.integers(0, 9), opened=st.integers(0, 9), skipped=st.integers(0, 9))
def test_the_sentence_holds_every_number(done: int, failed: int, opened: int, skipped: int) -> None:
    total = done + failed + opened + skipped
    run = report(documents=total, done=done, failed=failed, open=opened, skipped=skipped)
    for words in (f"{total} documents", f"{done} done", f"{failed} failed", f"{opened} open", f"{skipped} skipped"):
        assert words in run.sentence()


def test_what_may_be_paid_twice_is_said_only_when_there_is_any() -> None:
    assert "twice" not in report().sentence()
    assert "; 2 submissions may be paid for twice" in report(possible_duplicates=2).sentence()


def test_a_report_survives_being_written_and_read() -> None:
    run = report(documents=2, done=1, failed=1, stopped="budget")
    run.add(Outcome("failed", "1", HOSTILE[4], message=HOSTILE[3]))
    assert RunReport.model_validate_json(run.model_dump_json()) == run


def test_a_run_over_many_lists_the_first_and_says_how_many_there_are() -> None:
    run = report(done=150, failed=250)
    for number in range(250):
        run.add(Outcome("failed", str(number), f"s3://in/{number}.pdf", message="broken"))
    for number in range(150):
        run.add(Outcome("done", str(number), f"s3://in/{number}.pdf", pages=2, result="r"))
    assert (len(run.failures), len(run.published), run.pages) == (100, 100, 300)
    assert "## Failed (the first 100 of 250)" in run.markdown()
    assert "## Published (the first 100 of 150)" in run.markdown()


def test_the_page_shows_the_numbers_and_why_the_run_stopped() -> None:
    run = report(documents=3, done=1, failed=1, open=1, pages_sent=25, requests=3, possible_duplicates=1)
    run.refused, run.stopped, run.failed_before = "no credit", "page budget", 4
    page = run.markdown()
    assert "no credit" in page
    assert "page budget" in page
    assert "4 more failed in earlier runs" in page
    first, second, *_ = tables(page)
    assert first[2] == ["3", "1", "1", "1", "0"]
    assert second[2][:4] == ["0", "25", "3", "1"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_or_message_breaks_a_table(name: str) -> None:
    _assert_well_formed(name)


@given(name=st.text(st.sampled_from("ab|`\\<>&\n\r\t *_[]()#~!é\u2028\u0085"), max_size=25))
def test_no_text_at_all_breaks_a_table(name: str) -> None:
    _assert_well_formed(name)


def _assert_well_formed(name: str) -> None:
    run = report(source=name or "s3://in", done=1, failed=1)
    run.add(Outcome("failed", "1", name, message=name))
    run.add(Outcome("done", "2", name, pages=1, words=2, result=name))
    page = run.markdown()
    found = tables(page)
    assert [len(table[0]) for table in found] == [5, 5, 2, 4]
    for table in found:
        assert len(table) == 3, "a header, a divider and one row"
        # An empty cell is not counted by the reader above.
        assert all(len(row) == len(table[0]) for row in table) or not name.strip()
    reason = found[2][2][-1]
    assert not re.search(r"(?<!\\)<", reason), "no HTML"
    assert page.count("\n# ") == 0
    assert page.startswith("# Backfill of ")


def test_one_is_singular_and_thousands_are_separated() -> None:
    assert report(documents=1, done=1, pages_sent=1, requests=1).sentence() == (
        "1 document: 1 done, 0 failed, 0 open, 0 skipped; 1 page sent in 1 request"
    )
    assert report(documents=2000, done=2000, pages_sent=12000, requests=2000).sentence() == (
        "2,000 documents: 2,000 done, 0 failed, 0 open, 0 skipped; 12,000 pages sent in 2,000 requests"
    )
