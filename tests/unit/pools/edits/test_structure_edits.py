"""Programs broken on purpose; test_corrupt tests the other edits by name."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from finrank.page.page import Page
from finrank.pools.edits.structure_edits import break_program
from finrank.pools.pool import PoolSettings, build_pool
from finrank.programs import Program
from finrank.programs.value import value_of
from tests.helpers.mutations import random_programs
from tests.helpers.questions import CHANGE, PAGE, TABLE, made_by, make_question


@given(random_programs, st.integers(0, 2**32))
def test_a_broken_program_has_no_value(program: Program, seed: int) -> None:
    broken = break_program(program, PAGE, random.Random(seed))
    assert value_of(broken, TABLE).error is not None
    assert value_of(str(broken), TABLE).error is not None  # as the reward stage reads it


def test_every_kind_of_fault_is_made_in_every_step() -> None:
    label = PAGE.numeric_rows[0]
    assert made_by(break_program, CHANGE) == {
        "subtract(#2, 5735), divide(#0, 5735)",
        "divide(5829, 0), divide(#0, 5735)",
        f"subtract({label}, 5735), divide(#0, 5735)",
        "subtract(5829, 5735), divide(#2, 5735)",
        "subtract(5829, 5735), divide(#0, 0)",
        f"subtract(5829, 5735), divide({label}, 5735)",
    }


def test_a_fault_that_does_no_harm_leaves_the_candidate_as_it_was() -> None:
    """A row labelled 2008 can be read as a number, so that a fault may leave a value."""
    table = [["", "a", "b"], ["2008", "5829", "5735"]]
    faulty = made_by(break_program, "divide(5829, 5735)", Page(table, []))
    assert any(value_of(program, table).answer is not None for program in faulty)
    counts = Counter[bool]()
    for number in range(40):
        question = make_question(f"q {number}", "divide(5829, 5735)", answer=1.01639, table=table, text=[])
        pool = build_pool(question, PoolSettings(3, corruption_rate=0.0, failing_share=0.99))
        for candidate in pool.candidates:
            fails = candidate.answer is None
            assert fails == (candidate.edits[-1:] == ["break"])
            assert value_of(candidate.program or "", table).answer == candidate.answer
            counts[fails] += candidate.origin == "corrupted"
    assert min(counts[True], counts[False]) > 0
