"""The text form of question, table and text in a query."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finrank.errors import UserError
from finrank.page.query_text import parse_query, write_query

TABLE = [["", "2009", "2008"], ["revenue", "5829", "5735"]]
BARS = " | 2009 | 2008\nrevenue | 5829 | 5735"
MARKDOWN = "| | 2009 | 2008 |\n|---|---:|---:|\n| revenue | 5829 | 5735 |"
CSV = ",2009,2008\nrevenue,5829,5735"
GREW = ["it grew ."]

# Read without a warning: query, question, table, text.
CLEAR: list[tuple[str, str, list[list[str]], list[str]]] = [
    ("how much ?", "how much ?", [], []),
    ("  Question:\nhow\nmuch ?  ", "how much ?", [], []),
    ("what is table: good for ?", "what is table: good for ?", [], []),
    ("what is the average of 2007, 2008 and 2009 ?", "what is the average of 2007, 2008 and 2009 ?", [], []),
    ("compute the average of 2007, 2008 and 2009", "compute the average of 2007, 2008 and 2009", [], []),
    ("how ?\ntext:\n\n a .\nb | c .\n", "how ?", [], ["a .", "b | c ."]),
    ("how ?\ntext:", "how ?", [], []),
    ("how ?\nTEXT: \na .\ntable:\n|2009\nx|1", "how ?", [["", "2009"], ["x", "1"]], ["a ."]),
    # the head and its first line
    ("how ?\ntable: | 2009 | 2008\nrevenue | 5829 | 5735", "how ?", TABLE, []),
    ("how ?\nTable: year | 2009\nrevenue | 12", "how ?", [["year", "2009"], ["revenue", "12"]], []),
    ("how ?\ntable:\t2009\t2008\nrevenue\t5829\t5735\ntext: it grew .", "how ?", TABLE, GREW),
    # heads as in Markdown
    *(
        (f"{ask}\nhow ?\n{table}\n{MARKDOWN}\n{text}\nit grew .", "how ?", TABLE, GREW)
        for ask, table, text in [
            ("**Question:**", "**Table:**", "__Text__:"),
            ("## Question", "## Table:", "### Text"),
            ("- Query:", "- Table:", "> text :"),
            ("\ufeffquestion:", "* TABLE:", "**Post-text**"),
        ]
    ),
    # pages, and questions behind them
    *(
        (
            f"{head}\nit grew .\n{table}\nit fell , by far .\nQuestion: how ?",
            "how ?",
            TABLE,
            ["it grew .", "it fell , by far ."],
        )
        for head in ("Context:", "Passage:", "**Document**:", "Document [2]:", "")
        for table in (BARS, MARKDOWN, CSV, BARS.replace(" | ", "\t"))
    ),
    (f"Passage 1: it grew .\nPassage 2:\n{BARS}\n**Question:** how ?", "how ?", TABLE, GREW),
    (
        "context: it fell,\nthen, it grew | a little .\nquery: how ?",
        "how ?",
        [],
        ["it fell,", "then, it grew | a little ."],
    ),
    # captions that look like heads
    ("how ?\ntext:\ntable 98 : commitments .\nit grew .", "how ?", [], ["table 98 : commitments .", "it grew ."]),
    # tables without a head
    (f"how ?\n\n{MARKDOWN}", "how ?", TABLE, []),
    (f"{BARS}\n\nhow ?", "how ?", TABLE, []),
    (f"how ?\n```csv\n{CSV}\n```", "how ?", TABLE, []),
    # line ends
    (f"how ?\r\ntable:\r{BARS}", "how ?", TABLE, []),
    ("how ?\ntable:\na\u2028\x0b\x0cb | 1\u0085\nc | 2", "how ?", [["a\u2028\x0b\x0cb", "1"], ["c", "2"]], []),
    ("how ?\ntext: a\u2028b\u0085c", "how ?", [], ["a\u2028b\u0085c"]),
]

# Read with warnings: query, question, table, text, a part of each warning.
UNCLEAR: list[tuple[str, str, list[list[str]], list[str], list[str]]] = [
    ("how\nrevenue | 1 | 2", "how revenue | 1 | 2", [], [], ["line 2: read as part of the question"]),
    ("how\nrevenue 1 2 3", "how revenue 1 2 3", [], [], ["line 2: read as part of the question"]),
    ("Use this:\nData\nhow ?", "Use this: Data how ?", [], [], ["line 1: read as part of the question"]),
    ("how ? revenue 1 2 3", "how ? revenue 1 2 3", [], [], ["line 1: read as part of the question"]),
    ('{"question": "how ?"}', '{"question": "how ?"}', [], [], ["line 1: read as part of the question"]),
    ("[[1, 2]] how ?", "[[1, 2]] how ?", [], [], ["line 1: read as part of the question"]),
    ("how ?\nit grew .", "how ?", [], GREW, ["line 2: behind the question: read as text"]),
    (f"how\n{BARS}\nit grew .", "how", TABLE, GREW, ["line 4: behind the question: read as text"]),
    ("context: it grew .\nhow ?", "how ?", [], GREW, ["line 2: read as the question"]),
    (f"Be brief.\ntable:\n{BARS}\nhow ?", "Be brief. how ?", TABLE, [], ["line 5: no row", "line 5: read as the q"]),
    ("how ?\ntable:\n", "how ?", [], [], ["no rows under table:"]),
    ("how ?\ntable:\nit grew, by far .", "how ?", [], ["it grew, by far ."], ["no rows under table:", "line 3: no r"]),
    (f"how ?\ntable:\n{BARS}\ntable:\n|---|", "how ?", TABLE, [], ["no rows under table:"]),
    ("how ?\ntable:\n | 2009", "how ?", [["", "2009"]], [], ["line 3: the table is a header without rows"]),
    ("how ?\ntable:\na  1\nb  2", "how ?", [["a  1"], ["b  2"]], [], ["lines 3, 4: rows of one cell"]),
    (f"how ?\ntable:\n(in $)\n{BARS}\nit grew .", "how ?", TABLE, ["(in $)", *GREW], ["lines 3, 6: no row"]),
    (f"how ?\ntable:\n{BARS}\ncosts\ntax | 1 | 2 | 3", "how ?",
     [["", "2009", "2008", ""], ["revenue", "5829", "5735", ""], ["costs", "", "", ""], ["tax", "1", "2", "3"]], [],
     ["lines 5, 6: not as many cells as the header, 3"]),
    ("how ?\ntext: a .\ntext:\nb .", "how ?", [], ["a .", "b ."], ["line 3: a second text: section"]),
    (f"how ?\ntable:\n{BARS}\ntable:\ntax|1|2", "how ?", [*TABLE, ["tax", "1", "2"]], [], ["line 6: a second table"]),
    (f"how ?\ntext:\n{MARKDOWN}", "how ?", [], MARKDOWN.split("\n"), ["lines 3, 5: rows under text:"]),
    ("how ?\ntable:\n,2009,2008\ntax,5,829,5,735", "how ?", [["", "2009", "2008"], ["tax", "5,829", "5,735"]], [],
     ["line 4: commas were read as those of thousands"]),
    (f"how ?\ntable:\n{CSV}\ntax,1", "how ?", [*TABLE, ["tax", "1", ""]], [],
     ["line 5: commas separate its cells", "line 5: not as many cells"]),
]  # fmt: skip


@pytest.mark.parametrize("case", CLEAR, ids=lambda case: case[0])
def test_what_is_clear_is_read_without_a_warning(case: tuple[str, str, list[list[str]], list[str]]) -> None:
    assert parse_query(case[0]) == (*case[1:], [])


@pytest.mark.parametrize("case", UNCLEAR, ids=lambda case: case[0])
def test_what_is_unclear_is_read_where_it_can_be_and_named(
    case: tuple[str, str, list[list[str]], list[str], list[str]],
) -> None:
    query, question, table, text, expected = case
    found = parse_query(query)
    assert found[:3] == (question, table, text)
    assert len(found.warnings) == len(expected)
    for warning, part in zip(found.warnings, expected, strict=True):
        assert warning.startswith("query")
        assert part in warning


def test_a_page_that_ends_up_in_the_question_is_one_warning() -> None:
    (warning,) = parse_query("how\n" + "\n".join(f"costs : {n} 2 3" for n in range(60))).warnings
    assert warning.startswith("query, lines 2, 3, 4 and 57 more: read as part of the question")


@pytest.mark.parametrize("query", ["", "question: ", "table:\na | b\nc | d", "text:\na .\n**Question**", BARS])
def test_without_a_question_there_is_an_error(query: str) -> None:
    with pytest.raises(UserError, match="no question"):
        parse_query(query)


WORDS = st.text("abz019 $%|\\.,-()", min_size=0, max_size=12).map(lambda text: " ".join(text.split()))
HEADS = st.sampled_from(["table:", "Text: a", "## Question", "\\table:", "context : b", "```", "table 98 : c"])
ROWS = st.sampled_from(["|---|", "+===+", "a|b", "|a|b|", "a\tb", "a,1", "how ?", "Question: how ?", "- Table:"])
CELLS = (WORDS | HEADS).filter(lambda text: "\\" not in text)


@given(
    WORDS.filter(bool),
    st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=4)),
    st.lists((WORDS | HEADS).filter(bool), max_size=3),
)
def test_what_is_written_is_read_back(question: str, table: list[list[str]], text: list[str]) -> None:
    # Blank lines are left out, and bars around every row are read as Markdown's.
    table = [[row[0] or "label", *row[1:], "end"] for row in table]
    assert parse_query(write_query(question, table, text))[:3] == (question, table, text)
    assert parse_query(write_query(question, [], text))[:3] == (question, [], text)


@settings(max_examples=400)
@given(st.text('a1 |\t,\n\r?.:-#*`"\\', max_size=60) | st.lists(HEADS | ROWS | WORDS, max_size=9).map("\n".join))
def test_every_query_is_read_or_has_no_question(query: str) -> None:
    with contextlib.suppress(UserError):
        found = parse_query(query)
        assert found.question
        assert len({len(row) for row in found.table}) <= 1


@pytest.mark.parametrize(
    "part", [" ", "-", "#", "|", ",", "\t", '"', "1", "\\", "a\n", "|a\n", "1,2\n", "a?\n", "table:\n"]
)
@pytest.mark.parametrize("mark", ["", "?"])
def test_time_does_not_grow_faster_than_the_query(part: str, mark: str) -> None:
    query = f"how {mark}\n{part * (200_000 // len(part))}x\ntext:\n{part * 1000}"
    began = time.perf_counter()
    parse_query(query)
    assert time.perf_counter() - began < 5.0
