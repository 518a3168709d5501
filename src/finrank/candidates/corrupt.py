"""Making one wrong program out of a right one, so that it looks like what a FinQA annotator could have written.

The algorithm: apply an edit; with chance `rate` apply another, and so on. Each edit is drawn by weight, and kept with
the chance min(1, commonness of the new shape / commonness of the old one): the Metropolis rule (1953), under which the
shapes of corrupted programs drift towards those of gold programs instead of away from them. Operands are replaced by
numbers of the same kind from the same page, in every place where they occur.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from finrank.candidates.numbers_nearby import moved_operands, numbers_nearby
from finrank.candidates.page import Page, size_of
from finrank.candidates.shapes import commonness
from finrank.programs import (
    ARITHMETIC_OPERATIONS,
    TABLE_OPERATIONS,
    Program,
    Step,
    is_constant,
    is_operand,
    is_reference,
    operands,
    reference,
    referenced_step,
)

Edit = Callable[[Program, Page, random.Random], Program | None]

_TRIES = 25
_OTHER_OPERATIONS = {
    "add": ("subtract",),
    "subtract": ("add", "divide"),
    "multiply": ("divide",),
    "divide": ("multiply", "subtract"),
    "exp": ("multiply",),
    "greater": ("subtract", "divide"),
}
_SCALES = ("const_100", "const_1000", "const_1000000")
_COUNTS = ("const_2", "const_3", "const_4", "const_5", "const_6", "const_7", "const_8", "const_9", "const_10")


def corrupt(gold: Program, page: Page, rng: random.Random, rate: float) -> tuple[Program, list[str]] | None:
    """A corrupted program with the names of its edits in order, or None where no edit is possible.

    `rate` in [0, 1) is the chance of a further edit after each one: the number of edits is geometric with mean
    1 / (1 - rate). The program may still have the value of the gold one, or none: that is for the caller to see.
    """
    program, names = gold, list[str]()
    while True:
        edited = _edit_once(program, page, rng)
        if edited is None:
            break
        program, name = edited
        names.append(name)
        if rng.random() >= rate:
            break
    return (program, names) if names else None


def _edit_once(program: Program, page: Page, rng: random.Random) -> tuple[Program, str] | None:
    fallback = None
    for _ in range(_TRIES):
        (name,) = rng.choices(list(EDITS), weights=list(_WEIGHTS.values()))
        edited = EDITS[name](program, page, rng)
        if edited is None or edited == program:
            continue
        if rng.random() * commonness(program) < commonness(edited):
            return edited, name
        fallback = edited, name
    return fallback


def _replace(program: Program, replacements: dict[str, str]) -> Program | None:
    """The program with operands replaced wherever they occur; None where two of them would become one."""
    new = Program(
        tuple(
            step
            if step.operation in TABLE_OPERATIONS
            else Step(
                step.operation,
                (replacements.get(step.arguments[0], step.arguments[0]), replacements.get(*step.arguments[1:] * 2)),
            )
            for step in program.steps
        )
    )
    return new if len(set(operands(new))) == len(set(operands(program))) else None


def operand(program: Program, page: Page, rng: random.Random) -> Program | None:
    """One number becomes another of its kind: from its row, from its column, or of like size from elsewhere."""
    own = list(dict.fromkeys(operands(program)))
    if not own:
        return None
    old = rng.choice(own)
    new = numbers_nearby(old, page, rng)
    return _replace(program, {old: new}) if new is not None else None
