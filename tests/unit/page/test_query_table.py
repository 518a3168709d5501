"""Rows of a table in a query, in the forms that people and programs write."""

from __future__ import annotations

import pytest

from finrank.page.query_table import QueryLine, at, named_table, one_table, tables_among


def lines_of(text: str) -> list[QueryLine]:
    return [QueryLine(number, line) for number, line in enumerate(text.split("\n"), start=1)]


def table_of(text: str, warnings: list[str]) -> list[list[str]]:
    return one_table(named_table(lines_of(text), warnings)[0], warnings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("| | 2009 |\n|---|:-:|\n| x | 1 |", [["", "2009"], ["x", "1"]]),
        ("| | 2009 |\n|-|-|\n| x | 1 |", [["", "2009"], ["x", "1"]]),
        ("| a | b |\n|---|---|\n| x | |\n| | 1 |", [["a", "b"], ["x", ""], ["", "1"]]),
        ("year | 2009\n--- | ---\nx | 1", [["year", "2009"], ["x", "1"]]),  # Markdown without outer bars
        ("      | 2009\n------+------\n x    |    1", [["", "2009"], ["x", "1"]]),  # psql
        ("+---+---+\n| a | b |\n+===+===+\n| x | 1 |\n+---+---+", [["a", "b"], ["x", "1"]]),  # a grid
        (" | 2009\n- | -", [["", "2009"], ["-", "-"]]),  # a row without values
        ("\t2009\nx | y\t1", [["", "2009"], ["x | y", "1"]]),
        ("a \\| b | c\nd | e", [["a | b", "c"], ["d", "e"]]),
        (',2009\n"a, ""b""","5,829"\nc, "1 ,2"', [["", "2009"], ['a, "b"', "5,829"], ["c", "1 ,2"]]),
        ("x,5829,\ny,,1", [["x", "5829", ""], ["y", "", "1"]]),
        (f'x,1\n"{"9" * 150_000}",2', [["x", "1"], [f'"{"9" * 150_000}"', "2"]]),  # longer than the csv module takes
    ],
)
def test_rows_are_read(text: str, expected: list[list[str]]) -> None:
    warnings: list[str] = []
    assert table_of(text, warnings) == expected
    assert warnings == []


@pytest.mark.parametrize(
    "text",
    [
        "as of december 31, 2009\nyear ended december 31, 2008",
        "- revenue 5,829\n- costs 4,210",
        "costs fell, revenue grew, and\ntax, a large part of it, too",
        "annual report | 59 during the year ended .\ndividend plan | in march we filed it .",
        "\tan indented\n\tparagraph",
        "revenue | 5829",
        "---\n---",
    ],
)
def test_prose_is_no_table(text: str) -> None:
    assert tables_among(lines_of(text), []) == ([], lines_of(text))


def test_tables_among_prose() -> None:
    text = (
        "first , this\n\nItem, FY09, FY08\nrevenue, 5829, (3)\n\nthen, that .\n | 2009\n\nx | 1\n---\nwhat is x | y ?\n"
        'of,"december 31, 2009",2008\ns&p 500,100,102\n2010,100.00,101.00'
    )
    (first, second, third), prose = tables_among([line for line in lines_of(text) if line.text], [])
    assert [(row.line, row.cells) for row in first] == [(3, ["Item", "FY09", "FY08"]), (4, ["revenue", "5829", "(3)"])]
    assert [row.cells for row in second] == [["", "2009"], ["x", "1"]]
    assert [row.cells for row in third] == [
        ["of", "december 31, 2009", "2008"], ["s&p 500", "100", "102"], ["2010", "100.00", "101.00"]
    ]  # fmt: skip
    assert [line.number for line in prose] == [1, 6, 11]


def test_lines_are_named_shortly() -> None:
    assert [at([3]), at([4, 3]), at(range(3, 8))] == [
        "query, line 3", "query, lines 3, 4", "query, lines 3, 4, 5 and 2 more"
    ]  # fmt: skip
