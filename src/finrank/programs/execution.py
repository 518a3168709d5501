"""Executing a program on a report's table, with the results of the official FinQA evaluator.

The official evaluator computes in Python floats and calls a program invalid when anything raises; the same operations
on the same values therefore return the same answers, down to complex powers and text comparisons in steps that the last
one does not use.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from finrank.programs.language import Program, ProgramError, is_reference, parse, quoted, reference, referenced_step
from finrank.programs.numbers import cell, literal

Table = Sequence[Sequence[str]]

DECIMALS = 5
_LONGEST_TEXT = 1_000
_LONGEST_FAULT = 100
_FIRST_STEPS = {reference(step): step for step in range(20)}  # nearly all references: a look-up is fast


def execute(program: Program, table: Table) -> float | str:
    """The value of a program's last step: a float rounded to 5 decimals, "yes" or "no".

    `table` holds rows of cells; a row's first cell is its label, the last of equal labels counts. nan and inf are
    returned where the official evaluator returns them. Raises ProgramError, with the reason, when there is no value,
    and nothing else, whatever the table holds.

    >>> from finrank.programs import parse
    >>> execute(parse("table_sum(costs, none), greater(#0, 10)"), [["", "2008"], ["costs", "$ 12"]])
    'yes'
    """
    results: list[Any] = []
    rows: _Rows | None = None
    row: list[float] | None = None
    for index, (operation, (first, second)) in enumerate(program.steps):
        try:
            if operation in _ARITHMETIC:
                value = _ARITHMETIC[operation](_argument(first, results), _argument(second, results))
            else:
                rows = rows or _Rows(table)
                row = _row(first, rows, results, row)
                value = _OVER_ROW[operation](row)
        except ProgramError as error:
            raise ProgramError(f"step {index}: {error}") from None
        except MemoryError:
            raise  # no fault of the program
        except Exception as error:  # the official evaluator counts every fault as an invalid program
            fault = str(error)[:_LONGEST_FAULT] or type(error).__name__
            raise ProgramError(f"step {index}: {operation}: {fault}") from None
        results.append(value)
    if not results:
        raise ProgramError("the program has no steps")
    return _answer(results[-1])


def numeric_rows(table: Table) -> list[str]:
    """Labels of the rows, header excepted, that a table operation can read, each once."""
    labels = []
    for label in dict.fromkeys(row[0] for row in table[1:] if row):
        try:
            execute(parse(f"table_sum({label}, none)"), table)
        except ProgramError:
            continue
        labels.append(label)
    return labels


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
        raise ProgramError(f"no number: {quoted(text)}")
    return value


def _result(text: str, results: list[Any]) -> Any:
    step = _FIRST_STEPS.get(text)
    if step is None:
        step = referenced_step(text)
    if not 0 <= step < len(results):
        raise ProgramError(f"{quoted(text)} refers to no earlier step")
    return results[step]


class _Rows:
    """The numbers of a table's rows; each row is looked up and read once, however many steps use it."""

    def __init__(self, table: Table) -> None:
        self._cells: dict[str, Sequence[str]] = {}
        self._numbers: dict[str, list[float]] = {}
        for index, row in enumerate(table):
            if not row:
                raise ProgramError(f"row {index} of the table is empty")
            self._cells[row[0]] = row

    def numbers(self, label: str) -> list[float]:
        """The numbers of the last row with this label; ProgramError when a cell is not a number."""
        if label not in self._numbers:
            if label not in self._cells:
                raise ProgramError(f"the table has no row {quoted(label)}")
            self._numbers[label] = [self._number(label, text) for text in self._cells[label][1:]]
        return self._numbers[label]

    @staticmethod
    def _number(label: str, text: str) -> float:
        if not isinstance(text, str):
            raise ProgramError(f"row {quoted(label)}: a cell is text, not {type(text).__name__}")
        number = cell(text)
        if number is None:
            raise ProgramError(f"row {quoted(label)}: no number in cell {quoted(text)}")
        return number


def _row(label: str, rows: _Rows, results: list[Any], previous: list[float] | None) -> list[float]:
    """The numbers that a table operation reads."""
    if not is_reference(label):
        return rows.numbers(label)
    # As in the official evaluator, a reference reads the row that was read last.
    _result(label, results)
    if previous is None:
        raise ProgramError(f"{quoted(label)} is no row of the table")
    return previous


def _add(first: Any, second: Any) -> Any:
    value = first + second
    # yes/no results are text, and text added to itself doubles at every step.
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        raise ProgramError("cannot add yes and no")
    return value


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": _add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "exp": operator.pow,
    "greater": lambda first, second: "yes" if first > second else "no",
}
_OVER_ROW: dict[str, Callable[[list[float]], float]] = {
    "table_max": max,
    "table_min": min,
    "table_sum": lambda row: float(sum(row)),
    "table_average": lambda row: sum(row) / len(row),
}
