"""Texts and numbers read as answers."""

from __future__ import annotations

import math

import pytest

from finrank.programs.value import read_answer

ANSWERS = {
    "yes": "yes", " No. ": "no", "YES": "yes", "12": 12.0, "-0.5": -0.5, ".5": 0.5, "5.": 5.0, "+3": 3.0,
    "1,234,567.8": 1234567.8, "$ 1,200": 1200.0, "$1200": 1200.0, "-$5": -5.0, "$ -5": -5.0, "$ (5)": -5.0,
    "(32)": -32.0, "( 32 )": -32.0, "−7": -7.0, "12.5%": 0.125, "12.5 %": 0.125, "16.7 percent": 0.167,
    "-16.7%": -0.167, "(3%)": -0.03, "(3)%": -0.03, "$ 63.1 million": 63.1, "2 billion.": 2.0, "1.2e3": 1200.0,
    "1e-2%": 0.0001,
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), ANSWERS.items())
def test_answers_that_are_read(text: str, value: float | str) -> None:
    assert read_answer(text) == value


@pytest.mark.parametrize(
    "text",
    ["", " ", "none", "n/a", "nan", "inf", "Infinity", "1,2", "1234,567", "1 2", "12 shares", "5% million", "5%%",
     "(5", "5)", "(-5)", "--5", "1.2.3", "1_000", "٣", "yes no", "true", "9e999", "9" * 400, "$ $ 5", "-"],
)  # fmt: skip
def test_answers_that_are_not(text: str) -> None:
    with pytest.raises(ValueError, match="no number that can be read"):
        read_answer(text)


def test_numbers_are_answers_unless_they_are_not_finite() -> None:
    assert (read_answer(3), read_answer(-0.5)) == (3.0, -0.5)
    assert isinstance(read_answer(3), float)
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            read_answer(value)
