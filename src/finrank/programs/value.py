"""The value of a program or why it has none, texts read as answers, and when two answers are equal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from finrank.programs.execution import DECIMALS, execute
from finrank.programs.language import Program, ProgramError, parse, quoted
from finrank.records import Answer

# Characters. A hundred times FinQA's longest; longer ones cost memory, and fit no model.
LONGEST_PROGRAM = 20_000


class Value(NamedTuple):
    """The answer that a program computes, or why it computes none, or what was left out of it."""

    answer: Answer | None
    error: str | None = None


def value_of(program: str | Program, table: Sequence[Sequence[str]]) -> Value:
    """The value of a program, or of its text, on a table; never raises. A value that is not finite is a failure.

    >>> value_of("divide(637, const_5)", []), value_of("exp(10, 400)", []).answer
    (Value(answer=127.4, error=None), None)
    """
    try:
        program = program if isinstance(program, Program) else parse(program)
        value = execute(program, table)
    except ProgramError as error:
        return Value(None, str(error))
    left_out = f"its last step is cut off and left out: {quoted(program.cut_off)}" if program.cut_off else None
    if isinstance(value, str):
        return Value("yes" if value == "yes" else "no", left_out)
    return Value(value, left_out) if math.isfinite(value) else Value(None, f"the value is {value}")


def answer_key(answer: Answer | None) -> float | str | None:
    """The same for equal answers: a number at the official evaluator's 5 decimals, "yes", "no" or None."""
    return round(answer, DECIMALS) if isinstance(answer, float) else answer


def same_answer(first: Answer | None, second: Answer | None) -> bool:
    """True if two answers are known and equal at 5 decimals."""
    return first is not None and second is not None and answer_key(first) == answer_key(second)


def read_exe_ans(value: Any) -> float | str | None:
    """`exe_ans` of an official file, texts read as Python floats; None for null and blanks; ValueError for others."""
    if isinstance(value, str):
        value = value.strip().lower() or None
    if value is None or value in ("yes", "no"):
        return value
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("expected a finite number, 'yes' or 'no'")
    return number
