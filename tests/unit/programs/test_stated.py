"""Stated answers: how precisely each is stated, and which exact values it agrees with."""

from __future__ import annotations

import math

import pytest

from finrank.programs.stated import agrees, asks_for_percentage, read_stated

ANSWERS = {
    "yes": "yes", " No. ": "no", "YES": "yes", "12": 12.0, "-0.5": -0.5, ".5": 0.5, "5.": 5.0, "+3": 3.0,
    "1,234,567.8": 1234567.8, "$ 1,200": 1200.0, "$1200": 1200.0, "-$5": -5.0, "$ -5": -5.0, "$ (5)": -5.0,
    "(32)": -32.0, "( 32 )": -32.0, "−7": -7.0, "12.5%": 0.125, "12.5 %": 0.125, "16.7 percent": 0.167,
    "-16.7%": -0.167, "(3%)": -0.03, "(3)%": -0.03, "$ 63.1 million": 63.1, "2 billion.": 2.0, "1.2e3": 1200.0,
    "1e-2%": 0.0001, "12 shares": 12.0, "(-5)": -5.0, "about $ 5": 5.0, "~5": 5.0, "true": "yes", "5 mil": 5.0,
    "increase of 5%": 0.05, "decreased by 5%": -0.05, "5% lower": -0.05, "minus 5": -5.0, "negative $5": -5.0,
    "5 percentage points": 0.05, "5 %-points": 0.05, "5 pp": 0.05, "94 bps": 94.0, "**94**": 94.0, "\\$94": 94.0,
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), ANSWERS.items())
def test_answers_that_are_read(text: str, value: float | str) -> None:
    assert read_stated(text).answer == value


@pytest.mark.parametrize(
    "text",
    ["", " ", "none", "n/a", "nan", "inf", "Infinity", "1 2", "5%%", "5 apples", "100 *", "* 5", "\\(5\\)", "5%  5",
     "(5", "5)", "--5", "+-5", "1.2.3", "1_000", "yes no", "9e999", "9" * 400, "-", "minus minus 5"],
)  # fmt: skip
def test_texts_that_state_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="no number that can be read"):
        read_stated(text)


@pytest.mark.parametrize("text", ["16,7%", "1,2", "0,123", "1234,567", "1.234,5", "12,34,567", "5,829,00"])
def test_a_decimal_comma_is_never_another_number(text: str) -> None:
    with pytest.raises(ValueError, match="comma"):
        read_stated(text)


def test_numbers_are_answers_unless_they_are_not_finite() -> None:
    assert (read_stated(3).answer, read_stated(-0.5).answer) == (3.0, -0.5)
    assert isinstance(read_stated(3).answer, float)
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            read_stated(value)


@pytest.mark.parametrize(
    ("stated", "exact", "right"),
    [
        ("1.61", 1.61039, True), ("1.61", 1.616, False), ("1.6", 1.61039, True), ("1.62", 1.61039, False),
        ("24.96 %", 0.24958, True), ("24.96 %", 24.96, True), ("25%", 0.24958, True), ("24.9%", 0.24958, False),
        ("0.24", 0.24958, False), ("0.25", 0.24958, True), ("24.96", 0.24958, False), ("about 0.06", 0.06411, True),
        ("5 percent decrease", -0.05, True), ("5 percent decrease", 0.05, True), ("5 percent increase", -0.05, False),
        ("-5%", 0.05, False), ("minus 5%", 0.05, False), ("negative 5%", 0.05, False), ("minus 5%", -0.0499, True),
        ("$1.2 million", 1.2, True), ("$1.2 million", 1200000.0, True), ("$1.2 million", 1234567.0, True),
        ("$1.2 million", 1200.0, True), ("$1.2 million", 1300.0, False), ("94", 94.4, True), ("94", 94.6, False),
        ("94.0", 94.4, False), ("0", 0.0, True), ("0", 0.004, False), ("0.0%", 0.0001, False), ("yes", "yes", True),
        ("yes", "no", False), ("yes", 1.0, False), ("1", "yes", False), ("0.123456789", 0.12346, True),
        ("5 percentage points", 0.05, True), ("5 percentage points", 5.0, True), ("3,000,000", 3000000.0, True),
    ],
)  # fmt: skip
def test_what_a_stated_answer_agrees_with(stated: str, exact: float | str, right: bool) -> None:
    assert agrees(read_stated(stated), exact) == right


def test_a_percentage_that_was_asked_for_may_be_stated_without_its_sign() -> None:
    for stated, exact in (("24.96", 0.24958), ("0.2496", 24.958), ("25", 0.24958)):
        assert agrees(read_stated(stated), exact, percentage=True)
        assert not agrees(read_stated(stated), exact)
    assert asks_for_percentage("by what Percentage did it grow ?")
    assert asks_for_percentage("what is the growth rate ?")
    assert not asks_for_percentage("what is the change in revenue ?")


def test_a_json_number_has_lost_its_trailing_zeros() -> None:
    assert agrees(read_stated(0.7), 0.7)
    assert not agrees(read_stated(0.7), 0.73)
    assert agrees(read_stated(0.25), 0.24958)
    assert not agrees(read_stated(94), 94.6)
