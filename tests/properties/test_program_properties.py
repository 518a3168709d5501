"""Properties of every program: laws of equality, and a value or a ProgramError whatever the damage."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from finrank.programs import ARITHMETIC_OPERATIONS, OPERATIONS, Program, ProgramError, Step, equal, execute, parse
from finrank.sources import made_up as sample
from tests.helpers.mutations import ODD_TABLES, mutated

NUMBERS = ["1", "2", "3.5", "-4", "12%", "1,234", "const_100", "const_m1", "0", "1e308"]
LABELS = ["net sales", "gaps", "profit"]
reproducible = settings(derandomize=True, deadline=None)


@st.composite
def programs(draw: st.DrawFn, operations: tuple[str, ...] = OPERATIONS) -> Program:
    """Programs of one to six steps, whose references all name earlier steps."""
    steps: list[Step] = []
    for index in range(draw(st.integers(1, 6))):
        operation = draw(st.sampled_from(operations))
        if operation in ARITHMETIC_OPERATIONS:
            argument = st.sampled_from(NUMBERS + [f"#{earlier}" for earlier in range(index)])
            steps.append(Step(operation, (draw(argument), draw(argument))))
        else:
            steps.append(Step(operation, (draw(st.sampled_from(LABELS)), "none")))
    return Program(tuple(steps))


@reproducible
@given(programs())
def test_a_printed_program_is_read_back_and_equals_itself(program: Program) -> None:
    assert parse(str(program)) == program
    assert equal(program, program)
    assert equal(program, str(program))


@reproducible
@given(programs(), st.sets(st.integers(0, 5)))
def test_sums_and_products_commute(program: Program, exchanged: set[int]) -> None:
    steps = list(program.steps)
    for index in exchanged & set(range(len(steps))):
        if steps[index].operation in ("add", "multiply"):
            steps[index] = Step(steps[index].operation, steps[index].arguments[::-1])
    assert equal(program, Program(tuple(steps)))
    assert equal(Program(tuple(steps)), program)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.sampled_from(["subtract", "divide", "exp", "greater"]), st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))
def test_other_operations_do_not_commute(operation: str, first: str, second: str) -> None:
    assume(first != second)
    assert not equal(f"{operation}({first}, {second})", f"{operation}({second}, {first})")


@reproducible
@given(programs(("add", "subtract", "multiply")), st.sampled_from(NUMBERS))
def test_equal_programs_of_the_same_numbers_are_equal_both_ways(program: Program, number: str) -> None:
    last = len(program.steps) - 1
    there_and_back = f"{program}, add(#{last}, {number}), subtract(#{last + 1}, {number})"
    later = re.sub(r"#(\d)", lambda match: f"#{int(match[1]) + 1}", str(program))
    same_numbers = f"add({number}, {number}), {later}"
    assert equal(there_and_back, same_numbers)
    assert equal(same_numbers, there_and_back)


ROUNDS = 100_000
LONGEST_MESSAGE = 400

Case = tuple[str, Any]


@pytest.fixture(scope="module", params=["embedded data", "official cases"])
def cases(request: pytest.FixtureRequest) -> list[Case]:
    """Programs with their tables."""
    if request.param == "embedded data":
        examples = sample.generate(train=150, dev=0, test=0)["train"]
        return [(example["qa"]["program"], example["table"]) for example in examples]
    folder = request.getfixturevalue("finqa_dir")
    tables = {example["id"]: example["table"] for example in json.loads((folder / "dev.json").read_text())}
    official = json.loads((folder / "evaluator_cases.json").read_text())
    return [(case["program"], tables[case["id"]]) for case in official]


def reason(error: ProgramError) -> str:
    """The error's message, which must be one short line that any file and terminal can hold."""
    message = str(error)
    assert 0 < len(message) <= LONGEST_MESSAGE
    assert message.isprintable()
    return message


def outcome(text: str, table: Any) -> tuple[str, str]:
    """The kind of outcome, with the value or the reason; anything but a ProgramError fails the test."""
    try:
        program = parse(text)
    except ProgramError as error:
        return "no program", reason(error)
    assert parse(str(program)) == program
    try:
        value = execute(program, table)
    except ProgramError as error:
        return "no value", reason(error)
    assert type(value) is float or value in ("yes", "no")
    return "value", str(value)


def damaged(cases: Sequence[Case], rounds: int) -> list[Case]:
    """Programs with small changes, some of them on a malformed table."""
    rng = random.Random(0)
    pairs = []
    for _ in range(rounds):
        text, table = rng.choice(cases)
        pairs.append((mutated(text, rng), rng.choice(ODD_TABLES) if rng.random() < 0.2 else table))
    return pairs


def test_damaged_programs_have_a_value_or_a_program_error(cases: list[Case]) -> None:
    tables = repr([ODD_TABLES, *(table for _, table in cases)])
    outcomes = Counter(outcome(text, table)[0] for text, table in damaged(cases, ROUNDS))
    assert outcomes.total() == ROUNDS
    assert min(outcomes[kind] for kind in ("no program", "no value", "value")) > ROUNDS // 50
    assert repr([ODD_TABLES, *(table for _, table in cases)]) == tables


def test_outcomes_and_messages_are_the_same_each_time(cases: list[Case]) -> None:
    pairs = damaged(cases, 3000)
    first = [outcome(text, table) for text, table in pairs]
    random.Random(1).shuffle(pairs)  # nothing remembered from one program shows in the next
    again = {(text, id(table)): outcome(text, table) for text, table in pairs}
    assert first == [again[text, id(table)] for text, table in damaged(cases, 3000)]


def test_equality_of_damaged_programs_is_a_plain_yes_or_no(cases: list[Case]) -> None:
    rng = random.Random(2)
    for _ in range(300):
        gold = rng.choice(cases)[0]
        other = mutated(gold, rng)
        assert {type(equal(gold, other)), type(equal(other, gold))} == {bool}


PLACES = ["{}", "add({}, 1)", "add(1, #{})", "{}(1, 2)", "add(1, 2), {}", "add(1, {}%)", "table_max({}, none)"]


@pytest.mark.parametrize("character", "9a()#|$ ,\0\n\ud800\U0001f600\u0661", ids=ascii)
def test_long_texts_cells_and_labels_have_short_messages(character: str) -> None:
    for text in (*PLACES, "add(1, const_{})"):
        outcome(text.format(character * 1_000), [["", "1"]])
        outcome(text.format(character * 200_000), [["", "1"]])
    outcome("table_max(a, none)", [["a", character * 1_000_000]])
    outcome("table_max(b, none)", [[character * 1_000_000, "1"], ["b", "x"]])
