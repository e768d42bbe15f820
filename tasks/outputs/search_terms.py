"""Turns pages and queries into the same search terms.

SQLite's own tokenizers cannot find Korean or Chinese words of two letters: `unicode61` treats everything between two
spaces as one word, and `trigram` needs three letters. Therefore terms are made here. A run of letters in a script that
is written without spaces, or in Korean, which attaches endings to words, is split into overlapping pairs of letters and
the last letter alone. Other words are folded: compatibility forms, case and accents are ignored.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

TERMS_VERSION = 1
"""Increased whenever the terms change: an index with other terms has to be rebuilt."""

_HAN_AND_KANA = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003fffd"
)
_HANGUL = "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"
_THAI_LAO_KHMER_MYANMAR = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_PAIRED = f"{_HAN_AND_KANA}{_HANGUL}{_THAI_LAO_KHMER_MYANMAR}"
# A word, or a run of letters that is split into pairs. White space between Han or Kana letters is only layout.
_RUNS = re.compile(
    rf"(?P<pairs>[{_PAIRED}](?:[{_PAIRED}]|(?<=[{_HAN_AND_KANA}])\s+(?=[{_HAN_AND_KANA}]))*)"
    rf"|(?P<word>(?:(?![{_PAIRED}_])[\w\u0300-\u036f])+)"
)
_ACCENTED_SCRIPTS = re.compile(r"[^\x00-\x7f]")


class Term(NamedTuple):
    """A term and its position in the text."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Phrase:
    """Consecutive terms to search for.

    Attributes:
        terms: the terms.
        prefix: whether the last one may be the beginning of a longer term.
        excluded: whether to exclude pages with this phrase.
    """

    terms: tuple[str, ...]
    prefix: bool = False
    excluded: bool = False


def terms_of(text: str) -> list[Term]:
    """Return the terms of a page in order, each with its position in the text."""
    folded, starts, ends = _folded(text)
    terms = []
    for run in _RUNS.finditer(folded):
        if run["word"] is not None:
            terms.append(Term(run["word"], starts[run.start()], ends[run.end() - 1]))
            continue
        letters = [(letter, run.start() + n) for n, letter in enumerate(run[0]) if not letter.isspace()]
        for (first, start), (second, end) in pairwise(letters):
            terms.append(Term(first + second, starts[start], ends[end]))
        last, place = letters[-1]
        terms.append(Term(last, starts[place], ends[place]))
    return terms


def indexed_text(text: str) -> str:
    """Return a page's terms as one text, which `unicode61` splits into exactly these terms."""
    return " ".join(term.text for term in terms_of(text))


def parse_query(query: str) -> list[Phrase]:
    """Parse a query.

    Words match anywhere on a page; words in quotation marks match as a phrase. A word that ends with an asterisk is a
    prefix, and a word or phrase after a minus sign is excluded. There are no syntax errors.

    Args:
        query: the query, such as `"annual report" 2024 revenu* -draft 보고서`.

    Returns:
        The phrases; none if the query has no letters or digits.
    """
    phrases = []
    for minus, quoted, word in re.findall(r'(?<!\S)(-?)(?:["“„«]([^"”“»]*)["”“»]?|(\S+))', _spaced(query)):
        phrase = _phrase(quoted or word, excluded=bool(minus))
        if phrase.terms:
            phrases.append(phrase)
    return phrases


def _spaced(query: str) -> str:
    """Return a query with a space before each opening and after each closing quotation mark."""
    pieces = re.split(r'(-?["“„«][^"”“»]*["”“»]?)', query)
    return " ".join(piece for piece in pieces if piece)


def _phrase(words: str, *, excluded: bool) -> Phrase:
    prefix = words.rstrip().endswith("*")
    terms = [term.text for term in terms_of(words)]
    if terms and _is_pair(terms[-1]):
        # In the text, the run may be longer: the last letter is then not a term, but the beginning of a pair.
        if len(terms) > 1 and _is_pair(terms[-2]) and len(terms[-2]) == 2 and terms[-2][1] == terms[-1]:
            terms.pop()
        else:
            prefix = True
    return Phrase(tuple(terms), prefix, excluded)


def _is_pair(term: str) -> bool:
    return bool(re.fullmatch(rf"[{_PAIRED}]{{1,2}}", term))


def match_expression(phrases: Sequence[Phrase]) -> str | None:
    """Return phrases in FTS5's query language; None if all of them are excluded ones."""
    wanted = " AND ".join(_quoted(phrase) for phrase in phrases if not phrase.excluded)
    unwanted = " OR ".join(_quoted(phrase) for phrase in phrases if phrase.excluded)
    if not wanted:
        return None
    return f"({wanted}) NOT ({unwanted})" if unwanted else wanted


def _quoted(phrase: Phrase) -> str:
    return f'"{" ".join(phrase.terms)}"' + ("*" if phrase.prefix else "")


def find_phrases(phrases: Sequence[Phrase], text: str) -> list[tuple[int, int]]:
    """Return the positions of the phrases in a text, except excluded ones: start and end, in order, not overlapping."""
    terms = terms_of(text)
    places = sorted(place for phrase in phrases if not phrase.excluded for place in _places_of(phrase, terms))
    merged: list[tuple[int, int]] = []
    for start, end in places:
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _places_of(phrase: Phrase, terms: Sequence[Term]) -> Iterator[tuple[int, int]]:
    *others, last = phrase.terms
    for at in range(len(terms) - len(others)):
        if any(terms[at + n].text != term for n, term in enumerate(others)):
            continue
        end = terms[at + len(others)]
        if end.text == last or (phrase.prefix and end.text.startswith(last)):
            # If only the first letter of a pair matches, mark just that letter.
            length = 1 if _is_pair(end.text) and len(last) < len(end.text) else end.end - end.start
            yield terms[at].start, end.start + length


def _folded(text: str) -> tuple[str, Sequence[int], Sequence[int]]:
    """Fold case, accents and compatibility forms. Also returns where each letter starts and ends in the original."""
    if text.isascii():
        return text.lower(), range(len(text)), range(1, len(text) + 1)
    letters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for at, cluster in _clusters(text):
        plain = _fold(cluster)
        letters.append(plain)
        starts.extend([at] * len(plain))
        ends.extend([at + len(cluster)] * len(plain))
    return "".join(letters), starts, ends


def _clusters(text: str) -> Iterator[tuple[int, str]]:
    """Yield the letters of a text with their positions, each with the marks and vowels that are composed with it."""
    start = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or not _joins(text[at]):
            if start < len(text):
                yield start, text[start:at]
            start = at


def _joins(letter: str) -> bool:
    """Return whether a letter is composed with the previous one: a combining mark, or a Korean vowel or final."""
    if letter < "\u0300":
        return False
    return unicodedata.combining(letter) != 0 or "\u1160" <= letter <= "\u11ff" or letter in "\uff9e\uff9f"


_plain: dict[str, str] = {}
_LARGEST_CACHE = 100_000


def _fold(cluster: str) -> str:
    plain = _plain.get(cluster)
    if plain is None:
        composed = unicodedata.normalize("NFKC", cluster)
        folded = composed.casefold()
        if _ACCENTED_SCRIPTS.search(folded) and not re.match(rf"[{_PAIRED}]", folded):
            apart = unicodedata.normalize("NFD", folded)
            folded = "".join(letter for letter in apart if not "\u0300" <= letter <= "\u036f")
        plain = folded
        if len(_plain) < _LARGEST_CACHE:
            _plain[cluster] = plain
    return plain
