"""Pages of results whose words stand where a document would have them: any script, skewed, turned."""

import json
import math
import random
import shutil
import subprocess
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pypdfium2

from tasks.documents.results.words import ResultPage, ResultWord

WIDTH, HEIGHT = 595.0, 842.0
# fmt: off
ENGLISH = [
    "the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "Invoice", "No.", "2026-11", "total", "$1,234.56",
    "paid", "by", "within", "thirty", "days", "of", "receipt", "gypsy", "12345", "a", "(see", "below)", "<b>&amp;", "I",
]
KOREAN = [
    "대한민국의", "주권은", "국민에게", "있고", "모든", "권력은", "국민으로부터", "나온다",
    "법률이", "정하는", "바에", "계약", "제1조", "목적", "이", "규정은", "합계", "1,234원",
]
JAPANESE = [
    "日本国民は", "正当に", "選挙された", "国会における", "代表者を", "通じて", "行動し",
    "カタカナ", "ひらがな", "2026年",
]
CHINESE = [
    "中华人民共和国", "成立于", "一九四九年", "十月", "一日", "全国人民", "代表大会", "是", "最高",
    "第一条", "金额", "1234", "元",
]
HEBREW = ["שלום", "עולם", "זהו", "מסמך", "בעברית", "עם", "מילים", "רבות"]
NUMERALS = ["1,234.56", "0", "2026-11-26", "+82-2-555-0199", "١٢٣٤", "99.9%", "№7", "€", "½", "\U0001d7d8\U0001d7d9"]
# fmt: on

_CONTROLS = dict.fromkeys([*range(0x202A, 0x202F), 0x200E, 0x200F, 0xFEFF])


def written_page(
    number: int,
    words: Sequence[str],
    *,
    angle: float = 0.0,
    straight: bool = False,
    between: str = " ",
    leftward: bool = False,
    lines: int = 20,
    size: float = 11.0,
) -> ResultPage:
    """A page of lines around the middle of an A4 page.

    Args:
        number: the page's, which also chooses the words.
        words: what the lines are made of.
        angle: by how many degrees the text is turned, clockwise.
        straight: whether boxes have the page's directions, however the text is turned.
        between: what stands between two words: a space, or nothing.
        leftward: whether lines go from right to left.
        lines: how many.
        size: of the letters, in points.
    """
    chance, turned = random.Random(number), math.radians(angle)
    found, text = [], []
    for line in range(lines):
        y, x, written = (line - lines / 2) * size * 1.6, -180.0, []
        while True:
            word = chance.choice(words)
            width = sum(size if unicodedata.east_asian_width(letter) in "WF" else size * 0.55 for letter in word)
            if x + width > 180:
                break
            top = y - size * (0.8 + chance.uniform(-0.1, 0.1))
            bottom = y + size * (0.2 + chance.uniform(-0.1, 0.1))
            left = -x - width if leftward else x
            corners = [
                (
                    WIDTH / 2 + a * math.cos(turned) - b * math.sin(turned),
                    HEIGHT / 2 + a * math.sin(turned) + b * math.cos(turned),
                )
                for a, b in ((left, top), (left + width, top), (left + width, bottom), (left, bottom))
            ]
            if straight:
                xs, ys = [a for a, _ in corners], [b for _, b in corners]
                corners = [
                    (min(xs), min(ys)), (max(xs), min(ys)), (max(xs), max(ys)), (min(xs), max(ys)),
                ]  # fmt: skip
            found.append(ResultWord(word, 0.9, tuple((a / WIDTH, b / HEIGHT) for a, b in corners)))
            written.append(word)
            x += width + (size * 0.35 if between else 0.5)
        text.append(between.join(written))
    return ResultPage(number, "\n".join(text), tuple(found))


def write_result(pages: Sequence[ResultPage], to: Path) -> Path:
    """A result with these pages, as the API's newer answers are."""
    made = [
        {
            "id": page.number - 1,
            "text": page.text,
            "words": [
                {
                    "id": number,
                    "text": word.text,
                    "confidence": word.confidence,
                    "bounding_box": {"vertices": [{"x": x, "y": y} for x, y in word.box]},
                }
                for number, word in enumerate(page.words)
            ],
        }
        for page in pages
    ]
    to.write_text(json.dumps({"pages": made, "usage": {"pages": len(pages)}}), encoding="utf-8")
    return to


def words_by_pdfium(file: Path) -> list[list[str]]:
    """The words of each page, as pdfium reads them."""
    with pypdfium2.PdfDocument(file) as pdf:
        return [_words(page.get_textpage().get_text_range()) for page in pdf]


def words_by_poppler(file: Path, *options: str) -> list[list[str]]:
    """The words of each page, as poppler reads them."""
    program = shutil.which("pdftotext")
    assert program, "pdftotext is missing: install poppler-utils (Debian) or poppler (Homebrew)"
    ended = subprocess.run(
        [program, *options, str(file), "-"], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    return [_words(text) for text in ended.stdout.decode("utf-8").split("\f")[:-1]]


def _words(text: str) -> list[str]:
    return text.translate(_CONTROLS).split()
