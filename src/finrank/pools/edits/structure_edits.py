"""Edits that change the calculation: operations, the order of arguments, steps, constants; and one that breaks it.

Each takes a program, its page and a random generator, and returns the edited program or None where it does not apply.
"""

from __future__ import annotations

import random

from finrank.page.page import Page
from finrank.pools.edits.number_edits import number_near, replace_operands, with_arguments
from finrank.programs import (
    TABLE_OPERATIONS,
    Program,
    Step,
    is_operand,
    is_reference,
    operands,
    reference,
    referenced_step,
)
from finrank.programs.shape import numbers_of

_OTHER_OPERATIONS = {
    "add": ("subtract", "divide"),
    "subtract": ("add", "divide"),
    "multiply": ("divide", "add"),
    "divide": ("multiply", "subtract"),
    "exp": ("multiply",),
    "greater": ("subtract", "divide"),
    **{name: tuple(other for other in TABLE_OPERATIONS if other != name) for name in TABLE_OPERATIONS},
}
_ORDER_MATTERS = ("subtract", "divide", "greater", "exp")
_UNITS = ("const_100", "const_1000", "const_1000000")
_SMALL_NUMBERS = tuple(f"const_{number}" for number in range(1, 11))  # of years, of summands
# The neighbours of each constant among those it could be confused with: nobody takes 2 for 9.
_NEAR_CONSTANTS = {
    constant: [*group[max(0, index - 1) : index], *group[index + 1 : index + 2]]
    for group in (_UNITS, _SMALL_NUMBERS)
    for index, constant in enumerate(group)
}


def operation(program: Program, page: Page, rng: random.Random) -> Program | None:
    """One operation becomes another that takes the same arguments."""
    index = rng.randrange(len(program.steps))
    step = program.steps[index]
    return _with_step(program, index, Step(rng.choice(_OTHER_OPERATIONS[step.operation]), step.arguments))


def swap(program: Program, page: Page, rng: random.Random) -> Program | None:
    """Two arguments of one step change places, or two operands do wherever they occur (new and old year)."""
    ordered = [index for index, step in enumerate(program.steps) if step.operation in _ORDER_MATTERS]
    if not ordered:
        return None
    index = rng.choice(ordered)
    step = program.steps[index]
    first, second = step.arguments
    if is_operand(first) and is_operand(second) and rng.random() < 0.5:
        return replace_operands(program, {first: second, second: first})
    return _with_step(program, index, Step(step.operation, (second, first)))


def denominator(program: Program, page: Page, rng: random.Random) -> Program | None:
    """A division by a number is by another one: of the program, or of the page."""
    steps = enumerate(program.steps)
    divisions = [index for index, step in steps if step.operation == "divide" and is_operand(step.arguments[1])]
    if not divisions:
        return None
    index = rng.choice(divisions)
    numerator, old = program.steps[index].arguments
    others = [text for text in numbers_of(program) if text not in (old, numerator)]
    new = rng.choice(others) if others and rng.random() < 0.7 else number_near(old, page, rng)
    return _with_step(program, index, Step("divide", (numerator, new))) if new is not None else None


def drop_step(program: Program, page: Page, rng: random.Random) -> Program | None:
    """One step is left out and replaced by one of its arguments; without its last step a program ends earlier."""
    arithmetic = [index for index, step in enumerate(program.steps) if step.operation not in TABLE_OPERATIONS]
    if len(program.steps) < 2 or not arithmetic:
        return None
    dropped = rng.choice(arithmetic)
    step = program.steps[dropped]
    if dropped == len(program.steps) - 1:
        references = [referenced_step(argument) for argument in step.arguments if is_reference(argument)]
        return _needed(program.steps, rng.choice(references)) if references else None
    instead = rng.choice(step.arguments)
    steps = tuple(with_arguments(later, {reference(dropped): instead}) for later in program.steps)
    return _needed(steps, len(steps) - 1)


