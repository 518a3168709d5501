"""Edits that read other numbers of the page and leave the calculation as it is.

Each takes a program, its page and a random generator, and returns the edited program or None where it does not apply.
An operand is replaced wherever it occurs, by a number of the same kind (percent, year, other).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Literal

from finrank.page.page import Cell, Operand, Page, PageNumber, size_of
from finrank.programs import TABLE_OPERATIONS, Program, Step
from finrank.programs.shape import numbers_of

Line = Literal["row", "column"]

_NEGATIVE = 0.1  # chance of a negative number to replace a positive one, relative to a positive number's
_DRAWS = 12  # numbers or lines tried before an edit is given up
# Shares of numbers drawn from the row, and from the row or the column, by the line that a number shares with another.
_SHARES: dict[Line | None, tuple[float, float]] = {None: (0.45, 0.9), "row": (0.8, 0.92), "column": (0.12, 0.92)}
_ELSEWHERE = 0.12
_NEAR = 4.0  # mean distance in the text between an operand and its replacement, in numbers


def operand(program: Program, page: Page, rng: random.Random) -> Program | None:
    """One number becomes another: of its row, of its column, of the same part of the text, or from elsewhere."""
    numbers = numbers_of(program)
    if not numbers:
        return None
    old = rng.choice(numbers)
    new = number_near(old, page, rng, _shared_line(old, numbers, page))
    return replace_operands(program, {old: new}) if new is not None else None


def row(program: Program, page: Page, rng: random.Random) -> Program | None:
    """The same calculation on another line of the table: 5829 - 5735 of revenue becomes 310 - 290 of costs."""
    if any(step.operation in TABLE_OPERATIONS for step in program.steps):
        return _other_table_row(program, page, rng)
    return _move(program, page, rng, along="row")


def column(program: Program, page: Page, rng: random.Random) -> Program | None:
    """The same calculation on other columns, all operands moved equally far: 2009 on 2008 becomes 2008 on 2007."""
    return _move(program, page, rng, along="column")


def sign(program: Program, page: Page, rng: random.Random) -> Program | None:
    """A number that the page writes negative gains or loses its minus sign."""
    negative = [
        text for text in numbers_of(program) if any(page.cells[cell].text.startswith("-") for cell in page.places(text))
    ]
    if not negative:
        return None
    old = rng.choice(negative)
    return replace_operands(program, {old: old[1:] if old.startswith("-") else "-" + old})


def replace_operands(program: Program, replacements: dict[str, str]) -> Program | None:
    """The program with these operands replaced wherever they occur; None where two would become the same one."""
    numbers = numbers_of(program)
    sizes = {size_of(replacements.get(text, text)) for text in numbers}
    if len(sizes) < len(numbers) and len(sizes) < len({size_of(text) for text in numbers}):
        return None
    return Program(tuple(with_arguments(step, replacements) for step in program.steps))


def with_arguments(step: Step, replacements: dict[str, str]) -> Step:
    """The step with these arguments replaced; a table operation as it is."""
    operation, (first, second) = step
    if operation in TABLE_OPERATIONS:
        return step
    return Step(operation, (replacements.get(first, first), replacements.get(second, second)))


def number_near(text: str, page: Page, rng: random.Random, line: Line | None = None) -> str | None:
    """Another number of the operand's kind, written like it; None where few draws find one.

    Drawn near the operand, mostly along its row or its column where `line` says so, and accepted with a chance that
    grows with its similarity to the operand in sign, decimals and size.
    """
    old = page.operand(text)
    for _ in range(_DRAWS):
        number = _draw_from_table(old.places, page, rng, line) if old.places else _draw_from_text(old.size, page, rng)
        if number is None:
            continue
        written, chance = _fit(number, old, page)
        if chance > 0.0 and rng.random() < chance:
            return written
    return None


def _fit(number: PageNumber, old: Operand, page: Page) -> tuple[str, float]:
    """How the program would write a number in an operand's place, and how likely that is (0 for another kind)."""
    fit = old.fits.get(number.text)
    if fit is None:
        written, size = page.written_like(number, old.text), size_of(number.text)
        unfit = number.kind != old.kind or size in (0.0, old.size)
        fit = old.fits[number.text] = written, 0.0 if unfit else _similarity(written, size, old)
    return fit


