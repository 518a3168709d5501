"""Each edit by its name, and the number of edits of a corrupted program."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finrank.pools.corruption.corrupt import _MOST_USES, EDITS, Corruptor
from finrank.pools.corruption.likeness import Likeness
from finrank.pools.corruption.number_edits import operand
from finrank.programs import Program, operands, parse
from finrank.programs.value import value_of
from tests.helpers.mutations import random_programs
from tests.helpers.questions import CHANGE, PAGE, TABLE, TEXT, corrupted, draft_of, made_by, small_corruptor


@pytest.mark.parametrize(
    ("name", "program", "edited"),
    [
        ("operand", "divide(5829, 5735)", "divide(5100, 5735)"),
        ("operand", "divide(310, 5735)", "divide(5829, 5735)"),
        ("operand", CHANGE, "subtract(5829, 5100), divide(#0, 5100)"),
        ("operand", "divide(40, 290)", "divide(50, 290)"),
        ("row", CHANGE, "subtract(310, 290), divide(#0, 290)"),
        ("row", "divide(31, 29)", "divide(310, 290)"),
        ("row", "table_max(revenue, none)", "table_max(costs, none)"),
        ("column", CHANGE, "subtract(5735, 5100), divide(#0, 5100)"),
        ("sign", "add(-31, 310)", "add(31, 310)"),
        ("sign", "add(31, 310)", "add(-31, 310)"),
        ("operation", "divide(5829, 5735)", "multiply(5829, 5735)"),
        ("operation", "table_sum(costs, none)", "table_average(costs, none)"),
        ("swap", CHANGE, "subtract(5735, 5829), divide(#0, 5829)"),
        ("swap", "greater(310, 290)", "greater(290, 310)"),
        ("denominator", CHANGE, "subtract(5829, 5735), divide(#0, 5829)"),
        ("drop_step", CHANGE, "subtract(5829, 5735)"),
        ("drop_step", CHANGE, "divide(5829, 5735)"),
        ("drop_step", "add(1, 2), add(3, 4), divide(#0, #1)", "add(3, 4)"),
        ("add_step", "subtract(5829, 5735)", CHANGE),
        ("add_step", "divide(5829, 5735)", CHANGE),
        ("add_step", "add(310, 290)", "add(310, 290), divide(#0, const_2)"),
        ("scale", "divide(40, const_100)", "divide(40, const_1000)"),
        ("scale", "divide(5829, 5735)", "divide(5829, 5735), multiply(#0, const_100)"),
    ],
)
def test_an_edit_makes_this(name: str, program: str, edited: str) -> None:
    made = made_by(EDITS[name][0], program)
    assert edited in made
    assert program not in made


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("table_max(revenue, none)", ["operand"]),
        ("add(const_1, const_2)", ["operand"]),
        ("divide(40, 50)", ["row", "column"]),
        ("divide(5829, 5735)", ["sign"]),
        ("add(1, 2)", ["swap", "denominator", "drop_step"]),
        ("greater(310, 290)", ["add_step", "scale"]),
    ],
)
def test_an_edit_that_does_not_apply_makes_nothing(program: str, names: list[str]) -> None:
    assert [made_by(EDITS[name][0], program) for name in names] == [set()] * len(names)


def test_operands_stay_apart_and_of_their_kind() -> None:
    for text in made_by(operand, CHANGE):
        first, second, third = operands(parse(text))
        assert first != second == third
    years = {number for text in made_by(operand, "subtract(2009, 2008)") for number in operands(parse(text))}
    assert years == {"2009", "2008", "2007"}


def test_an_operand_s_place_is_mostly_taken_from_its_own_line() -> None:
    edited = [operand(parse("divide(5829, 5735)"), PAGE, random.Random(seed)) for seed in range(600)]
    taken = Counter(number for program in edited if program is not None for number in operands(program))
    del taken["5829"], taken["5735"]
    assert taken["5100"] > 0.5 * taken.total()


def test_each_edit_has_a_test() -> None:
    marks = [*test_an_edit_makes_this.pytestmark]  # type: ignore[attr-defined]
    assert {case[0] for mark in marks for case in mark.args[1]} == set(EDITS)


@pytest.mark.parametrize(("rate", "mean"), [(0.0, 1.0), (0.5, 2.0), (0.75, 4.0)])
def test_the_number_of_edits_is_geometric(rate: float, mean: float) -> None:
    counts = [len(draft.edits) for draft in corrupted(500, rate)]
    # The standard deviation of the mean is sqrt(rate) / (1 - rate) / sqrt(500), at most 0.16.
    assert sum(counts) / 500 == pytest.approx(mean, abs=0.5)
    if rate == 0.0:
        assert set(counts) == {1}


def test_every_edit_and_refills_are_made() -> None:
    starts = ("add(31, 310), divide(#0, 290)", "add(310, 290), divide(#0, const_2)")
    names = {name for start in starts for draft in corrupted(300, 0.75, start) for name in draft.edits}
    assert names == {*EDITS, "refill"}


def test_the_same_seed_makes_the_same_whatever_was_made_before() -> None:
    used, fresh = small_corruptor(), small_corruptor()
    for seed in range(50):
        used.corrupt(draft_of(used, "add(31, 310), divide(#0, 290)"), random.Random(seed), 0.5)
    first, second = (page.corrupt(draft_of(page, CHANGE), random.Random(7), 0.5) for page in (used, fresh))
    assert first == second


def test_a_page_s_pools_share_a_corruptor_and_those_of_other_pages_and_likenesses_do_not() -> None:
    likeness = Likeness()
    shared = [Corruptor.on([*TABLE], [*TEXT], likeness) for _ in range(_MOST_USES + 1)]
    assert all(corruptor is shared[0] for corruptor in shared[:-1])
    assert shared[-1] is not shared[0]  # its memory would grow with every pool
    for table, text, other in ((TABLE[:2], TEXT, likeness), (TABLE, [], likeness), (TABLE, TEXT, Likeness())):
        before = Corruptor.on(TABLE, TEXT, likeness)
        assert Corruptor.on(table, text, other) is not before


def test_nothing_to_edit_makes_nothing() -> None:
    corruptor = Corruptor([], [], Likeness(shapes={"divide(a, b)": 1.0}))
    assert corruptor.corrupt(corruptor.draft(parse("table_max(a, none)"), None), random.Random(0), 0.5) is None


@given(random_programs, st.integers(0, 1000))
def test_any_program_can_be_corrupted_into_programs_with_a_value(program: Program, seed: int) -> None:
    corruptor = small_corruptor()
    made = corruptor.corrupt(draft_of(corruptor, program), random.Random(seed), 0.5)
    if made is not None:
        assert parse(str(made.program)) == made.program
        assert made.answer is not None
        assert value_of(made.program, TABLE).answer == made.answer
