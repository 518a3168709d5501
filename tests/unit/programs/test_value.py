"""The value of a program or why it has none, and equal answers."""

from __future__ import annotations

import pytest

from finrank.programs import parse
from finrank.programs.value import Value, answer_key, same_answer, value_of


@pytest.mark.parametrize(
    ("program", "value"),
    [
        ("divide(1, 8)", Value(0.125)),
        ("greater(1, 8)", Value("no")),
        ("multiply(1e300, 1e300)", Value(None, "the value is inf")),
        ("multiply(nan, 1)", Value(None, "the value is nan")),
        ("divide(1, 0)", Value(None, "step 0: divide: float division by zero")),
        ("add(1, 2), divide(3", Value(3.0, "its last step is cut off and left out: 'divide( 3'")),
    ],
)
def test_a_value_or_why_there_is_none(program: str, value: Value) -> None:
    assert value_of(program, []) == value_of(parse(program), []) == value


def test_a_step_with_one_argument_is_not_one_that_is_cut_off() -> None:
    assert value_of("add(1, 2), divide(3)", []).answer is None


def test_answers_are_equal_at_five_decimals() -> None:
    assert same_answer(0.123456, 0.123459)
    assert not same_answer(0.12344, 0.12346)
    assert same_answer("yes", "yes")
    assert not same_answer("yes", 1.0)
    assert not same_answer(None, None)
    assert (answer_key(0.1234567), answer_key("no"), answer_key(None)) == (0.12346, "no", None)
