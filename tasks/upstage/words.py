"""The API's own words, made fit to be shown and stored: a stranger wrote them."""

import re

_LONGEST = 300
_QUERY = re.compile(r"(\bhttps?://[^\s?#]*)[?#]\S*", re.IGNORECASE)


def clean_words(text: str) -> str:
    """One line of limited length, without control characters, and without the queries of URLs.

    A presigned URL's query is a credential; lone surrogates cannot be stored as UTF-8; control characters would
    reach the reader's terminal.
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * _LONGEST])
    return _QUERY.sub(r"\1?…", " ".join(printable.split()))[:_LONGEST]
