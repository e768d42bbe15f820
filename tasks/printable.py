"""Strangers' text made safe to show: names of documents, and what a store or an API said of them.

A terminal obeys escape sequences instead of showing them, and a line break in a name forges a line of a log.
"""

import logging
from typing import Any

_JOINERS = "\u200c\u200d"  # letters of several scripts are joined by these; nothing else is done by them
_UNDECODED = range(0xDC80, 0xDD00)  # how Python keeps bytes that are no text
_OWN = ("tasks", "flows")


def printable(text: str, keep: str = "") -> str:
    """The text with everything escaped that is not a letter, a sign or a space, as in `\\x1b[2J`.

    Escaped are control characters, C1 and line breaks included, and what changes the direction of writing.

    Args:
        text: the text.
        keep: characters to leave as they are, such as the line breaks of a text of several lines.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep or letter in _JOINERS else _escaped(letter) for letter in text
    )


def _escaped(letter: str) -> str:
    if ord(letter) in _UNDECODED:
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape", "surrogatepass").decode()


def printable_json(text: str, *, ascii_only: bool = False) -> str:
    """A JSON text that says the same, and that a terminal only shows.

    Args:
        text: the JSON text.
        ascii_only: escape all letters but those of ASCII, for an output that has no others.
    """
    if text.isprintable() and (text.isascii() or not ascii_only):
        return text

    def shown(letter: str) -> bool:
        return letter.isprintable() and (letter.isascii() or not ascii_only)

    # Outside of strings JSON has printable characters and line breaks only.
    return "".join(letter if shown(letter) or letter == "\n" else _json_escape(letter) for letter in text)


def _json_escape(letter: str) -> str:
    pair = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{pair[at]:02x}{pair[at + 1]:02x}" for at in range(0, len(pair), 2))


def escape_logs() -> None:
    """Make every line that this process logs printable, whoever logs it, and wherever it is shown.

    The program's own messages are one line each; those of others may have several.
    """
    make = logging.getLogRecordFactory()
    if not isinstance(make, _PrintableRecords):
        logging.setLogRecordFactory(_PrintableRecords(make))


class _PrintableRecords:
    def __init__(self, make: Any) -> None:  # Any: a factory takes what a LogRecord takes, and subclasses more
        self._make = make

    def __call__(self, *arguments: Any, **more: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._make(*arguments, **more)
        keep = "" if record.name.partition(".")[0] in _OWN else "\n\t"
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # logging complains of it by itself
            return record
        if printable(message, keep) != message:
            record.msg = printable(str(record.msg), keep)
            if isinstance(record.args, tuple):  # each by itself: filters of other libraries look at them
                record.args = tuple(
                    part if isinstance(part, int | float) else printable(str(part), keep) for part in record.args
                )
            else:
                record.msg, record.args = printable(message, keep), ()
        if record.exc_info and record.exc_text is None:
            text = logging.Formatter().formatException(record.exc_info)
            if (shown := printable(text, "\n\t")) != text:
                record.exc_text = shown
        return record
