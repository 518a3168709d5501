"""The shape of a program and its numbers.

The shape is the program with its numbers replaced by letters: subtract(5829, 5735), divide(#0, 5735) has the shape
"subtract(a, b), divide(#0, b)".
"""

from __future__ import annotations

from functools import lru_cache

from finrank.programs.language import TABLE_OPERATIONS, Program, Step, is_operand

_FIRST_LETTER = ord("a")


def shape_of(program: Program) -> str:
    """The program's text with its numbers as letters in order of appearance, and its row labels as `row`."""
    return _read(program.steps)[0]


def numbers_of(program: Program) -> tuple[str, ...]:
    """The numbers written in a program, in order of appearance, each once."""
    return _read(program.steps)[1]


# Kept by steps: they are hashed twice as fast as a Program. Few: a large cache is slow to search in memory.
@lru_cache(maxsize=128)
def _read(steps: tuple[Step, ...]) -> tuple[str, tuple[str, ...]]:
    """The shape and the numbers of a program."""
    numbers: list[str] = []
    names: dict[str, str] = {}
    written = []
    for operation, arguments in steps:
        if operation in TABLE_OPERATIONS:
            written.append(f"{operation}(row)")
            continue
        for argument in arguments:
            if argument in names:
                continue
            if is_operand(argument):
                names[argument] = chr(_FIRST_LETTER + len(numbers))
                numbers.append(argument)
            else:
                names[argument] = argument
        first, second = arguments
        written.append(f"{operation}({names[first]}, {names[second]})")
    return ", ".join(written), tuple(numbers)
