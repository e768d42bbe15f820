"""Words for searching: how a page's text and what somebody looks for become the same terms.

SQLite's own tokenizers find no Korean or Chinese word of two letters: `unicode61` takes everything between two spaces
for one word, and `trigram` wants three letters. So terms are made here. A run of letters of a script that is written
without spaces, or (Korean) with endings grown onto its words, becomes every pair of neighbouring letters, and its last
letter alone. Other words are folded: compatibility forms, case and accents do not matter.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

TERMS_VERSION = 1
"""Goes up whenever terms are made differently: an index with others has to be made anew."""

_HAN_AND_KANA = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003fffd"
)
_HANGUL = "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"
_THAI_LAO_KHMER_MYANMAR = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_PAIRED = f"{_HAN_AND_KANA}{_HANGUL}{_THAI_LAO_KHMER_MYANMAR}"
# A word, or a run of letters that is taken in pairs. White space between two Han or Kana letters is the layout's.
_RUNS = re.compile(
    rf"(?P<pairs>[{_PAIRED}](?:[{_PAIRED}]|(?<=[{_HAN_AND_KANA}])\s+(?=[{_HAN_AND_KANA}]))*)"
    rf"|(?P<word>(?:(?![{_PAIRED}_])[\w\u0300-\u036f])+)"
)
_ACCENTED_SCRIPTS = re.compile(r"[^\x00-\x7f]")


class Term(NamedTuple):
    """A term, and where in the text it stands."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Phrase:
    """Terms that have to stand one after the other.

    Attributes:
        terms: what they are.
        prefix: whether the last may be the beginning of a longer one.
        excluded: whether pages with this phrase are not wanted.
    """

    terms: tuple[str, ...]
    prefix: bool = False
    excluded: bool = False


def terms_of(text: str) -> list[Term]:
    """The terms of a page, in order, each with its place in that text."""
    folded, starts, ends = _folded(text)
    found = []
    for run in _RUNS.finditer(folded):
        if run["word"] is not None:
            found.append(Term(run["word"], starts[run.start()], ends[run.end() - 1]))
            continue
        letters = [(letter, run.start() + n) for n, letter in enumerate(run[0]) if not letter.isspace()]
        for (first, start), (second, end) in pairwise(letters):
            found.append(Term(first + second, starts[start], ends[end]))
        last, place = letters[-1]
        found.append(Term(last, starts[place], ends[place]))
    return found


def indexed_text(text: str) -> str:
    """A page's terms as one text, which `unicode61` takes apart again into just these."""
    return " ".join(term.text for term in terms_of(text))


def parse_query(query: str) -> list[Phrase]:
    """What somebody looks for.

    Words are looked for anywhere on a page; those in quotation marks as a phrase. A word that ends in an asterisk is
    the beginning of one, a word or phrase behind a minus sign is not wanted. Nothing is a syntax error.

    Args:
        query: such as `"annual report" 2024 revenu* -draft 보고서`.

    Returns:
        The phrases; none when there is no letter and no digit in the query.
    """
    found = []
    for minus, quoted, word in re.findall(r'(?<!\S)(-?)(?:["“„«]([^"”“»]*)["”“»]?|(\S+))', _spaced(query)):
        phrase = _phrase(quoted or word, excluded=bool(minus))
        if phrase.terms:
            found.append(phrase)
    return found


def _spaced(query: str) -> str:
    """A query with a space before each opening and behind each closing quotation mark."""
    pieces = re.split(r'(-?["“„«][^"”“»]*["”“»]?)', query)
    return " ".join(piece for piece in pieces if piece)


def _phrase(words: str, *, excluded: bool) -> Phrase:
    prefix = words.rstrip().endswith("*")
    terms = [term.text for term in terms_of(words)]
    if terms and _is_pair(terms[-1]):
        # The run may go on in the text: its last letter alone is then no term there, but the beginning of a pair.
        if len(terms) > 1 and _is_pair(terms[-2]) and len(terms[-2]) == 2 and terms[-2][1] == terms[-1]:
            terms.pop()
        else:
            prefix = True
    return Phrase(tuple(terms), prefix, excluded)


def _is_pair(term: str) -> bool:
    return bool(re.fullmatch(rf"[{_PAIRED}]{{1,2}}", term))


def match_expression(phrases: Sequence[Phrase]) -> str | None:
    """Phrases in FTS5's own query language; None when nothing is looked for, but only things not wanted."""
    wanted = " AND ".join(_quoted(phrase) for phrase in phrases if not phrase.excluded)
    unwanted = " OR ".join(_quoted(phrase) for phrase in phrases if phrase.excluded)
    if not wanted:
        return None
    return f"({wanted}) NOT ({unwanted})" if unwanted else wanted


def _quoted(phrase: Phrase) -> str:
    return f'"{" ".join(phrase.terms)}"' + ("*" if phrase.prefix else "")


def find_phrases(phrases: Sequence[Phrase], text: str) -> list[tuple[int, int]]:
    """Where in a text the phrases stand that are looked for: begin and end of each place, in order, apart."""
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
            # Of a pair that only begins with the letter that is looked for, that letter.
            length = 1 if _is_pair(end.text) and len(last) < len(end.text) else end.end - end.start
            yield terms[at].start, end.start + length


def _folded(text: str) -> tuple[str, Sequence[int], Sequence[int]]:
    """A text without case, accents and compatibility forms; where each letter of it begins and ends in the original."""
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
    """The letters of a text, each with the marks and vowels that are composed with it, and its place."""
    start = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or not _joins(text[at]):
            if start < len(text):
                yield start, text[start:at]
            start = at


def _joins(letter: str) -> bool:
    """Whether a letter is composed with the one before: a combining mark, or a vowel or final of a Korean syllable."""
    if letter < "\u0300":
        return False
    return unicodedata.combining(letter) != 0 or "\u1160" <= letter <= "\u11ff" or letter in "\uff9e\uff9f"


_plain: dict[str, str] = {}
_LARGEST_CACHE = 100_000


def _fold(cluster: str) -> str:
    found = _plain.get(cluster)
    if found is None:
        composed = unicodedata.normalize("NFKC", cluster)
        folded = composed.casefold()
        if _ACCENTED_SCRIPTS.search(folded) and not re.match(rf"[{_PAIRED}]", folded):
            apart = unicodedata.normalize("NFD", folded)
            folded = "".join(letter for letter in apart if not "\u0300" <= letter <= "\u036f")
        found = folded
        if len(_plain) < _LARGEST_CACHE:
            _plain[cluster] = found
    return found
