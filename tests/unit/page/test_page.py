"""Numbers of a page as programs write them."""

from __future__ import annotations

import pytest

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


@pytest.fixture
def page() -> Page:
    return Page(TABLE, TEXT)


def test_cells_are_written_as_programs_write_them(page: Page) -> None:
    written = {place: tuple(number) for place, number in page.cells.items()}
    assert written[Cell(0, 1)] == ("2009", "year")
    assert written[Cell(1, 1)] == ("5829", "number")
    assert written[Cell(1, 3)] == ("1.6%", "percent")
    assert written[Cell(2, 1)] == ("-32", "number")
    assert written[Cell(2, 2)] == ("-10", "number")
    assert written[Cell(3, 1)] == ("2014", "year")
    assert Cell(2, 3) not in written


def test_sentences_give_amounts_and_years_only(page: Page) -> None:
    assert [tuple(number) for number in page.text_numbers] == [
        ("2009", "year"),
        ("4.5", "number"),
        ("22%", "percent"),
    ]


def test_rows_that_a_table_operation_can_read(page: Page) -> None:
    assert page.numeric_rows == ["revenue", "dash"]


def test_an_operand_has_places_and_a_kind(page: Page) -> None:
    assert page.places("32") == page.places("-32") == [Cell(2, 1)]
    assert page.places("1.6") == [Cell(1, 3)]
    kinds = {text: page.kind(text) for text in ("5829", "77", "1.6", "1.6%", "22", "2009", "1999")}
    assert list(kinds.values()) == ["number"] * 2 + ["percent"] * 3 + ["year"] * 2


def test_a_number_is_written_in_the_operand_s_manner(page: Page) -> None:
    percent, negative = page.text_numbers[2], page.cells[Cell(2, 2)]
    assert page.written_like(percent, "1.6") == "22"
    assert page.written_like(percent, "1.6%") == "22%"
    assert page.written_like(negative, "32") == "10"  # the program left out the minus sign of -32
    assert page.written_like(negative, "-32") == "-10"
    assert page.written_like(negative, "5829") == "-10"


@pytest.mark.parametrize("table", [[], [[]], [["a"]], [["a", "1"], [], ["b", "1", "2", "3"]]])
def test_odd_tables_are_pages_too(table: list[list[str]]) -> None:
    assert Page(table, []).kind("5") == "number"