def _shared_line(text: str, others: Sequence[str], page: Page) -> Line | None:
    """The line of the table that an operand shares with another of its program, which edits seldom leave."""
    places = page.places(text)
    if not places:
        return None
    row, column = places[0]
    cells = [cell for other in others if other != text for cell in page.places(other)]
    if row in [cell.row for cell in cells]:
        return "row"
    return "column" if column in [cell.column for cell in cells] else None


def _draw_from_table(places: Sequence[Cell], page: Page, rng: random.Random, line: Line | None) -> PageNumber | None:
    """A number of the row or the column of one of these cells (nearer rows more often), seldom one from elsewhere."""
    home = places[0] if len(places) == 1 else rng.choice(places)
    in_row, in_line = _SHARES[line]
    where = rng.random()
    if where < in_row:
        return rng.choice(page.in_row[home.row])
    if where < in_line:
        row, number = rng.choice(page.in_column[home.column])
        return number if rng.random() * abs(row - home.row) < 1.0 else None
    return rng.choice(page.everywhere)


def _draw_from_text(size: float, page: Page, rng: random.Random) -> PageNumber | None:
    """A number of the text, nearer ones more often, seldom one from elsewhere."""
    index = page.text_index.get(size)
    if index is None or rng.random() < _ELSEWHERE:
        return rng.choice(page.everywhere) if page.everywhere else None
    distance = 1 + int(-math.log(1.0 - rng.random()) * _NEAR)  # exponentially distributed
    index += distance if rng.random() < 0.5 else -distance
    return page.text_numbers[index] if 0 <= index < len(page.text_numbers) else None


def _similarity(written: str, size: float, old: Operand) -> float:
    """How likely a number is to replace an operand, above 0 to 1: by sign, decimals and size.

    Gold programs seldom read negative cells, and the numbers of one program are mostly written alike.
    """
    ratio = size / old.size if old.size > 0.0 else math.inf
    similarity = 1.0 / (1.0 + abs(math.log10(ratio))) if 0.0 < ratio < math.inf else 0.1
    if _decimals(written) != _decimals(old.text):
        similarity *= 0.4
    return similarity * (_NEGATIVE if written[0] == "-" and old.text[0] != "-" else 1.0)


def _decimals(text: str) -> int:
    return len(text.rstrip("%").partition(".")[2])


def _move(program: Program, page: Page, rng: random.Random, *, along: Line) -> Program | None:
    """All operands that are in the table, moved by the same number of rows or of columns."""
    homes = page.homes(numbers_of(program))
    distances = range(1, 1 + (page.last_row if along == "row" else page.last_column))
    if not homes or not distances:
        return None
    for _ in range(_DRAWS):
        distance = rng.choice(distances)
        # Near lines more often than far ones.
        if rng.random() * distance >= 1.0:
            continue
        if rng.random() >= 0.5:
            distance = -distance
        moved = _moved(homes, *((distance, 0) if along == "row" else (0, distance)), page)
        if moved is None:
            continue
        turned_negative = sum(new.startswith("-") and not old.startswith("-") for old, new in moved.items())
        if rng.random() < _NEGATIVE**turned_negative:
            return replace_operands(program, moved)
    return None


def _moved(homes: dict[str, Cell], down: int, right: int, page: Page) -> dict[str, str] | None:
    """The numbers so many rows and columns from each operand's cell; None where one has no number of its kind there."""
    moved = {}
    for text, (row, column) in homes.items():
        number = page.cells.get((row + down, column + right))
        if number is None or number.kind != page.cells[row, column].kind or size_of(number.text) == 0.0:
            return None
        moved[text] = _fit(number, page.operand(text), page)[0]
    return moved


def _other_table_row(program: Program, page: Page, rng: random.Random) -> Program | None:
    """One row label of the program's table operations becomes another row's, wherever it occurs."""
    labels = [step.arguments[0] for step in program.steps if step.operation in TABLE_OPERATIONS]
    old = rng.choice(labels)
    others = [label for label in page.numeric_rows if label not in labels]
    if not others:
        return None
    new = rng.choice(others)
    steps = []
    for operation, (first, second) in program.steps:
        is_old = operation in TABLE_OPERATIONS and first == old
        steps.append(Step(operation, (new if is_old else first, second)))
    return Program(tuple(steps))
