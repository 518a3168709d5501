"""Programs broken on purpose; the other edits are tested by name in test_corrupt."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from finrank.page.page import Page
from finrank.pools.pool import PoolSettings, build_pool
from finrank.pools.structure_edits import break_program
from finrank.programs import ARITHMETIC_OPERATIONS, Program, Step, parse
from finrank.programs.value import value_of
from tests.helpers.questions import CHANGE, PAGE, TABLE, make_question

NUMBERS = st.sampled_from(["5829", "310", "-31", "12%", "0", "const_2", "const_100", "#0", "#1"])
STEPS = st.one_of(
    st.builds(Step, st.sampled_from(ARITHMETIC_OPERATIONS), st.tuples(NUMBERS, NUMBERS)),
    st.builds(Step, st.sampled_from(["table_max", "table_sum"]), st.just(("costs", "none"))),
)
PROGRAMS = st.lists(STEPS, min_size=1, max_size=5).map(lambda steps: Program(tuple(steps)))


@given(PROGRAMS, st.integers(0, 2**32))
def test_a_broken_program_has_no_value(program: Program, seed: int) -> None:
    broken = break_program(program, PAGE, random.Random(seed))
    assert value_of(broken, TABLE).error is not None
    assert value_of(str(broken), TABLE).error is not None  # as the reward stage reads it


def test_every_kind_of_fault_is_made_in_every_step() -> None:
    program = parse(CHANGE)
    made = {str(break_program(program, PAGE, random.Random(seed))) for seed in range(100)}
    label = PAGE.numeric_rows[0]
    assert made == {
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
    program = parse("divide(5829, 5735)")
    faulty = [break_program(program, Page(table, []), random.Random(seed)) for seed in range(60)]
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
