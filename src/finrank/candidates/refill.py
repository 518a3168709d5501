"""An edit that takes the calculation of another question, with numbers of this page."""

from __future__ import annotations

import random
from functools import lru_cache

from finrank.candidates.number_edits import number_near
from finrank.candidates.page import Page
from finrank.programs import TABLE_OPERATIONS, Program, ProgramError, Step, operands, parse

_OTHER_ORDER = 0.3


def refill(program: Program, page: Page, rng: random.Random, shape: str) -> Program | None:
    """A shape of another question with this program's numbers first, and numbers near them where it needs more.

    subtract(5829, 5735) with the shape "add(a, b), add(#0, c)" is add(5829, 5735), add(#0, 5100). None where the page
    has no numbers or rows for it.
    """
    template = _template(shape)
    letters = list(dict.fromkeys(operands(template)))
    chosen = _numbers(program, page, rng, len(letters))
    if chosen is None:
        return None
    written = dict(zip(letters, chosen, strict=True))
    steps = []
    for operation, (first, second) in template.steps:
        if operation in TABLE_OPERATIONS:
            if not page.numeric_rows:
                return None
            steps.append(Step(operation, (rng.choice(page.numeric_rows), "none")))
        else:
            steps.append(Step(operation, (written.get(first, first), written.get(second, second))))
    return _readable(Program(tuple(steps)))


def _numbers(program: Program, page: Page, rng: random.Random, count: int) -> list[str] | None:
    """Numbers for a shape that has `count` of them, all different: the program's own first."""
    own = list(dict.fromkeys(operands(program)))
    if not own and count:
        cells = [number.text for number in page.cells.values() if number.kind != "year"]
        if not cells:
            return None
        own = [rng.choice(cells)]
    if len(own) > 1 and rng.random() < _OTHER_ORDER:
        rng.shuffle(own)
    chosen = own[:count]
    while len(chosen) < count:
        another = number_near(rng.choice(chosen), page, rng)
        if another is None or another in chosen:
            return None
        chosen.append(another)
    return chosen


@lru_cache(maxsize=4096)
def _template(shape: str) -> Program:
    """The shape as a program, its letters standing for numbers."""
    return parse(shape.replace("(row)", "(row, none)"))


def _readable(program: Program) -> Program | None:
    """The program, unless one of its row labels cannot be written (it holds a bracket or a comma)."""
    if not any(operation in TABLE_OPERATIONS for operation, _ in program.steps):
        return program
    try:
        return program if parse(str(program)) == program else None
    except ProgramError:
        return None
