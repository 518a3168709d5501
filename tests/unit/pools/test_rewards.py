"""Rewards, compared with values worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from finrank.pools.rewards import RewardWeights, Unrewardable, closeness, reward_pool
from finrank.records import Answer, Candidate, Pool, Question
from tests.helpers.questions import make_question

TABLE = [["", "2008"], ["revenue", "$ 637"]]
finite = st.floats(allow_nan=False, allow_infinity=False)


def candidate(program: str | None, answer: Answer | None, error: str | None = None) -> Candidate:
    return Candidate(program=program, answer=answer, error=error, origin="corrupted")


def pool(*candidates: Candidate, answer: Answer | None = 127.4, program: str | None = "divide(637, const_5)") -> Pool:
    question = make_question(program=program, answer=answer, table=TABLE)
    return Pool.of(question, candidates=list(candidates))


GOLD = candidate("divide(637, const_5)", 127.4)
FAILED = candidate("divide(637, 0)", None, "division by zero")


def parts(execution: float, closeness: float, operations: float) -> dict[str, float]:
    return {"execution": execution, "closeness": closeness, "operations": operations}


def test_the_documented_example() -> None:
    wrong, other = candidate("divide(637, const_10)", 63.7), candidate("multiply(637, 0.2)", 127.4)
    rewarded = reward_pool(pool(wrong, GOLD, FAILED, other))
    assert rewarded.rewards == [0.416667, 1.0, 0.0, 1.0]
    assert rewarded.components == [parts(1, 0.666667, 1), parts(1, 1, 1), parts(0, 0, 1), parts(1, 1, 0)]
    assert rewarded.correct == [1, 3]  # another program with the gold value is correct too


def test_stated_answers_are_right_as_rounded_and_programs_exactly() -> None:
    stated = Candidate(answer=127.0, stated="about 127", origin="imported")
    beside = Candidate(
        program="divide(637, 0)", answer=127.0, stated="127", error="division by zero", origin="imported"
    )
    unread = Candidate(program="so it is unclear", answer=127.4, stated="127.4", error="no program", origin="imported")
    off = Candidate(answer=127.3, stated="127.3", origin="imported")
    near = candidate("add(637, -510)", 127.0)
    rewarded = reward_pool(pool(stated, beside, unread, off, near, FAILED))
    assert rewarded.correct == [0, 1, 2]
    assert rewarded.rewards[:3] == [1.0, 1.0, 1.0]
    assert 0.0 < rewarded.rewards[3] <= 0.5
    assert 0.0 < rewarded.rewards[4] <= 0.5
    assert rewarded.rewards[5] == 0.0
    assert rewarded.components[0] == parts(1, 1, 0)


def test_weights_count_by_proportion_and_can_switch_a_component_off() -> None:
    wrong = pool(candidate("add(637, const_10)", 647.0))  # shares no operation with gold
    assert reward_pool(wrong, RewardWeights(closeness=0, operations=3, execution=0)).rewards == [0.0]
    assert reward_pool(wrong, RewardWeights(closeness=0, operations=3, execution=1)).rewards == [0.125]
    assert reward_pool(wrong, RewardWeights(closeness=0, operations=6, execution=2)).rewards == [0.125]


@pytest.mark.parametrize("weights", [(-0.1, 0.3, 0.2), (0.5, 0.3, math.nan), (0.5, math.inf, 0.2), (0, 0, 0)])
def test_impossible_weights_are_refused(weights: tuple[float, float, float]) -> None:
    with pytest.raises(ValidationError, match="positive" if weights == (0, 0, 0) else "closeness|operations|execution"):
        RewardWeights(closeness=weights[0], operations=weights[1], execution=weights[2])


def test_gold_answers_are_compared_at_five_decimals() -> None:
    values = [candidate(None, value) for value in (0.123456, 0.12344)]
    assert reward_pool(pool(*values, answer=0.123459, program=None)).correct == [0]


def test_yes_and_no() -> None:
    yes, no = candidate("greater(637, const_5)", "yes"), candidate("greater(const_5, 637)", "no")
    rewarded = reward_pool(pool(no, yes, GOLD, answer="yes", program="greater(637, const_5)"))
    assert rewarded.correct == [1]
    assert rewarded.components == [parts(1, 0, 1), parts(1, 1, 1), parts(1, 0, 0)]
    assert rewarded.rewards == [0.25, 1.0, 0.1]


def test_a_candidate_without_program_is_judged_by_its_answer() -> None:
    rewarded = reward_pool(pool(candidate(None, 63.7), candidate(None, 127.4), candidate(None, None)))
    assert rewarded.rewards == [0.266667, 1.0, 0.0]
    assert rewarded.components == [parts(1, 0.666667, 0), parts(1, 1, 0), parts(0, 0, 0)]


def test_without_gold_answer_there_are_no_rewards() -> None:
    with pytest.raises(Unrewardable, match="gold answer unknown"):
        reward_pool(pool(GOLD, answer=None))


@pytest.mark.parametrize(
    ("wrongly_stored", "executed"),
    [
        (candidate("divide(637, const_10)", 127.4), "63.7"),
        (candidate("divide(637, 0)", 127.4), "None"),
        (candidate("divide(637, const_10)", None, "an error that is not there"), "63.7"),
        (candidate("not a program", 127.4), "None"),
        (candidate("greater(637, const_5)", "no"), "yes"),
    ],
)
def test_a_stored_answer_is_not_taken_on_trust(wrongly_stored: Candidate, executed: str) -> None:
    with pytest.raises(Unrewardable, match=rf"candidate 1: stored answer .* executes to '?{executed}'?$"):
        reward_pool(pool(GOLD, wrongly_stored))


def test_operations_are_compared_as_multisets() -> None:
    gold = "subtract(637, 5), divide(#0, 5)"
    both = candidate("divide(637, 5), subtract(#0, 5)", 122.4)
    twice = candidate("divide(637, 5), divide(#0, 5)", 25.48)
    rewarded = reward_pool(pool(both, twice, answer=126.4, program=gold))
    assert [part["operations"] for part in rewarded.components] == [1.0, 0.5]
    for program in (None, "not a program"):
        assert reward_pool(pool(GOLD, program=program)).components[0]["operations"] == 0.0


@pytest.mark.parametrize("gold", [0.0, 0.05, -3.0, 1e9])
def test_closeness_falls_with_the_distance(gold: float) -> None:
    steps = [closeness(gold + max(abs(gold), 1e-3) * step, gold) for step in (0.0, 0.1, 0.5, 2.0, 100.0)]
    assert steps[0] == 1.0
    assert steps == sorted(steps, reverse=True)
    assert len(set(steps)) == len(steps)


@given(values=st.lists(finite, min_size=1, max_size=6), gold=finite)
def test_a_wrong_answer_never_earns_more_than_half(values: list[float], gold: float) -> None:
    rewarded = reward_pool(pool(*[candidate(None, value) for value in values], answer=gold, program=None))
    for index, (reward, components) in enumerate(zip(rewarded.rewards, rewarded.components, strict=True)):
        assert reward == 1.0 if index in rewarded.correct else 0.0 < reward <= 0.5
        assert 0.0 <= components["closeness"] <= 1.0


def test_gold_of_the_real_data_has_reward_one(finqa_dev: list[Question]) -> None:
    for question in finqa_dev[:200]:
        record = Pool.of(question, candidates=[candidate(question.program, question.answer)])
        assert reward_pool(record).rewards == [1.0], question.id
