"""Numbers of a page as programs write them."""

from __future__ import annotations

from finrank.page.page import Cell, Page

TABLE = [
    ["in millions", "2009", "2008", "change"],
    ["revenue", "$ 5,829", "$ 5,735", "1.6% ( 1.6 % )"],
    ["loss", "-32 ( 32 )", "( 10 )", "n/a"],
    ["dash", "$ 2014", "2014", "2014"],
    ["other, net", "1", "2", "3"],
    ["total ( a )", "1", "2", "3"],
]
TEXT = [
    "on december 31 , 2009 we paid $ 4.5 million and 22% ( 22 % ) of note 7 .",
    "the company 2019 s plan 2014 the first 2212 of its kind .",
]


PAGE = Page(TABLE, TEXT)


def test_cells_are_written_as_programs_write_them() -> None:
    rows = [[PAGE.cells.get((row, column), (None, None)) for column in (1, 2, 3)] for row in range(4)]
    assert [[text for text, _ in row] for row in rows] == [
        ["2009", "2008", None],
        ["5829", "5735", "1.6%"],
        ["-32", "-10", None],
        ["2014", "2014", "2014"],
    ]
    assert [row[0][1] for row in rows] == ["year", "number", "number", "year"]


def test_sentences_have_amounts_and_years_only() -> None:
    assert list(map(tuple, PAGE.text_numbers)) == [("2009", "year"), ("4.5", "number"), ("22%", "percent")]


def test_rows_that_a_table_operation_can_read() -> None:
    assert PAGE.numeric_rows == ["revenue", "dash"]


def test_an_operand_has_places_and_a_kind() -> None:
    assert PAGE.places("32") == PAGE.places("-32") == [Cell(2, 1)]
    assert PAGE.places("1.6") == [Cell(1, 3)]
    kinds = [PAGE.kind(text) for text in ("5829", "77", "1.6", "1.6%", "22", "2009", "1999", "02008")]
    assert kinds == ["number"] * 2 + ["percent"] * 3 + ["year"] * 3


def test_a_number_is_written_in_the_operand_s_manner() -> None:
    percent, negative = PAGE.text_numbers[2], PAGE.cells[Cell(2, 2)]
    assert [PAGE.written_like(percent, operand) for operand in ("1.6", "1.6%")] == ["22", "22%"]
    # The program left out the minus sign of -32.
    assert [PAGE.written_like(negative, operand) for operand in ("32", "-32", "5829")] == ["10", "-10", "-10"]
