"""The value of a program or why it has none, equal answers, and texts read as answers."""

from __future__ import annotations

import math

import pytest

from finrank.programs import parse
from finrank.programs.value import Value, answer_key, read_answer, same_answer, value_of


@pytest.mark.parametrize(
    ("program", "value"),
    [
        ("divide(1, 8)", Value(0.125)),
        ("greater(1, 8)", Value("no")),
        ("multiply(1e300, 1e300)", Value(None, "the value is inf")),
        ("multiply(nan, 1)", Value(None, "the value is nan")),
        ("divide(1, 0)", Value(None, "step 0: divide: float division by zero")),
    ],
)
def test_a_value_or_why_there_is_none(program: str, value: Value) -> None:
    assert value_of(program, []) == value_of(parse(program), []) == value


def test_answers_are_equal_at_five_decimals() -> None:
    assert same_answer(0.123456, 0.123459)
    assert not same_answer(0.12344, 0.12346)
    assert same_answer("yes", "yes")
    assert not same_answer("yes", 1.0)
    assert not same_answer(None, None)
    assert (answer_key(0.1234567), answer_key("no"), answer_key(None)) == (0.12346, "no", None)


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
