"""Programs as tokens: every gold program can be written and read back, and the grammar allows each of its tokens."""

from __future__ import annotations

import pytest

from finrank.programs import CONSTANTS, OPERATIONS, TABLE_OPERATIONS, parse
from finrank.proposer.grammar import (
    END,
    MOST_STEPS,
    MOST_TOKENS,
    TOKEN_OF,
    WORDS,
    allowed_next,
    next_role,
    tokens_that_write,
    write_program,
)

FIRST = len(WORDS)
PAGE = ["5829", "5735", "-32", "32", "22%", "revenue", "costs"]  # five numbers, two row labels
N_NUMBERS = 5
WRITABLE = [
    "subtract(5829, 5735)",
    "subtract(5829, 5735), divide(#0, 5735)",
    "table_average(revenue, none), add(#0, const_100)",
    "multiply(-32, const_m1), exp(#0, 22%), greater(#1, 32)",
    ", ".join(["add(5829, 5735)", *(f"add(#{step}, 32)" for step in range(MOST_STEPS - 1))]),
]


@pytest.mark.parametrize("program", WRITABLE)
def test_a_program_is_written_and_read_back(program: str) -> None:
    ways = tokens_that_write(program, PAGE, N_NUMBERS)
    assert ways is not None
    assert ways[-1] == [TOKEN_OF[END]]
    tokens = [options[0] for options in ways]
    assert str(parse(write_program(tokens[:-1], PAGE))) == str(parse(program))
    assert len(tokens) <= MOST_TOKENS
    for position, options in enumerate(ways):
        assert set(options) <= set(allowed_next(tokens[:position], N_NUMBERS, len(PAGE)))


def test_a_number_that_is_on_the_page_twice_has_two_ways() -> None:
    ways = tokens_that_write("add(5829, 32)", ["5829", "5735", "5829", "32"], 4)
    assert ways == [[TOKEN_OF["add"]], [FIRST, FIRST + 2], [FIRST + 3], [TOKEN_OF[END]]]


def test_a_number_is_found_whatever_its_sign_and_percent_mark_but_exactly_first() -> None:
    def second(argument: str) -> list[int]:
        ways = tokens_that_write(f"add(5829, {argument})", PAGE, N_NUMBERS)
        return [] if ways is None else ways[2]

    assert second("-32") == [FIRST + 2]
    assert second("22") == [FIRST + 4]
    assert second("100") == [TOKEN_OF["const_100"]]  # a constant's number that the page does not have
    assert second("77") == []


TOO_LONG = ", ".join(["add(5829, 5735)"] * (MOST_STEPS + 1))


@pytest.mark.parametrize(
    "program", ["add(1", "subtract(5829, 77)", "table_sum(profit, none)", "add(5829, const_77)", TOO_LONG]
)
def test_what_cannot_be_written_is_none(program: str) -> None:
    assert tokens_that_write(program, PAGE, N_NUMBERS) is None


def test_the_grammar_opens_roles_in_turn() -> None:
    subtract, table_sum = TOKEN_OF["subtract"], TOKEN_OF["table_sum"]
    assert next_role([]) == ("operation", 0)
    assert next_role([subtract]) == next_role([subtract, FIRST]) == ("argument", 0)
    assert next_role([table_sum]) == ("row", 0)
    assert next_role([table_sum, FIRST + 5]) == next_role([subtract, FIRST, FIRST]) == ("operation", 1)
    operations = {TOKEN_OF[name] for name in OPERATIONS}
    assert set(allowed_next([], 5, 7)) == operations  # no empty program
    assert set(allowed_next([subtract, FIRST, FIRST], 5, 7)) == operations | {TOKEN_OF[END]}
    numbers, constants = set(range(FIRST, FIRST + 5)), {TOKEN_OF[name] for name in CONSTANTS}
    assert set(allowed_next([subtract], 5, 7)) == numbers | constants
    assert set(allowed_next([subtract, FIRST, FIRST, subtract], 5, 7)) == numbers | constants | {TOKEN_OF["#0"]}
    assert allowed_next([table_sum], 5, 7) == [FIRST + 5, FIRST + 6]


def test_a_program_ends_after_its_most_steps() -> None:
    table_sum = [TOKEN_OF[TABLE_OPERATIONS[0]], FIRST + 5]
    assert allowed_next(table_sum * MOST_STEPS, 5, 7) == [TOKEN_OF[END]]
