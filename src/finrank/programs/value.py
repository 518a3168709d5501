"""The value of a program or why it has none, texts read as answers, and when two answers are equal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from finrank.programs.execution import DECIMALS, execute
from finrank.programs.language import Program, ProgramError, parse
from finrank.programs.numbers import read_number
from finrank.records import Answer
from finrank.store.json_lines import shorten, shown, shown_json

# Characters. A hundred times FinQA's longest; longer ones cost memory, and fit no model.
LONGEST_PROGRAM = 20_000
_LONGEST_ANSWER = 100  # characters; a longer text is not an answer

# At most one sign or pair of brackets, at most one unit. A comma must set off three digits: "1,2" may mean 1.2.
_WRITTEN_NUMBER = re.compile(
    r"(?P<sign>[-+]?) ?(?P<open>\(?) ?(?P<inner>[-+]?) ?(?P<digits>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)"
    r"(?P<power>e[-+]?\d{1,3})? ?(?P<unit>%|percent|thousand|million|billion|trillion|) ?(?P<close>\)?) ?(?P<after>%?)",
    re.ASCII,
)


class Value(NamedTuple):
    """The answer that a program computes, or why it computes none; exactly one of the two is None."""

    answer: Answer | None
    error: str | None = None


def value_of(program: str | Program, table: Sequence[Sequence[str]]) -> Value:
    """The value of a program, or of its text, on a table; never raises. A value that is not finite is a failure.

    >>> value_of("divide(637, const_5)", []), value_of("exp(10, 400)", []).answer
    (Value(answer=127.4, error=None), None)
    """
    try:
        value = execute(program if isinstance(program, Program) else parse(program), table)
    except ProgramError as error:
        return Value(None, str(error))
    if isinstance(value, str):
        return Value("yes" if value == "yes" else "no")
    return Value(value) if math.isfinite(value) else Value(None, f"the value is {value}")


def answer_key(answer: Answer | None) -> float | str | None:
    """The same for equal answers: a number at the official evaluator's 5 decimals, "yes", "no" or None."""
    return round(answer, DECIMALS) if isinstance(answer, float) else answer


def same_answer(first: Answer | None, second: Answer | None) -> bool:
    """True if two answers are known and equal at 5 decimals."""
    return first is not None and second is not None and answer_key(first) == answer_key(second)


# Three readers of different strictness: of files of predictions and requests, of completions, of official files.


def read_answer(value: float | str) -> Answer:
    """The answer in a number or a text; ValueError, with the reason, where there is none.

    As in FinQA's answers, percentages are fractions and scale words are left out. Brackets mean a negative number. Any
    other word makes a text unreadable.

    >>> [read_answer(text) for text in ("Yes", "12.5%", "$ 1,200", "(32)", "$ -4.5 million", "1.2e3")]
    ['yes', 0.125, 1200.0, -32.0, -4.5, 1200.0]
    """
    if not isinstance(value, str):
        if not math.isfinite(value):
            raise ValueError(f"answer: {value} is no finite number")
        return float(value)
    plain = " ".join(value.lower().replace("\u2212", "-").replace("$", " ", 1).split()).removesuffix(".")
    if plain in ("yes", "no"):
        return "yes" if plain == "yes" else "no"
    match = _WRITTEN_NUMBER.fullmatch(plain) if len(plain) <= _LONGEST_ANSWER else None
    number = None if match is None else _written_number(match)
    if number is None:
        short = shorten(value, 60)
        raise ValueError(f"answer: {short!r} is no number that can be read, nor yes or no; give the program instead")
    return number


def _written_number(match: re.Match[str]) -> float | None:
    signs = match["sign"] + match["inner"] + match["open"]
    units = match["unit"] + match["after"]
    brackets_differ = bool(match["open"]) != bool(match["close"])
    if brackets_differ or len(signs) > 1 or (match["unit"] and match["after"]):
        return None
    power = int((match["power"] or "e0")[1:]) - (2 if units in ("%", "percent") else 0)
    # The power goes into the text: 16.7 / 100 is not the float nearest to 0.167.
    value = float(f"{match['digits'].replace(',', '')}e{power}")
    if not math.isfinite(value):
        return None
    return -value if signs in ("-", "(") else value


def read_completed_answer(value: Any) -> Answer | None:
    """The answer in a completion, texts read as table cells; None for null and blanks; ValueError for others."""
    if isinstance(value, str):
        plain = value.strip().lower()
        if plain in ("yes", "no"):
            return "yes" if plain == "yes" else "no"
        value = read_number(plain) if plain else None
        if plain and value is None:
            raise ValueError(f"answer: {shown(plain)} is no number, yes or no")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"answer: expected a finite number, yes or no, got {shown_json(value)}")
    return float(value)


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
