"""Executing a program on a report's table, with the results of the official FinQA evaluator.

The official evaluator computes in Python floats and calls a program invalid when anything raises; the same
operations on the same values therefore give the same answers, down to complex powers and text comparisons in
steps that the last one does not use.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from finrank.programs.language import Program, ProgramError, is_reference, referenced_step
from finrank.programs.numbers import cell, literal

Table = Sequence[Sequence[str]]

DECIMALS = 5
_LONGEST_TEXT = 10_000


def execute(program: Program, table: Table) -> float | str:
    """The value of a program's last step: a float rounded to 5 decimals, "yes" or "no".

    `table` holds rows of cells; a row's first cell is its label, the last of equal labels counts. nan and inf
    are returned where the official evaluator returns them; ProgramError says why a program has no value.

    >>> from finrank.programs import parse
    >>> execute(parse("table_sum(costs, none), greater(#0, 10)"), [["", "2008"], ["costs", "$ 12"]])
    'yes'
    """
    results: list[Any] = []
    row: list[float] | None = None
    for index, (operation, (first, second)) in enumerate(program.steps):
        try:
            if operation in _ARITHMETIC:
                value = _ARITHMETIC[operation](_argument(first, results), _argument(second, results))
            else:
                row = _row(first, table, results, row)
                value = _OVER_ROW[operation](row)
        except ProgramError as error:
            raise ProgramError(f"step {index}: {error}") from None
        except Exception as error:  # the official evaluator counts every fault as an invalid program
            raise ProgramError(f"step {index}: {operation}: {error or type(error).__name__}") from None
        results.append(value)
    return _answer(results[-1]) if results else _answer(None)


def _answer(value: Any) -> float | str:
    if isinstance(value, float):
        return round(value, DECIMALS)
    if value in ("yes", "no"):
        return str(value)
    raise ProgramError(f"the result is no real number, yes or no: {str(value)[:60]}")


def _argument(text: str, results: list[Any]) -> Any:
    if is_reference(text):
        return _result(text, results)
    value = literal(text)
    if value is None:
        raise ProgramError(f"no number: {text[:60]!r}")
    return value


def _result(text: str, results: list[Any]) -> Any:
    step = referenced_step(text)
    if not 0 <= step < len(results):
        raise ProgramError(f"{text[:60]} refers to no earlier step")
    return results[step]


def _row(label: str, table: Table, results: list[Any], previous: list[float] | None) -> list[float]:
    """The numbers of the row with this label."""
    if is_reference(label):
        # As officially: a reference has no row of its own, and the row last read is still at hand.
        _result(label, results)
        if previous is None:
            raise ProgramError(f"{label[:60]} is no row of the table")
        return previous
    cells = None
    for row in table:
        if row[0] == label:
            cells = row[1:]
    if cells is None:
        raise ProgramError(f"the table has no row {label[:60]!r}")
    numbers = []
    for text in cells:
        number = cell(text)
        if number is None:
            raise ProgramError(f"row {label[:60]!r}: no number in cell {text[:60]!r}")
        numbers.append(number)
    return numbers


def _add(first: Any, second: Any) -> Any:
    value = first + second
    # yes/no results are text, and text added to itself doubles at every step.
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        raise ProgramError("cannot add yes and no")
    return value


def _greater(first: Any, second: Any) -> str:
    return "yes" if first > second else "no"


def _average(row: list[float]) -> float:
    return sum(row) / len(row)


def _sum(row: list[float]) -> float:
    return float(sum(row))


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": _add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "exp": operator.pow,
    "greater": _greater,
}
_OVER_ROW: dict[str, Callable[[list[float]], float]] = {
    "table_max": max,
    "table_min": min,
    "table_sum": _sum,
    "table_average": _average,
}
