"""Programs as tokens: words of the language and pointers into the page, and which of them may come next.

`subtract(5829, 5735), divide(#0, 5735)` is written as eight tokens: subtract, a pointer to 5829, one to 5735, divide,
#0, a pointer to 5735, and END. A table operation has a row label in place of its two arguments. Tokens below
`len(WORDS)` are words; those from there on point at the numbers of the text that was read, then at its row labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from finrank.page.page import size_of
from finrank.programs import CONSTANTS, MOST_STEPS, OPERATIONS, TABLE_OPERATIONS, ProgramError, parse

MOST_TOKENS = 3 * MOST_STEPS + 1
END = "END"
WORDS = (END, *OPERATIONS, *CONSTANTS, *(f"#{step}" for step in range(MOST_STEPS)))
TOKEN_OF = {word: token for token, word in enumerate(WORDS)}
_TABLE_TOKENS = {TOKEN_OF[name] for name in TABLE_OPERATIONS}
_OPERATION_TOKENS = [TOKEN_OF[name] for name in OPERATIONS]
_CONSTANT_TOKENS = [TOKEN_OF[name] for name in CONSTANTS]
Role = Literal["operation", "row", "argument"]


def next_role(written: Sequence[int]) -> tuple[Role, int]:
    """The role of the token after those written, and the number of complete steps."""
    position = steps = 0
    while position < len(written):
        size = 2 if written[position] in _TABLE_TOKENS else 3
        if position + size > len(written):
            return ("row" if size == 2 else "argument"), steps
        position, steps = position + size, steps + 1
    return "operation", steps


def allowed_next(written: Sequence[int], n_numbers: int, n_pointers: int) -> list[int]:
    """The tokens that the grammar allows after those written; of the pointers the first `n_numbers` are numbers."""
    role, steps = next_role(written)
    if role == "operation":
        return [*(_OPERATION_TOKENS if steps < MOST_STEPS else []), *([TOKEN_OF[END]] if steps else [])]
    first = len(WORDS)
    if role == "row":
        return list(range(first + n_numbers, first + n_pointers))
    results = [TOKEN_OF[f"#{step}"] for step in range(steps)]
    return [*range(first, first + n_numbers), *_CONSTANT_TOKENS, *results]


def write_program(tokens: Sequence[int], pointed_at: Sequence[str]) -> str:
    """The program that the tokens write, without END; `pointed_at` are the texts of the pointers.

    >>> write_program([TOKEN_OF["subtract"], len(WORDS) + 1, len(WORDS)], ["5735", "5829"])
    'subtract(5829, 5735)'
    """
    names = [WORDS[token] if token < len(WORDS) else pointed_at[token - len(WORDS)] for token in tokens]
    steps, position = [], 0
    while position < len(tokens):
        is_table = tokens[position] in _TABLE_TOKENS
        second = "none" if is_table else names[position + 2]
        steps.append(f"{names[position]}({names[position + 1]}, {second})")
        position += 2 if is_table else 3
    return ", ".join(steps)


def tokens_that_write(program: str, pointed_at: Sequence[str], n_numbers: int) -> list[list[int]] | None:
    """For each token of a program all that write it, END included: a number may be on the page several times.

    None where the program cannot be written: it does not parse, is too long, or takes a number that is not there.
    """
    try:
        steps = parse(program).steps
    except ProgramError:
        return None
    if len(steps) > MOST_STEPS:
        return None
    ways: list[list[int]] = []
    for operation, arguments in steps:
        is_table = operation in TABLE_OPERATIONS
        ways.append([TOKEN_OF[operation]])
        for argument in arguments[:1] if is_table else arguments:
            if is_table:
                ways.append(_row_tokens(argument, pointed_at, n_numbers))
            else:
                ways.append(_argument_tokens(argument, pointed_at[:n_numbers]))
    return [*ways, [TOKEN_OF[END]]] if all(ways) else None


def _row_tokens(label: str, pointed_at: Sequence[str], n_numbers: int) -> list[int]:
    rows = range(n_numbers, len(pointed_at))
    return [len(WORDS) + index for index in rows if pointed_at[index].strip() == label.strip()]


def _argument_tokens(argument: str, numbers: Sequence[str]) -> list[int]:
    if argument in TOKEN_OF:
        return [TOKEN_OF[argument]]
    exact = [len(WORDS) + index for index, text in enumerate(numbers) if text == argument]
    # Annotators drop signs and percent marks.
    alike = [len(WORDS) + index for index, text in enumerate(numbers) if size_of(text) == size_of(argument)]
    constant = [TOKEN_OF[f"const_{argument}"]] if f"const_{argument}" in TOKEN_OF else []
    return exact or alike or constant
