"""Baselines by hand: chance, constant, oracle, medoid and majority vote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finrank.evaluation import baselines, metrics
from finrank.records import RewardedPool
from tests.helpers.evaluated_pools import make_pool

PROGRAMS = {
    "programs": ["add(2, 3)", "add(3, 4)", "add(4, 5)", "divide(1, 0)"],
    "program": "add(2, 3)",
    "answer": 5.0,
}
answers = st.none() | st.sampled_from(["yes", "no"]) | st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture
def mixed_pools() -> list[RewardedPool]:
    return [
        make_pool([5.0, 7.0, 9.0, None], [0], rewards=[1.0, 0.5, 0.3, 0.0], **PROGRAMS),
        make_pool([5.0, 5.0, 9.0], [0, 1], **{**PROGRAMS, "programs": ["add(3, 2)", "add(1, 4)", "add(4, 5)"]}),
        make_pool([1.0, 2.0], [], rewards=[0.4, 0.2]),
    ]


def test_chance_by_hand(mixed_pools: list[RewardedPool]) -> None:
    means = {name: metric.mean() for name, metric in baselines.chance(mixed_pools).items()}
    # The candidate without a value is behind the others for every scorer, so that it is no choice.
    assert means["accuracy"] == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    assert means["reward_ratio"] == pytest.approx((1.8 / 3 + 2.2 / 3) / 2)
    assert means["average_reward"] == pytest.approx((1.8 / 3 + 2.2 / 3 + 0.3) / 3)
    assert means["accuracy_max"] == means["accuracy_pooled"] == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)
    assert means["execution_accuracy"] == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert means["program_accuracy"] == pytest.approx((1 / 3 + 1 / 3) / 2)
    # First of three: (1 + 1/2 + 1/3) / 3; first of two among three: 1 with 2/3, 1/2 with 1/3.
    assert means["mrr"] == pytest.approx(((11 / 6) / 3 + (2 / 3 + 1 / 6) + 0) / 3)


def test_a_constant_scorer_is_at_chance(mixed_pools: list[RewardedPool]) -> None:
    chance = baselines.chance(mixed_pools)
    constant = metrics.pool_metrics(mixed_pools, [baselines.constant(pool) for pool in mixed_pools])
    assert all(metric.mean() == chance[name].mean() for name, metric in constant.items())


def test_the_oracle_is_right_wherever_that_is_possible(mixed_pools: list[RewardedPool]) -> None:
    oracle = metrics.pool_metrics(mixed_pools, [baselines.oracle(pool) for pool in mixed_pools])
    assert oracle["accuracy"].values.tolist() == [1.0, 1.0, 0.0]
    assert oracle["reward_ratio"].mean() == 1.0


def test_the_medoid_is_the_value_in_the_middle() -> None:
    scores = baselines.medoid(make_pool([10.0, 11.0, 12.0, -300.0, None]))
    assert (scores.argmax(), scores.argmin()) == (1, 4)
    assert scores[1] == pytest.approx(-(1 / 21 + 1 / 23 + 1 + 1) / 4, abs=1e-12)
    assert baselines.medoid(make_pool([None, None, "yes"])).argmax() == 2
    assert baselines.medoid(make_pool([5.0])).tolist() == [0.0]


@pytest.mark.parametrize("answers", [["yes", "no", 3.0], [None, None]])
def test_equal_distances_tie(answers: list[float | None]) -> None:
    assert len(set(baselines.medoid(make_pool(answers)).tolist())) == 1


@given(first=answers, second=answers)
def test_the_distance_is_symmetric_and_bounded(first: float | str | None, second: float | str | None) -> None:
    distance = baselines.answer_distance(first, second)  # type: ignore[arg-type]
    assert distance == baselines.answer_distance(second, first)  # type: ignore[arg-type]
    assert 0.0 <= distance <= 1.0
    assert distance == 0.0 or first is None or first != second


def test_the_majority_has_the_votes() -> None:
    pools = [make_pool([5.0, 7.0, 5.000001, None, None, None]), make_pool([1.0, 2.0])]
    votes = baselines.majority_vote(pools)
    assert votes is not None
    assert [counts.tolist() for counts in votes] == [[2, 1, 2, 0, 0, 0], [1, 1]]
    assert baselines.majority_vote([make_pool([1.0, 2.0, None, None])]) is None


def test_proposals_are_no_votes() -> None:
    pool = make_pool([3.0, 3.0, 2.0, 2.0, 2.0])
    proposed = [one.model_copy(update={"origin": "proposed", "log_probability": -1.0}) for one in pool.candidates[3:]]
    votes = baselines.majority_vote([pool.model_copy(update={"candidates": [*pool.candidates[:3], *proposed]})])
    assert votes is not None
    assert votes[0].tolist() == [2, 2, 1, 1, 1]


def test_a_stated_answer_votes_for_the_value_that_it_rounds() -> None:
    pool = make_pool([0.24958, 0.2496, 0.31])
    stated = pool.candidates[1].model_copy(update={"program": None, "stated": "24.96 %"})
    votes = baselines.majority_vote(
        [pool.model_copy(update={"candidates": [pool.candidates[0], stated, *pool.candidates[2:]]})]
    )
    assert votes is not None
    assert votes[0].tolist() == [2, 2, 1]
