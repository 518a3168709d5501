"""Damaged programs and tables: every input has a value or a ProgramError."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from finrank.programs import ProgramError, equal, execute, parse
from finrank.sources import made_up as sample
from tests.helpers.mutations import ODD_TABLES, mutated, reordered

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
    answers: Counter[bool] = Counter()
    for _ in range(300):
        gold, _ = rng.choice(cases)
        other = mutated(gold, rng) if rng.random() < 0.5 else reordered(gold, rng)
        assert type(equal(other, gold)) is bool
        answers[equal(gold, other)] += 1
    assert set(answers) == {True, False}
    assert min(answers.values()) > 20


PLACES = ["{}", "add({}, 1)", "add(1, #{})", "{}(1, 2)", "add(1, 2), {}", "add(1, {}%)", "table_max({}, none)"]


@pytest.mark.parametrize("character", "9a()#|$ ,\0\n\ud800\U0001f600\u0661", ids=ascii)
def test_long_texts_cells_and_labels_have_short_messages(character: str) -> None:
    for text in (*PLACES, "add(1, const_{})"):
        outcome(text.format(character * 1_000), [["", "1"]])
        outcome(text.format(character * 200_000), [["", "1"]])
    outcome("table_max(a, none)", [["a", character * 1_000_000]])
    outcome("table_max(b, none)", [[character * 1_000_000, "1"], ["b", "x"]])
