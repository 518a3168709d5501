"""The edit that takes the calculation of another question."""

from __future__ import annotations

from functools import partial

import pytest

from finrank.page.page import Page
from finrank.pools.edits.refill import refill
from finrank.pools.gold_shapes import FINQA_SHAPES
from finrank.programs import operands, parse
from finrank.programs.shape import shape_of
from tests.helpers.questions import CHANGE, PAGE, made_by


def every(text: str, shape: str, page: Page = PAGE) -> set[str]:
    """All programs that a refill makes of a program."""
    return made_by(partial(refill, shape=shape), text, page)


@pytest.mark.parametrize(
    ("program", "shape", "refilled"),
    [
        ("divide(5829, 5735)", "subtract(a, b), divide(#0, b)", CHANGE),
        ("divide(5829, 5735)", "subtract(a, b), divide(#0, b)", "subtract(5735, 5829), divide(#0, 5829)"),
        (CHANGE, "divide(a, b)", "divide(5829, 5735)"),
        (CHANGE, "add(a, b), add(#0, c)", "add(5829, 5735), add(#0, 5100)"),
        (CHANGE, "table_average(row)", "table_average(costs, none)"),
        (CHANGE, "add(a, b), divide(#0, const_2)", "add(5829, 5735), divide(#0, const_2)"),
        ("add(310, 290), add(#0, 270)", "subtract(a, b)", "subtract(310, 290)"),
        ("table_max(costs, none)", "multiply(a, const_1000)", "multiply(290, const_1000)"),
        ("add(const_1, const_2)", "divide(const_100, a)", "divide(const_100, 5735)"),
    ],
)
def test_a_refill_makes_this(program: str, shape: str, refilled: str) -> None:
    assert refilled in every(program, shape)


@pytest.mark.parametrize("shape", list(FINQA_SHAPES))
def test_a_refill_has_the_shape_it_was_given_and_numbers_of_the_page(shape: str) -> None:
    page_numbers = {number.text.lstrip("-") for number in PAGE.everywhere}
    made = every(CHANGE, shape)
    # Three lines of three numbers are too few for none but the longest shapes.
    assert made
    for text in made:
        assert shape_of(parse(text)) == shape
        assert {number.lstrip("-") for number in operands(parse(text))} <= page_numbers


def test_the_program_s_own_numbers_come_first() -> None:
    for text in every(CHANGE, "add(a, b), add(#0, c)"):
        assert set(operands(parse(text))[:2]) == {"5829", "5735"}
    for text in every(CHANGE, "divide(const_100, a)"):
        assert operands(parse(text))[0] in ("5829", "5735")


@pytest.mark.parametrize(
    ("program", "shape", "page"),
    [
        ("divide(5, 4)", "add(a, b), add(#0, c)", Page([], [])),
        ("divide(5, 4)", "table_sum(row)", Page([], [])),
        ("add(const_1, const_2)", "divide(const_100, a)", Page([], ["we paid 40 to 50 people ."])),
        # rows that no program can name
        ("divide(5, 4)", "table_sum(row)", Page([["", "2009"], ["costs, net", "5"], ["tax (all)", "4"]], [])),
    ],
)
def test_a_page_without_numbers_or_rows_for_a_shape_makes_nothing(program: str, shape: str, page: Page) -> None:
    assert every(program, shape, page) == set()