def add_step(program: Program, page: Page, rng: random.Random) -> Program | None:
    """One more step: on the result (a share, a change, an average, one more number), or before the last one."""
    last = program.steps[-1]
    numbers = operands(program)
    if last.operation == "greater" or not numbers:
        return None
    another = number_near(rng.choice(numbers), page, rng)
    if another in numbers:
        another = None
    of_numbers = last.operation == "divide" and all(map(is_operand, last.arguments))
    if of_numbers and rng.random() < 0.6:
        return _divide_a_change(program, rng)
    further = _further_steps(program, numbers, another)
    return Program((*program.steps, rng.choice(further))) if further else None


def _further_steps(program: Program, numbers: list[str], another: str | None) -> list[Step]:
    """Steps that annotators add to a result; `another` is a number that the program does not have."""
    operation, result = program.steps[-1].operation, reference(len(program.steps) - 1)
    if operation == "divide":
        return [Step("subtract", (result, "const_1")), Step("multiply", (result, "const_100"))]
    if operation == "subtract":
        further = [Step("divide", (result, numbers[-1])), Step("divide", (result, numbers[0]))]
        return [*further, Step("divide", (another, result))] if another is not None else further
    if operation == "add":
        summands = 1 + sum(step.operation == "add" for step in program.steps)
        further = [Step("divide", (result, f"const_{summands}"))]
        if another is not None:
            further += [Step("add", (result, another)), Step("divide", (result, another))]
            further.append(Step("divide", (another, result)))
        return further
    return []


def scale(program: Program, page: Page, rng: random.Random) -> Program | None:
    """A constant becomes another of its kind, or the result is brought to another unit."""
    arguments = ((index, argument) for index, step in enumerate(program.steps) for argument in step.arguments)
    constants = [(index, argument) for index, argument in arguments if argument in _NEAR_CONSTANTS]
    if constants:
        index, old = rng.choice(constants)
        new = rng.choice(_NEAR_CONSTANTS[old])
        return _with_step(program, index, with_arguments(program.steps[index], {old: new}))
    if program.steps[-1].operation == "greater":
        return None
    name, constant = rng.choice(
        (("multiply", "const_100"), ("multiply", "const_1000"), ("divide", "const_1000"), ("divide", "const_1000000"))
    )
    return Program((*program.steps, Step(name, (reference(len(program.steps) - 1), constant))))


def _divide_a_change(program: Program, rng: random.Random) -> Program:
    """divide(a, b) becomes subtract(a, b), divide(#n, b), or the same with add."""
    *before, last = program.steps
    name = rng.choice(("subtract", "subtract", "add"))
    numerator, below = last.arguments
    return Program((*before, Step(name, (numerator, below)), Step("divide", (reference(len(before)), below))))


def break_program(program: Program, page: Page, rng: random.Random) -> Program:
    """The program with one fault that leaves it without a value, as systems write them now and then.

    One of: a reference to a step that does not exist, a division by zero, a row label in place of a number.
    """
    index = rng.randrange(len(program.steps))
    operation, (first, second) = program.steps[index]
    faults = [Step(operation, (reference(len(program.steps)), second))]
    if operation not in TABLE_OPERATIONS:
        faults.append(Step("divide", (first, "0")))
        faults += [Step(operation, (label, second)) for label in page.numeric_rows[:1]]
    return _with_step(program, index, rng.choice(faults))


def _with_step(program: Program, index: int, step: Step) -> Program:
    return Program((*program.steps[:index], step, *program.steps[index + 1 :]))


def _needed(steps: tuple[Step, ...], last: int) -> Program:
    """The program that ends with step `last`: the steps it needs, in order, renumbered."""
    needed = {last}
    for index in range(last, -1, -1):
        if index in needed and steps[index].operation not in TABLE_OPERATIONS:
            needed.update(referenced_step(text) for text in steps[index].arguments if is_reference(text))
    kept = sorted(needed)
    numbers = {reference(old): reference(new) for new, old in enumerate(kept)}
    return Program(tuple(with_arguments(steps[index], numbers) for index in kept))
