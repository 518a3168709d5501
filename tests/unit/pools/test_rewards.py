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


def test_the_documented_example() -> None:
    rewarded = reward_pool(pool(GOLD, FAILED))
    assert rewarded.rewards == [1.0, 0.0]
    assert rewarded.components == [
        {"execution": 1.0, "closeness": 1.0, "operations": 1.0},
        {"execution": 0.0, "closeness": 0.0, "operations": 1.0},
    ]
    assert rewarded.correct == [0]


def test_a_wrong_candidate_by_hand() -> None:
    rewarded = reward_pool(pool(candidate("divide(637, const_10)", 63.7), GOLD))
    assert rewarded.components[0] == {"execution": 1.0, "closeness": 0.666667, "operations": 1.0}
    assert rewarded.rewards == [pytest.approx(0.5 * (0.5 * 2 / 3 + 0.3 + 0.2), abs=1e-6), 1.0]
    assert rewarded.correct == [1]


def test_weights_count_by_proportion_and_can_switch_a_component_off() -> None:
    wrong = pool(candidate("add(637, const_10)", 647.0))  # shares no operation with gold
    assert reward_pool(wrong, RewardWeights(closeness=0, operations=3, execution=0)).rewards == [0.0]
    assert reward_pool(wrong, RewardWeights(closeness=0, operations=3, execution=1)).rewards == [0.125]
    assert reward_pool(wrong, RewardWeights(closeness=0, operations=6, execution=2)).rewards == [0.125]


@pytest.mark.parametrize("weights", [{"closeness": -0.1}, {"execution": math.nan}, {"operations": math.inf}])
def test_impossible_weights_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        RewardWeights(**weights)


def test_weights_that_sum_to_zero_are_refused() -> None:
    with pytest.raises(ValidationError, match="positive"):
        RewardWeights(closeness=0, operations=0, execution=0)


def test_another_program_with_the_gold_value_is_correct_too() -> None:
    other = candidate("multiply(637, 0.2)", 127.4)
    rewarded = reward_pool(pool(other, FAILED, GOLD))
    assert rewarded.correct == [0, 2]
    assert rewarded.rewards == [1.0, 0.0, 1.0]
    assert rewarded.components[0] == {"execution": 1.0, "closeness": 1.0, "operations": 0.0}


def test_gold_answers_are_compared_at_five_decimals() -> None:
    close = pool(candidate(None, 0.123456), answer=0.123459, program=None)
    assert reward_pool(close).correct == [0]
    apart = pool(candidate(None, 0.12344), answer=0.12346, program=None)
    assert reward_pool(apart).correct == []


def test_yes_and_no() -> None:
    yes, no = candidate("greater(637, const_5)", "yes"), candidate("greater(const_5, 637)", "no")
    number = candidate("divide(637, const_5)", 127.4)
    rewarded = reward_pool(pool(no, yes, number, answer="yes", program="greater(637, const_5)"))
    assert rewarded.correct == [1]
    assert [parts["closeness"] for parts in rewarded.components] == [0.0, 1.0, 0.0]
    assert rewarded.rewards == [0.25, 1.0, 0.1]


def test_a_candidate_without_program_is_judged_by_its_answer() -> None:
    rewarded = reward_pool(pool(candidate(None, 63.7), candidate(None, 127.4), candidate(None, None)))
    assert rewarded.rewards == [pytest.approx(0.5 * (0.5 * 2 / 3 + 0.2), abs=1e-6), 1.0, 0.0]
    assert [parts["operations"] for parts in rewarded.components] == [0.0, 0.0, 0.0]


def test_without_gold_answer_there_are_no_rewards() -> None:
    with pytest.raises(Unrewardable, match="gold answer unknown"):
        reward_pool(pool(GOLD, answer=None))


@pytest.mark.parametrize(
    ("wrongly_stored", "executed"),
    [
        (candidate("divide(637, const_10)", 127.4), "63.7"),
        (candidate("divide(637, 0)", 127.4), "None"),
        (candidate("divide(637, const_10)", None, "an error that is not there"), "63.7"),
        (candidate("no program at all", 127.4), "None"),
        (candidate("greater(637, const_5)", "no"), "yes"),
    ],
)
def test_a_stored_answer_is_not_taken_on_trust(wrongly_stored: Candidate, executed: str) -> None:
    with pytest.raises(Unrewardable, match=rf"candidate 1: stored answer .* executes to '?{executed}'?$"):
        reward_pool(pool(GOLD, wrongly_stored))


def test_operations_are_compared_as_multisets() -> None:
    gold = "subtract(637, 5), divide(#0, 5)"
    both = candidate("divide(637, 5), subtract(#0, 5)", 122.4)
    one = candidate("divide(637, 5), divide(#0, 5)", 25.48)
    rewarded = reward_pool(pool(both, one, answer=126.4, program=gold))
    assert [parts["operations"] for parts in rewarded.components] == [1.0, 0.5]


def test_a_gold_program_that_cannot_be_read_has_no_operations() -> None:
    for program in (None, "hello"):
        assert reward_pool(pool(GOLD, program=program)).components[0]["operations"] == 0.0


@given(value=finite, gold=finite)
def test_closeness_is_a_number_in_range_for_all_values(value: float, gold: float) -> None:
    assert 0.0 <= closeness(value, gold) <= 1.0


@pytest.mark.parametrize("gold", [0.0, 0.05, -3.0, 1e9])
def test_closeness_falls_with_the_distance(gold: float) -> None:
    steps = [closeness(gold + max(abs(gold), 1e-3) * step, gold) for step in (0.0, 0.1, 0.5, 2.0, 100.0)]
    assert steps[0] == 1.0
    assert steps == sorted(steps, reverse=True)
    assert len(set(steps)) == len(steps)


@given(values=st.lists(finite, min_size=1, max_size=6), gold=finite)
def test_a_wrong_answer_never_earns_more_than_half(values: list[float], gold: float) -> None:
    rewarded = reward_pool(pool(*[candidate(None, value) for value in values], answer=gold, program=None))
    for index, reward in enumerate(rewarded.rewards):
        assert reward == 1.0 if index in rewarded.correct else 0.0 < reward <= 0.5


def test_gold_of_the_real_data_has_reward_one(finqa_dev: list[Question]) -> None:
    for question in finqa_dev[:200]:
        record = Pool.of(question, candidates=[candidate(question.program, question.answer)])
        assert reward_pool(record).rewards == [1.0], question.id
