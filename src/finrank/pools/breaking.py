"""Programs that fail to execute, as systems write them now and then."""

from __future__ import annotations

import random

from finrank.page.page import Page
from finrank.programs import TABLE_OPERATIONS, Program, Step, reference


def break_program(program: Program, page: Page, rng: random.Random) -> Program:
    """The program with one fault that leaves it without a value.

    One of: a reference to a step that does not exist, a division by zero, a row label where a number belongs.
    """
    index = rng.randrange(len(program.steps))
    operation, (first, second) = program.steps[index]
    faults = [Step(operation, (reference(len(program.steps)), second))]
    if operation not in TABLE_OPERATIONS:
        faults.append(Step("divide", (first, "0")))
        faults += [Step(operation, (label, second)) for label in page.numeric_rows[:1]]
    return Program((*program.steps[:index], rng.choice(faults), *program.steps[index + 1 :]))
