"""An edit that takes the calculation of another question, with numbers of this page."""

from __future__ import annotations

import random
from functools import lru_cache

from finrank.page.page import Page
from finrank.pools.edits.number_edits import number_near
from finrank.programs import TABLE_OPERATIONS, Program, Step, parse, parse_or_none
from finrank.programs.shape import numbers_of

_OTHER_ORDER = 0.3  # chance that the program's own numbers are shuffled


def refill(program: Program, page: Page, rng: random.Random, shape: str) -> Program | None:
    """A shape of another question with this program's numbers first, and numbers near them where it needs more.

    subtract(5829, 5735) with the shape "add(a, b), add(#0, c)" is add(5829, 5735), add(#0, 5100). None where the page
    has no numbers or rows for it.
    """
    template, letters, reads_rows = _template(shape)
    chosen = _numbers(program, page, rng, len(letters))
    if chosen is None or (reads_rows and not page.numeric_rows):
        return None
    written = dict(zip(letters, chosen, strict=True))
    steps = []
    for operation, (first, second) in template.steps:
        if operation in TABLE_OPERATIONS:
            steps.append(Step(operation, (rng.choice(page.numeric_rows), "none")))
        else:
            steps.append(Step(operation, (written.get(first, first), written.get(second, second))))
    filled = Program(tuple(steps))
    # A row label that holds a bracket or a comma cannot be written.
    return filled if not reads_rows or parse_or_none(str(filled)) == filled else None


def _numbers(program: Program, page: Page, rng: random.Random, count: int) -> list[str] | None:
    """Numbers for a shape that has `count` of them, all different: the program's own first."""
    numbers = list(numbers_of(program))
    if not numbers and count:
        cells = [number.text for number in page.cells.values() if number.kind != "year"]
        if not cells:
            return None
        numbers = [rng.choice(cells)]
    if len(numbers) > 1 and rng.random() < _OTHER_ORDER:
        rng.shuffle(numbers)
    chosen = numbers[:count]
    while len(chosen) < count:
        another = number_near(rng.choice(chosen), page, rng)
        if another is None or another in chosen:
            return None
        chosen.append(another)
    return chosen


@lru_cache(maxsize=4096)
def _template(shape: str) -> tuple[Program, tuple[str, ...], bool]:
    """The shape as a program, its letters in place of numbers, and whether it reads rows of the table."""
    template = parse(shape.replace("(row)", "(row, none)"))
    return template, numbers_of(template), any(operation in TABLE_OPERATIONS for operation, _ in template.steps)
