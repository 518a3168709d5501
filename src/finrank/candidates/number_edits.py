"""Edits that read other numbers of the page and leave the calculation as it is.

Each takes a program, its page and a random generator, and gives the edited program or None where it does not apply.
An operand is replaced wherever it occurs, by a number of the same kind (percent, year, other).
"""

from __future__ import annotations

import math
import random

from finrank.candidates.page import Cell, Page, PageNumber, size_of
from finrank.programs import TABLE_OPERATIONS, Program, Step, operands

_NEGATIVE = 0.1  # how much less often a negative number takes the place of a positive one
_LIKE_SIZE = 10.0  # numbers from elsewhere are at most this many times larger or smaller


def operand(program: Program, page: Page, rng: random.Random) -> Program | None:
    """One number becomes another: of its row, of its column, or of like size from elsewhere on the page."""
    own = list(dict.fromkeys(operands(program)))
    if not own:
        return None
    old = rng.choice(own)
    new = number_near(old, page, rng)
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
    """A number that the page writes negative gets or loses its minus sign."""
    negative = [
        text
        for text in dict.fromkeys(operands(program))
        if any(page.cells[place].text.startswith("-") for place in page.places(text))
    ]
    if not negative:
        return None
    old = rng.choice(negative)
    return replace_operands(program, {old: old[1:] if old.startswith("-") else "-" + old})


def replace_operands(program: Program, replacements: dict[str, str]) -> Program | None:
    """The program with these operands replaced wherever they occur; None where two would become the same one."""
    steps = []
    for step in program.steps:
        if step.operation in TABLE_OPERATIONS:
            steps.append(step)
        else:
            first, second = (replacements.get(argument, argument) for argument in step.arguments)
            steps.append(Step(step.operation, (first, second)))
    replaced = Program(tuple(steps))
    merged = len({size_of(text) for text in operands(replaced)}) < len({size_of(text) for text in operands(program)})
    return None if merged else replaced


def number_near(text: str, page: Page, rng: random.Random) -> str | None:
    """Another number of the operand's kind, written in its manner; None where the page has none.

    One from the same row or from the same column (nearer rows more often) where the operand stands in the table, and
    now and then, or else, one of like size from anywhere on the page.
    """
    kind = page.kind(text)
    numbers: list[PageNumber] = []
    weights: list[float] = []

    def offer(found: list[tuple[PageNumber, float]], share: float) -> None:
        wanted = [
            (number, weight * _likeness(number, text, page))
            for number, weight in found
            if number.kind == kind and number.size not in (0.0, size_of(text))
        ]
        total = sum(weight for _, weight in wanted)
        numbers.extend(number for number, _ in wanted)
        weights.extend(share * weight / total for _, weight in wanted)

    places = page.places(text)
    if places:
        home = rng.choice(places)
        offer([(number, 1.0) for place, number in page.cells.items() if place.row == home.row], 3.0)
        in_column = [(place, number) for place, number in page.cells.items() if place.column == home.column]
        offer([(number, 1.0 / max(1, abs(place.row - home.row))) for place, number in in_column], 3.0)
    everywhere = [*page.cells.values(), *page.text_numbers]
    offer([(number, 1.0) for number in everywhere if _like_size(number.size, size_of(text))], 1.5)
    if not numbers:
        return None
    return page.written_like(rng.choices(numbers, weights=weights)[0], text)


def _likeness(number: PageNumber, text: str, page: Page) -> float:
    """How likely a number is to stand where an operand stands, above 0 to 1: by sign, decimals and size.

    Gold programs seldom read negative cells, and the numbers of one program are mostly written alike.
    """
    written = page.written_like(number, text)
    size = size_of(text)
    like = 1.0 / (1.0 + abs(math.log10(number.size) - math.log10(size))) if size > 0.0 else 1.0
    like *= 1.0 if _decimals(written) == _decimals(text) else 0.4
    return like * (_NEGATIVE if written.startswith("-") and not text.startswith("-") else 1.0)


def _decimals(text: str) -> int:
    return len(text.rstrip("%").partition(".")[2])


def _move_weight(distance: int, moved: dict[str, str]) -> float:
    turned_negative = sum(new.startswith("-") and not old.startswith("-") for old, new in moved.items())
    return _NEGATIVE**turned_negative / abs(distance)


def _like_size(size: float, other: float) -> bool:
    return size == other or min(size, other) * _LIKE_SIZE >= max(size, other)


def _move(program: Program, page: Page, rng: random.Random, *, along: str) -> Program | None:
    """All operands that stand in the table, moved by the same number of rows or of columns."""
    homes = _homes(program, page)
    if not homes:
        return None
    targets: dict[int, dict[str, str]] = {}
    for distance in _distances(page, along):
        moved = {}
        for text, home in homes.items():
            target = (
                Cell(home.row + distance, home.column) if along == "row" else Cell(home.row, home.column + distance)
            )
            number = page.cells.get(target)
            if number is None or number.kind != page.cells[home].kind or number.size == 0.0:
                break
            moved[text] = page.written_like(number, text)
        else:
            targets[distance] = moved
    if not targets:
        return None
    distances = list(targets)
    weights = [_move_weight(distance, targets[distance]) for distance in distances]
    (chosen,) = rng.choices(distances, weights=weights)
    return replace_operands(program, targets[chosen])


def _homes(program: Program, page: Page) -> dict[str, Cell]:
    """The cell of each operand that stands in the table; of several, one in the row that holds most operands."""
    places = {text: page.places(text) for text in dict.fromkeys(operands(program))}
    rows = [place.row for found in places.values() for place in {cell.row: cell for cell in found}.values()]
    held = {number: rows.count(number) for number in rows}
    return {text: max(found, key=lambda place: held[place.row]) for text, found in places.items() if found}


def _distances(page: Page, along: str) -> list[int]:
    longest = max((getattr(place, along) for place in page.cells), default=0)
    return [distance for distance in range(-longest, longest + 1) if distance != 0]


def _other_table_row(program: Program, page: Page, rng: random.Random) -> Program | None:
    """One row label of the program's table operations becomes another row's, wherever it occurs."""
    own = [step.arguments[0] for step in program.steps if step.operation in TABLE_OPERATIONS]
    old = rng.choice(own)
    others = [label for label in page.numeric_rows if label not in own]
    if not others:
        return None
    new = rng.choice(others)
    return Program(
        tuple(
            Step(step.operation, (new, step.arguments[1]))
            if step.operation in TABLE_OPERATIONS and step.arguments[0] == old
            else step
            for step in program.steps
        )
    )
