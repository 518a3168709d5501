"""Codes of lost characters, as distinct from years."""

from __future__ import annotations

import pytest

from finrank.page.broken_characters import broken_characters, dash_cells, report_year


def test_the_report_year_comes_from_the_page() -> None:
    years = [report_year(page) for page in ("V/2008/page_17.pdf", "my-report.pdf", "page_20081.pdf")]
    assert years == [2008, None, None]


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("management 2019s discussion", 2018),
        ("the so-called 201cnotes 201d", 2020),
        ("stockholders 2019 equity", 2008),
        ("financial statements 2014 ( continued )", 2007),
        ("fuel prices 2013 crude oil prices", 2008),
        ("market risk 2014country risk", 2019),
        ("( 2018 2018bndes 2019 2019 )", 2019),
        ("2022 higher net sales ;", 2008),
        ("namely : 2022 the primary source", 2015),
        ("our htc 2122 grid", 2005),
        ("f0b7 safety", None),
    ],
)
def test_a_character_is_found(text: str, year: int | None) -> None:
    assert broken_characters(text, year)


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("at december 31 , 2013 .", 2008),
        ("in 2014 and 2015", 2008),
        ("2012 2013 2014 thereafter", 2011),
        ("the february 2014 notes", 2008),
        ("unsecured 2014 notes", 2008),
        ("net sales 2014 were high", 2014),
        ("fiscal 2022and 2023", 2018),
        ("2026 to 2030", 2010),
        ("2022 and thereafter", 2016),
        ("payments due by period ( in thousands ) 2018", 2016),
        ("on pages 40 201342", 2007),
        ("net sales 2014 were high", None),
        ("asu 2014-09 outlines a single model", 2012),
        ("revenue of 637", 2008),
    ],
)
def test_a_year_is_left_alone(text: str, year: int | None) -> None:
    assert broken_characters(text, year) == []


def test_each_code_comes_with_its_neighbouring_words() -> None:
    codes = broken_characters("the company 2019s plan and the 201cnotes 201d", 2008)
    assert codes == ["company 2019s plan", "the 201cnotes 201d", "201cnotes 201d"]


def test_dashes_among_amounts_are_found_and_other_cells_are_not() -> None:
    def dashes(cell: str) -> list[tuple[int, int]]:
        return dash_cells([["", "2008", "2007"], ["notes", cell, "637"], ["bonds", "12", "13"]])

    for cell in ("$ 2014", "2014", "2013", "2212", "2014% ( 2014 % )", " $ 2013 "):
        assert dashes(cell) == [(1, 1)], cell
    for cell in ("2014.5", "12014", "$ 2,014", "2018", "march 2014", "-", ""):
        assert dashes(cell) == [], cell


@pytest.mark.parametrize(
    ("table", "dashes"),
    [
        ([["", "expires"], ["a", "2014"], ["b", "2022 ( 2 )"], ["c", "n/a"], ["d", "2019"]], []),  # a column of years
        ([["", "2003"], ["a", "2014"], ["b", "1912"], ["c", "2844"], ["d", "5137"]], [(1, 1)]),  # but for one number
        ([["2014", "2014"], ["2014", "5"]], []),  # header and labels
        ([], []),
    ],
)
def test_a_column_decides_what_a_bare_code_is(table: list[list[str]], dashes: list[tuple[int, int]]) -> None:
    assert dash_cells(table) == dashes
