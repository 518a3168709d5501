"""The syntax of FinQA programs (Chen et al., EMNLP 2021): text to steps and back, and what an argument is.

    subtract(5829, 5735), divide(#0, 5735)      two steps; #0 is the result of the first
    divide(637, const_5)                        const_5 is the number 5 (const_m1 is -1)
    table_average(net sales, none)              the row of the table labelled "net sales"; `none` is ignored

The grammar is the official evaluator's, which has no escapes: the text is cut at every ", " and at every bracket, so a
row label that holds a bracket or ", " cannot be written. As there, a last step that is cut off is left out: the program
"add(1, 2), divide(3" is "add(1, 2)".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

ARITHMETIC_OPERATIONS = ("add", "subtract", "multiply", "divide", "exp", "greater")
TABLE_OPERATIONS = ("table_max", "table_min", "table_sum", "table_average")
OPERATIONS = ARITHMETIC_OPERATIONS + TABLE_OPERATIONS

_CONSTANTS = ("100", "1000", "2", "3", "1000000", "1", "4", "5", "m1", "6", "7", "8", "9", "10", "100000", "1000000000")
# The constants that occur in FinQA's gold programs; the language itself takes const_ and any number.
CONSTANTS = tuple(f"const_{number}" for number in _CONSTANTS)
MOST_STEPS = 6  # those of the longest gold programs in FinQA's train split; the language takes any number

_TOKEN = re.compile(r"[^()]*\(|\)|[^()]+")


class ProgramError(ValueError):
    """A text that is not a program, or a program without a value; the message says where and why."""


class Step(NamedTuple):
    """One operation on two arguments: Step("divide", ("#0", "5735"))."""

    operation: str
    arguments: tuple[str, str]

    def __str__(self) -> str:
        # A blank argument (the label of the header row) needs its blank to be read back.
        first, second = (argument or " " for argument in self.arguments)
        return f"{self.operation}({first}, {second})"


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in the order of execution, at least one; `parse(str(program)) == program`."""

    steps: tuple[Step, ...]
    cut_off: str = field(default="", compare=False)
    """What was written of a last step that was cut off, such as by a token limit, and left out."""

    def __str__(self) -> str:
        return ", ".join(map(str, self.steps))


def parse(text: str) -> Program:
    """Read a program's text; ProgramError when it does not have the form of one.

    Numbers, row labels and references are resolved when the program is executed.

    >>> parse("subtract(5829, 5735), divide(#0, 5735)").steps[1]
    Step(operation='divide', arguments=('#0', '5735'))
    """
    if not isinstance(text, str):
        raise ProgramError(f"a program is text, not {type(text).__name__}")
    tokens = [token for piece in text.split(", ") for token in _TOKEN.findall(piece)]
    if not tokens:
        raise ProgramError("the program is empty")
    cut_off = _cut_off(tokens)
    whole = tokens[: len(tokens) - len(cut_off)]
    steps = tuple(step_of_tokens(start // 4, whole[start : start + 4]) for start in range(0, len(whole), 4))
    return Program(steps, " ".join(cut_off))


def _cut_off(tokens: list[str]) -> list[str]:
    """The tokens of a last step without an end, behind at least one whole step."""
    last = tokens[len(tokens) - len(tokens) % 4 :]
    known = bool(last) and last[0].strip("(") in OPERATIONS
    return last if known and ")" not in last and len(last) < len(tokens) else []


def parse_or_none(text: str | None) -> Program | None:
    """The program of a text; None for None, and for a text that is not a program."""
    try:
        return None if text is None else parse(text)
    except ProgramError:
        return None


def step_of_tokens(index: int, tokens: list[str]) -> Step:
    """The step at `index` written by four tokens such as ["divide(", "#0", "5735", ")"]."""
    if len(tokens) != 4 or tokens[3] != ")" or tokens[0][-1:] != "(":
        written = " ".join(tokens)
        raise ProgramError(f"step {index}: expected operation(argument, argument), got {quoted(written)}")
    operation, first, second = tokens[0][:-1], tokens[1], tokens[2]
    if operation not in OPERATIONS:
        raise ProgramError(f"step {index}: no operation {quoted(operation)} (known: {', '.join(OPERATIONS)})")
    for argument in (first, second):
        # "|" separates tokens inside the official evaluator, which therefore cannot read it in an argument.
        if argument[-1] in "()" or "|" in argument:
            raise ProgramError(f"step {index}: no argument of {operation}: {quoted(argument)}")
    return Step(operation, (first.strip(), second.strip()))


def quoted(text: str) -> str:
    """A text in a message: in quotes, escaped where it cannot be printed, at most 80 characters."""
    shown = repr(text[:70])
    return shown if len(text) <= 70 and len(shown) <= 80 else shown[:77] + "..."


def is_reference(argument: str) -> bool:
    """True if an arithmetic argument is the result of another step."""
    return "#" in argument


def is_constant(argument: str) -> bool:
    """True if an argument is a named constant such as const_100."""
    return argument.startswith("const_")


def is_operand(argument: str) -> bool:
    """True if an arithmetic argument is a number written out, neither a reference nor a constant."""
    return "#" not in argument and not argument.startswith("const_")


def reference(step: int) -> str:
    """The argument for the result of a step: `reference(0)` is "#0"."""
    return f"#{step}"


def referenced_step(argument: str) -> int:
    """The index of the step that a reference names; ProgramError when it names none."""
    try:
        return int(argument.replace("#", ""))
    except ValueError:
        raise ProgramError(f"no reference to a step: {quoted(argument)}") from None


def operands(program: Program) -> list[str]:
    """The numbers written in a program, in order, repeats included; no constants, references or row labels.

    >>> operands(parse("subtract(5829, 5735), divide(#0, 5735), multiply(#1, const_100)"))
    ['5829', '5735', '5735']
    """
    arithmetic = (arguments for operation, arguments in program.steps if operation in ARITHMETIC_OPERATIONS)
    return [argument for arguments in arithmetic for argument in arguments if is_operand(argument)]


def table_rows(program: Program) -> list[str]:
    """The row labels that a program's table operations read, in order."""
    return [
        step.arguments[0]
        for step in program.steps
        if step.operation in TABLE_OPERATIONS and not is_reference(step.arguments[0])
    ]
