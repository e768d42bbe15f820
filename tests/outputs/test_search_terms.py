"""Text and query become the same terms, in every script; and where they are found is told in the original text."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.outputs.search_terms import find_phrases, indexed_text, match_expression, parse_query, terms_of


@pytest.mark.parametrize(
    ("text", "query", "found"),
    [
        ("The Annual Report of 2024", "report", ["Report"]),
        ("The Annual Report of 2024", "REPORT annual", ["Annual", "Report"]),
        ("The Annual Report of 2024", '"annual report"', ["Annual Report"]),
        ("The Annual Report of 2024", "rep*", ["Report"]),
        ("Letter to Zoë at the Café", "zoe cafe", ["Zoë", "Café"]),
        ("Zoe\u0308", "zoë", ["Zoe\u0308"]),
        ("die Straße", "strasse", ["Straße"]),
        ("서울 시청에서 검색을 하다", "시청", ["시청"]),
        ("서울 시청에서 검색을 하다", "검색", ["검색"]),
        ("서울 시청에서 검색을 하다", '"서울 시청"', ["서울 시청"]),
        ("2024년 매출 보고서", "2024년", ["2024년"]),
        ("매출 보고서", "보고서", ["보고서"]),
        ("매출 보고서", "매", ["매"]),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af 문서", "한글", ["\u1112\u1161\u11ab\u1100\u1173\u11af"]),
        ("中国人民银行", "人民", ["人民"]),
        ("中国人民\n银行", "人民银行", ["人民\n银行"]),
        ("東京タワーの高さ", "タワー", ["タワー"]),
        ("ﾀﾜｰ", "タワー", ["ﾀﾜｰ"]),
        ("ｶﾞｽ", "ガス", ["ｶﾞｽ"]),
        ("สวัสดีครับ", "สวัสดี", ["สวัสดี"]),
        ("Ж/д вокзал", "ВОКЗАЛ", ["вокзал"]),
        ("\uff21\uff22\uff23", "abc", ["\uff21\uff22\uff23"]),
    ],
)
def test_hits_are_found_where_they_are(text: str, query: str, found: list[str]) -> None:
    assert [text[start:end] for start, end in find_phrases(parse_query(query), text)] == found


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("The Annual Report", '"report annual"'),
        ("Reporting", "report"),
        ("서울 시청", '"시청 서울"'),
        ("서울에 시청", '"서울 시청"'),
        ("人民银行", "人行"),
        ("draft", "-draft"),
    ],
)
def test_nothing_else_is(text: str, query: str) -> None:
    assert find_phrases(parse_query(query), text) == []


@pytest.mark.parametrize("query", ["", "   ", "***", '"', '""', "-", "()", "NOT", "AND OR", "NEAR(a b)", "a:b"])
def test_no_query_is_a_syntax_error(query: str) -> None:
    _match(query, "text")


@given(st.text(max_size=40), st.text(max_size=20))
def test_whatever_is_typed_is_a_query(text: str, query: str) -> None:
    _match(query, text.replace("\0", ""))


WORDS = st.sampled_from(
    ["서울", "시청에서", "검", "人民银行", "東", "タワー", "annual", "Zoë", "2024년", "A1", "หนังสือ", "naïve", "Straße"]
)


@given(st.lists(WORDS, min_size=1, max_size=6), st.data())
def test_sqlite_and_the_marking_of_hits_agree(words: list[str], data: st.DataObject) -> None:
    text = " ".join(words)
    quoted = data.draw(st.booleans())
    picked = data.draw(st.lists(WORDS, min_size=1, max_size=2))
    query = f'"{" ".join(picked)}"' if quoted else " ".join(picked)
    phrases = parse_query(query)
    found = all(find_phrases([phrase], text) for phrase in phrases)
    assert _match(query, text) == found


def _match(query: str, text: str) -> bool:
    """Whether SQLite finds the text."""
    expression = match_expression(parse_query(query))
    if expression is None:
        return False
    with sqlite3.connect(":memory:") as database:
        database.execute(
            "CREATE VIRTUAL TABLE t USING fts5 "
            "(x, tokenize = \"unicode61 remove_diacritics 0 categories 'L* N* M* Co'\")"
        )
        database.execute("INSERT INTO t VALUES (?)", (indexed_text(text),))
        return bool(database.execute("SELECT count(*) FROM t WHERE t MATCH ?", (expression,)).fetchone()[0])


@given(st.text(max_size=60))
def test_every_term_is_told_with_a_place_in_the_text(text: str) -> None:
    for term in terms_of(text):
        assert term.text
        assert 0 <= term.start < term.end <= len(text)
