"""The text form of question, table and text in a query."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finrank.serving.error_responses import ServiceError
from finrank.serving.query_text import Query, parse_query, write_query


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("how much ?", Query("how much ?", [], [])),
        ("  Question:\nhow\nmuch ?  ", Query("how much ?", [], [])),
        ("how ?\ntext:\n\n a .\nb .\n", Query("how ?", [], ["a .", "b ."])),
        ("how ?\ntext:", Query("how ?", [], [])),
        ("how ?\nTEXT: \na .\ntable:\n|2009\nx|1", Query("how ?", [["", "2009"], ["x", "1"]], ["a ."])),
        ("how ?\ntable:\n| | 2009 |\n|---|:-:|\n| x | 1 |", Query("how ?", [["", "2009"], ["x", "1"]], [])),
        ("how ?\ntable:\n\t2009\nx | y\t1", Query("how ?", [["", "2009"], ["x | y", "1"]], [])),
        ("how ?\ntable:\na \\| b | c", Query("how ?", [["a | b", "c"]], [])),
        ("how ?\ntable:\n | 2009\n- | -", Query("how ?", [["", "2009"], ["-", "-"]], [])),
        ("what is table: good for ?", Query("what is table: good for ?", [], [])),
    ],
)
def test_what_is_read(query: str, expected: Query) -> None:
    assert parse_query(query) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "no question"),
        ("question: ", "no question"),
        ("table:\na | b", "no question"),
        ("how ?\ntable:", "no rows under table:"),
        ("how ?\ntable:\na | b\nc", "line 4: 1 cells, but the header has 2"),
        ("how ?\ntext:\na\ntext:\nb", "line 4: a second line 'text:'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(query: str, message: str) -> None:
    with pytest.raises(ServiceError, match=message) as caught:
        parse_query(query)
    assert (caught.value.status, caught.value.field) == (400, "query")


WORDS = st.text("abz019 $%|\\.,-()", min_size=0, max_size=12).map(lambda text: " ".join(text.split()))
CELLS = WORDS.filter(lambda text: "\\" not in text)


@given(
    WORDS.filter(bool),
    st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), max_size=4)),
    st.lists(WORDS.filter(bool), max_size=3),
)
def test_what_is_written_is_read_back(question: str, table: list[list[str]], text: list[str]) -> None:
    # Blank lines are left out, and bars around every row are read as Markdown's.
    table = [["label", *row, "end"] for row in table]
    assert parse_query(write_query(question, table, text)) == Query(question, table, text)
