"""Making one wrong program out of a right one, so that it looks like what a FinQA annotator could have written.

The algorithm: apply an edit; with chance `rate` apply another, and so on. An edit is drawn by weight and kept with
chance min(1, commonness of the new shape / commonness of the old one): the rule of Metropolis et al. (1953), by which
the shapes of corrupted programs stay those of gold programs instead of drifting away from them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from finrank.candidates import number_edits, structure_edits
from finrank.candidates.page import Page
from finrank.candidates.shapes import commonness
from finrank.programs import Program

# Every edit by the name it has in a candidate's `edits`, with how often it is drawn.
EDITS: dict[str, tuple[Callable[[Program, Page, random.Random], Program | None], float]] = {
    "operand": (number_edits.operand, 6.0),
    "row": (number_edits.row, 4.0),
    "column": (number_edits.column, 3.0),
    "sign": (number_edits.sign, 0.5),
    "operation": (structure_edits.operation, 2.0),
    "swap": (structure_edits.swap, 1.0),
    "denominator": (structure_edits.denominator, 1.0),
    "drop_step": (structure_edits.drop_step, 2.0),
    "add_step": (structure_edits.add_step, 3.0),
    "scale": (structure_edits.scale, 1.5),
}
_NAMES = list(EDITS)
_WEIGHTS = [weight for _, weight in EDITS.values()]
_TRIES = 25


def corrupt(gold: Program, page: Page, rng: random.Random, rate: float) -> tuple[Program, list[str]] | None:
    """A corrupted program with the names of its edits in order, or None where no edit is possible.

    `rate` in [0, 1) is the chance of a further edit after each one: the number of edits is geometric with mean
    1 / (1 - rate). The program may still have the value of the gold one, or none: that is for the caller to see.
    """
    program = gold
    names: list[str] = []
    while not names or rng.random() < rate:
        edited = _edit_once(program, page, rng)
        if edited is None:
            break
        program, name = edited
        names.append(name)
    return (program, names) if names else None


def _edit_once(program: Program, page: Page, rng: random.Random) -> tuple[Program, str] | None:
    """One edit, a natural one if `_TRIES` draws give it, else the last that was possible."""
    possible = None
    for _ in range(_TRIES):
        (name,) = rng.choices(_NAMES, weights=_WEIGHTS)
        edited = EDITS[name][0](program, page, rng)
        if edited is None or edited == program:
            continue
        possible = edited, name
        if rng.random() * commonness(program) < commonness(edited):
            break
    return possible
