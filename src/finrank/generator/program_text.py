"""The completions that make sense on a page, as a tree of pieces.

    {"program": "subtract(  |  5829,  |  5735)  |  , divide(  |  #0,  |  5735)  |  "}

A piece is an operation or one of its arguments, with all punctuation up to the next piece. Where a text has come to is
its `Place`; `ProgramText.pieces` holds the pieces that may come next. Numbers are those of the page and the question,
results those of earlier steps, rows those that a table operation can read. A step is only closed by an argument that
gives it a value, so that a whole text is a program that executes.

No piece begins another one at the same place, so that a text can be read in one way only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from math import isfinite

from finrank.page.page import written_numbers
from finrank.pools.completion import write_completion
from finrank.programs import ARITHMETIC_OPERATIONS, CONSTANTS, MOST_STEPS, TABLE_OPERATIONS, Program
from finrank.programs.execution import numeric_rows
from finrank.programs.language import Step, reference
from finrank.programs.numbers import literal
from finrank.programs.value import value_of
from finrank.records import Question

_BEGIN, _END = write_completion("\0").split(json.dumps("\0")[1:-1])
_SAFE_ARGUMENT = "const_1"  # a second argument with which every arithmetic operation has a value


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text has come to: its whole steps, and the operation and first argument of the one being written."""

    steps: tuple[Step, ...] = ()
    operation: str = ""
    first: str = ""
    is_end: bool = False


class ProgramText:
    """The texts that a generator may write for one question."""

    def __init__(self, question: Question) -> None:
        numbers = written_numbers(question.table, [*question.text, question.question])
        self._numbers = [number for number in numbers if (value := literal(number)) is not None and isfinite(value)]
        self._rows = numeric_rows(question.table)
        self._table = question.table
        self._pieces: dict[Place, dict[bytes, Place]] = {}

    def pieces(self, place: Place) -> dict[bytes, Place]:
        """Every piece that may come next, in UTF-8, and the place behind it; none at the end."""
        if place not in self._pieces:
            self._pieces[place] = {text.encode(): behind for text, behind in self._next(place).items()}
        return self._pieces[place]

    def shortest_rest(self, place: Place) -> int:
        """The bytes of a text that leads from a place to the end."""
        if place.is_end:
            return 0
        if not place.operation:
            return len(_END)  # behind a whole step
        if place.first or place.operation in TABLE_OPERATIONS:
            pieces = [f"{_SAFE_ARGUMENT})".encode()] if place.first else self.pieces(place)
            return min(map(len, pieces)) + len(_END)
        return min(map(len, self.pieces(place))) + len(f"{_SAFE_ARGUMENT})") + len(_END)

    def _next(self, place: Place) -> dict[str, Place]:
        if place.is_end:
            return {}
        if place.operation in TABLE_OPERATIONS:
            steps = {label: Step(place.operation, (label, "none")) for label in self._rows}
            return {f"{_in_json(label)}, none)": Place((*place.steps, step)) for label, step in steps.items()}
        if place.operation and not place.first:
            return {f"{argument}, ": replace(place, first=argument) for argument in self._arguments(place)}
        if place.operation:
            steps = {argument: Step(place.operation, (place.first, argument)) for argument in self._arguments(place)}
            whole = {argument: Place((*place.steps, step)) for argument, step in steps.items()}
            return {f"{argument})": behind for argument, behind in whole.items() if self._has_value(behind)}
        before = ", " if place.steps else _BEGIN
        operations = (*ARITHMETIC_OPERATIONS, *(TABLE_OPERATIONS if self._rows else ()))
        pieces = {f"{before}{name}(": replace(place, operation=name) for name in operations}
        return {**(pieces if len(place.steps) < MOST_STEPS else {}), **({_END: _AT_THE_END} if place.steps else {})}

    def _arguments(self, place: Place) -> list[str]:
        # yes and no, the results of greater, are arguments of nothing.
        results = [reference(index) for index, step in enumerate(place.steps) if step.operation != "greater"]
        return [*self._numbers, *CONSTANTS, *results]

    def _has_value(self, place: Place) -> bool:
        return value_of(Program(place.steps), self._table).answer is not None


_AT_THE_END = Place(is_end=True)


def _in_json(label: str) -> str:
    return write_completion(label)[len(_BEGIN) : -len(_END)]
