"""Edits, each by its name, and how many of them a corrupted program gets."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finrank.candidates.corrupt import EDITS, corrupt
from finrank.candidates.page import Page
from finrank.candidates.shapes import commonness, shape_of
from finrank.programs import Program, Step, operands, parse

PAGE = Page(
    [
        ["", "2009", "2008", "2007"],
        ["revenue", "$ 5829", "$ 5735", "$ 5100"],
        ["costs", "310", "290", "270"],
        ["tax", "-31 ( 31 )", "-29 ( 29 )", "-20 ( 20 )"],
    ],
    ["we paid $ 40 to 50 people ."],
)


def _all(name: str, text: str) -> set[str]:
    """Everything that an edit makes of a program."""
    edited = (EDITS[name][0](parse(text), PAGE, random.Random(seed)) for seed in range(300))
    return {str(program) for program in edited if program is not None}


@pytest.mark.parametrize(
    ("name", "program", "some"),
    [
        ("operand", "divide(5829, 5735)", "divide(5100, 5735)"),
        ("operand", "subtract(5829, 5735), divide(#0, 5735)", "subtract(5829, 5100), divide(#0, 5100)"),
        ("operand", "divide(40, 290)", "divide(50, 290)"),
        ("row", "subtract(5829, 5735), divide(#0, 5735)", "subtract(310, 290), divide(#0, 290)"),
        ("row", "divide(31, 29)", "divide(310, 290)"),
        ("row", "table_max(revenue, none)", "table_max(costs, none)"),
        ("column", "subtract(5829, 5735), divide(#0, 5735)", "subtract(5735, 5100), divide(#0, 5100)"),
        ("sign", "add(-31, 310)", "add(31, 310)"),
        ("sign", "add(31, 310)", "add(-31, 310)"),
        ("operation", "divide(5829, 5735)", "multiply(5829, 5735)"),
        ("operation", "table_sum(costs, none)", "table_average(costs, none)"),
        ("swap", "subtract(5829, 5735), divide(#0, 5735)", "subtract(5735, 5829), divide(#0, 5829)"),
        ("swap", "greater(310, 290)", "greater(290, 310)"),
        ("denominator", "subtract(5829, 5735), divide(#0, 5735)", "subtract(5829, 5735), divide(#0, 5829)"),
        ("drop_step", "subtract(5829, 5735), divide(#0, 5735)", "subtract(5829, 5735)"),
        ("drop_step", "subtract(5829, 5735), divide(#0, 5735)", "divide(5829, 5735)"),
        ("drop_step", "add(1, 2), add(3, 4), divide(#0, #1)", "add(3, 4)"),
        ("add_step", "subtract(5829, 5735)", "subtract(5829, 5735), divide(#0, 5735)"),
        ("add_step", "divide(5829, 5735)", "subtract(5829, 5735), divide(#0, 5735)"),
        ("add_step", "add(310, 290)", "add(310, 290), divide(#0, const_2)"),
        ("scale", "divide(40, const_100)", "divide(40, const_1000)"),
        ("scale", "divide(5829, 5735)", "divide(5829, 5735), multiply(#0, const_100)"),
    ],
)
def test_an_edit_makes_this(name: str, program: str, some: str) -> None:
    made = _all(name, program)
    assert some in made
    assert program not in made


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("operand", "table_max(revenue, none)"),
        ("operand", "add(const_1, const_2)"),
        ("row", "divide(40, 50)"),
        ("column", "divide(40, 50)"),
        ("sign", "divide(5829, 5735)"),
        ("swap", "add(1, 2)"),
        ("denominator", "add(1, 2)"),
        ("drop_step", "add(1, 2)"),
        ("add_step", "greater(310, 290)"),
        ("scale", "greater(310, 290)"),
    ],
)
def test_an_edit_that_does_not_apply_makes_nothing(name: str, program: str) -> None:
    assert _all(name, program) == set()


def test_operands_stay_apart_and_of_their_kind() -> None:
    for text in _all("operand", "subtract(5829, 5735), divide(#0, 5735)"):
        first, second, third = operands(parse(text))
        assert first != second == third
    years = {operand for text in _all("operand", "subtract(2009, 2008)") for operand in operands(parse(text))}
    assert years == {"2009", "2008", "2007"}


def test_each_edit_has_a_test() -> None:
    marks = [*test_an_edit_makes_this.pytestmark]  # type: ignore[attr-defined]
    assert {case[0] for mark in marks for case in mark.args[1]} == set(EDITS)


@pytest.mark.parametrize(("rate", "mean"), [(0.0, 1.0), (0.5, 2.0), (0.75, 4.0)])
def test_the_number_of_edits_is_geometric(rate: float, mean: float) -> None:
    gold = parse("subtract(5829, 5735), divide(#0, 5735)")
    made = [corrupt(gold, PAGE, random.Random(seed), rate) for seed in range(1000)]
    counts = [len(edits) for _, edits in filter(None, made)]
    assert len(counts) == 1000
    # The standard deviation of the mean is sqrt(rate) / (1 - rate) / sqrt(1000), at most 0.11.
    assert sum(counts) / 1000 == pytest.approx(mean, abs=0.35)
    if rate == 0.0:
        assert set(counts) == {1}


def test_no_edit_is_possible() -> None:
    assert corrupt(Program((Step("greater", ("#0", "#0")),)), Page([], []), random.Random(0), 0.0) is not None
    assert corrupt(parse("table_max(a, none)"), Page([], []), random.Random(0), 0.0) is not None


def test_shapes() -> None:
    assert shape_of(parse("subtract(5829, 5735), divide(#0, 5735)")) == "subtract(a, b), divide(#0, b)"
    assert shape_of(parse("table_max(net sales, none), divide(#0, const_2)")) == "table_max(row), divide(#0, const_2)"
    assert commonness(parse("divide(1, 2)")) > commonness(parse("subtract(1, 2), divide(#0, 1)")) > 1.0
    assert commonness(parse("exp(1, 2)")) == 1.0


ARGUMENT = st.sampled_from(["5829", "-31", "12%", "0", "nan", "inf", "x", "const_100", "const_7", "#0", "2009"])
PROGRAMS = st.lists(
    st.builds(Step, st.sampled_from(["add", "divide", "greater", "exp", "table_max"]), st.tuples(ARGUMENT, ARGUMENT)),
    min_size=1,
    max_size=4,
).map(lambda steps: Program(tuple(steps)))


@given(PROGRAMS, st.integers(0, 1000))
def test_any_program_can_be_corrupted_without_an_exception(program: Program, seed: int) -> None:
    made = corrupt(program, PAGE, random.Random(seed), 0.5)
    if made is not None:
        assert parse(str(made[0])) == made[0]


def test_shapes_and_years_of_negatives_are_those_of_gold(finqa_dir: Path) -> None:
    examples = json.loads((finqa_dir / "dev.json").read_text())
    gold: Counter[str] = Counter()
    made: Counter[str] = Counter()
    rng = random.Random(0)
    for example in examples:
        program = parse(example["qa"]["program"])
        page = Page(example["table"], example["pre_text"] + example["post_text"])
        edited = corrupt(program, page, rng, 0.5)
        assert edited is not None
        for counts, one in ((gold, program), (made, edited[0])):
            counts[shape_of(one)] += 1
            counts["years"] += any(text.isdecimal() and 1900 <= int(text) <= 2100 for text in operands(one))
    for shape, count in gold.most_common(4):
        assert 0.5 < made[shape] / count < 2.0, shape
    assert made["years"] <= 1.3 * gold["years"] + 5
