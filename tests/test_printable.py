"""Nothing that a stranger wrote moves a cursor, sets a title, hides a link or forges a line."""

import json
import logging
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.printable import escape_logs, printable, printable_json

ATTACKS = {
    "\x1b]0;owned\x07": "\\x1b]0;owned\\x07",  # OSC 0: the title
    "\x1b]8;;http://evil\x1b\\x\x1b]8;;\x1b\\": "\\x1b]8;;http://evil\\x1b\\x\\x1b]8;;\\x1b\\",  # OSC 8: a link
    "\x1b[2J\x1b[31m": "\\x1b[2J\\x1b[31m",  # CSI: an empty screen, in red
    "\x9b2J\x9d0;x\x9c": "\\x9b2J\\x9d0;x\\x9c",  # the same as C1
    "a.pdf\nbulk-ocr: all done": "a.pdf\\nbulk-ocr: all done",
    "a\rb\x08c\x7fd": "a\\rb\\x08c\\x7fd",
    "a\u2028b\u2029c\x85d": "a\\u2028b\\u2029c\\x85d",
    "fdp.\u202egpj": "fdp.\\u202egpj",  # bidi override: shown as jpg
    "\u2066a\u2069\u200f": "\\u2066a\\u2069\\u200f",
    "\udcff\udc1b.pdf": "\\xff\\udc1b.pdf",  # bytes that are no text
}


@pytest.mark.parametrize("text", ATTACKS, ids=ascii)
def test_what_a_terminal_would_obey_is_shown(text: str) -> None:
    assert printable(text) == ATTACKS[text]


def test_letters_of_every_script_are_left_alone() -> None:
    for text in ("ümlaut 日本.pdf", "\u0645\u06cc\u200c\u062e", "👩\u200d🔬", "a  b", ""):
        assert printable(text) == text
    assert printable("two\nlines\tand a tab\x1b", "\n\t") == "two\nlines\tand a tab\\x1b"


@given(st.text(st.characters(codec=None)))
def test_nothing_but_letters_and_signs_is_ever_left(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in shown)
    assert printable(shown) == shown


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_says_the_same(value: object) -> None:
    for written in (json.dumps(value, ensure_ascii=False), json.dumps(value, ensure_ascii=False, indent=1)):
        for ascii_only in (False, True):
            shown = printable_json(written, ascii_only=ascii_only)
            assert json.loads(shown) == value
            assert all(letter.isprintable() for line in shown.split("\n") for letter in line)
            assert shown.isascii() or not ascii_only


@pytest.fixture
def records() -> Iterator[logging.Logger]:
    """A logger of another library; records are made printable for as long as the test lasts."""
    before = logging.getLogRecordFactory()
    escape_logs()
    escape_logs()  # a second time changes nothing
    yield logging.getLogger("somebody.else")
    logging.setLogRecordFactory(before)


def test_a_log_line_of_ours_is_one_line_and_no_other_is_obeyed(
    records: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("tasks.steps").warning("%s is left for %d: %s", "a\n\x1b[2J", 3, ValueError("no\x9b\nline"))
    records.warning("two\nlines of %(name)s", {"name": "\x1b]0;x\x07"})
    records.warning("nothing to do for %s, %r of %5.1f", "ü", None, 2)
    try:
        raise ValueError("\x1b[31m")
    except ValueError:
        records.exception("it failed")
    assert [record.getMessage() for record in caplog.records] == [
        "a\\n\\x1b[2J is left for 3: no\\x9b\\nline",
        "two\nlines of \\x1b]0;x\\x07",
        "nothing to do for ü, None of   2.0",
        "it failed",
    ]
    assert "ValueError: \\x1b[31m" in caplog.text
    assert "\x1b" not in caplog.text
