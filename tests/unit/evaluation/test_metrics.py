"""Metrics against tables worked out by hand, and what must never change them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finrank.evaluation.evaluate import evaluate_pools
from finrank.evaluation.metrics import correct_pooled, outcome, pool_metrics, pooled_accuracy, same_programs
from finrank.ranker.answers import group_equal_answers
from finrank.records import RewardedPool

MakePool = Callable[..., RewardedPool]


@pytest.mark.parametrize(
    ("scores", "correct", "expected_correct", "expected_reward"),
    [
        ([3.0, 1.0, 2.0, 0.0], [0], 1.0, 1.0),
        ([1.0, 3.0, 2.0, 0.0], [0], 0.0, 0.4),
        ([3.0, 3.0, 2.0, 0.0], [0], 1 / 2, (1.0 + 0.4) / 2),
        ([1.0, 3.0, 3.0, 3.0], [0], 0.0, (0.4 + 0.2 + 0.0) / 3),
        ([7.0, 7.0, 7.0, 7.0], [0], 1 / 4, (1.0 + 0.4 + 0.2 + 0.0) / 4),
        ([-1.0, -1.0, -2.0, -1.0], [0, 1], 2 / 3, (1.0 + 0.4 + 0.0) / 3),
        ([0.0, 1.0, 2.0, 3.0], [], 0.0, 0.0),
    ],
)
def test_a_pick_by_hand(
    make_pool: MakePool, scores: list[float], correct: list[int], expected_correct: float, expected_reward: float
) -> None:
    own = outcome(make_pool([5.0, 6.0, 7.0, 8.0], correct, rewards=[1.0, 0.4, 0.2, 0.0]), scores)
    assert own.correct == own.correct_max == pytest.approx(expected_correct)
    assert own.selected_reward == pytest.approx(expected_reward)


def test_three_pools_by_hand(make_pool: MakePool) -> None:
    pools = [
        make_pool([1.0, 2.0], [0], rewards=[1.0, 0.5]),
        make_pool([1.0, 2.0], [1], rewards=[0.3, 1.0]),
        make_pool([1.0, 2.0], [], rewards=[0.4, 0.1]),  # unanswerable: wrong, and no part of the ratio
    ]
    metrics = pool_metrics(pools, [[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    means = {name: metric.mean() for name, metric in metrics.items()}
    assert means["accuracy"] == pytest.approx((1 + 0 + 0) / 3)
    assert means["reward_ratio"] == pytest.approx((1.0 + 0.3) / 2)
    assert means["average_reward"] == pytest.approx((1.0 + 0.3 + 0.25) / 3)


def test_the_ratio_is_none_where_no_pool_is_answerable(make_pool: MakePool) -> None:
    metrics = pool_metrics([make_pool([1.0, 2.0], [])], [[1.0, 0.0]])
    assert metrics["reward_ratio"].mean() is None
    assert metrics["accuracy"].mean() == 0.0


def test_float32_scores_tie_only_where_they_are_equal(make_pool: MakePool) -> None:
    near = np.array([1.0, np.nextafter(np.float32(1.0), np.float32(2.0))], dtype=np.float32)
    assert outcome(make_pool([1.0, 2.0], [1]), near).correct == 1.0


def test_execution_and_program_accuracy_by_hand(make_pool: MakePool) -> None:
    pool = make_pool(
        [3.0, 3.0, 3.0, 2.0, None],
        [0, 1, 2],
        programs=["add(1, 2)", "add(2, 1)", "multiply(1, 3)", "multiply(1, 2)", "divide(1, 0)"],
        program="add(1, 2)",
        answer=3.0,
    )
    assert same_programs(pool) == [0, 1]
    for picked, executes, same in ((0, 1, 1), (1, 1, 1), (2, 1, 0), (3, 0, 0), (4, 0, 0)):
        own = outcome(pool, np.eye(5)[picked])
        assert (own.executes, own.same_program) == (executes, same)
    assert outcome(pool, np.zeros(5)).same_program == 2 / 5


def test_pools_without_gold_are_left_out_of_the_official_accuracies(make_pool: MakePool) -> None:
    known = make_pool([3.0, 4.0], [0], programs=["add(1, 2)", "add(2, 2)"], program="add(1, 2)", answer=3.0)
    value_alone = make_pool([3.0, 4.0], [0], programs=["add(1, 2)", "add(2, 2)"], answer=3.0)
    own = pool_metrics([known, value_alone, make_pool([3.0, 4.0])], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert own["execution_accuracy"].mean() == 0.5
    assert own["program_accuracy"].mean() == 1.0


def test_equal_answers_by_their_best_candidate(make_pool: MakePool) -> None:
    # 5.0 three times and 7.0 once, all tied: 7.0 is one answer of two, but one candidate of four.
    pool = make_pool([5.0, 5.0, 5.0, 7.0], [3])
    assert outcome(pool, np.zeros(4)).correct == 0.25
    assert outcome(pool, np.zeros(4)).correct_max == 0.5
    assert correct_pooled(pool, np.zeros(4)) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_name_the_pool(make_pool: MakePool, bad: float) -> None:
    with pytest.raises(ValueError, match=r"pool V/2008-3: the score of candidate 1"):
        outcome(make_pool([1.0, 2.0], identifier="V/2008-3"), [0.0, bad])
    with pytest.raises(ValueError, match=r"pool V/2008-3"):
        correct_pooled(make_pool([1.0, 2.0], identifier="V/2008-3"), [0.0, bad])


def test_a_wrong_number_of_scores_is_refused(make_pool: MakePool) -> None:
    with pytest.raises(ValueError, match=r"pool q: 2 candidates but scores of shape \(3,\)"):
        pool_metrics([make_pool([1.0, 2.0])], [[0.0, 1.0, 2.0]])
    with pytest.raises(ValueError, match="1 pools but scores for 2"):
        pool_metrics([make_pool([1.0, 2.0])], [[0.0, 1.0], [0.0, 1.0]])


def test_correct_candidates_without_reward_are_refused(make_pool: MakePool) -> None:
    with pytest.raises(ValueError, match="pool q"):
        pool_metrics([make_pool([1.0, 2.0], [0], rewards=[0.0, 0.0])], [[0.0, 1.0]])


def test_equal_answers_pool_their_probability(make_pool: MakePool) -> None:
    # Each copy of 5.0 is less probable than 7.0, together they are more probable.
    pool = make_pool([5.0, 7.0, 5.0], [0, 2])
    scores = np.log([0.3, 0.4, 0.3])
    assert outcome(pool, scores).correct == 0.0
    assert correct_pooled(pool, scores) == 1.0
    groups = group_equal_answers(pool.candidates, scores)
    assert [(group.answer, group.indices) for group in groups] == [(5.0, [0, 2]), (7.0, [1])]
    assert np.exp([group.log_probability for group in groups]) == pytest.approx([0.6, 0.4])


def test_exact_duplicates_count_once(make_pool: MakePool) -> None:
    pool = make_pool([5.0, 7.0, 5.0], [0, 2], programs=["a", "b", "a"])
    groups = group_equal_answers(pool.candidates, np.log([0.3, 0.4, 0.3]))
    assert [(group.answer, group.indices) for group in groups] == [(7.0, [1]), (5.0, [0, 2])]
    assert np.exp(groups[0].log_probability) == pytest.approx(0.4 / 0.7)


def test_failed_candidates_do_not_pool(make_pool: MakePool) -> None:
    pool = make_pool([None, None, 5.0], [2])
    assert correct_pooled(pool, np.log([0.3, 0.3, 0.4])) == 1.0


def test_values_pool_at_five_decimals_and_ties_count_by_share(make_pool: MakePool) -> None:
    assert correct_pooled(make_pool([0.123456, 0.123459, 7.0], [0, 1]), [0.0, 0.0, 0.5]) == 1.0
    assert correct_pooled(make_pool([1.0, 2.0, 3.0, 4.0], [1]), [0.0, 0.0, 0.0, 0.0]) == 0.25
    assert correct_pooled(make_pool(["yes", "no", 1.0], [0]), [1.0, 1.0, 0.0]) == 0.5


def test_an_unanswerable_pool_is_wrong_when_pooled_too(make_pool: MakePool) -> None:
    assert pooled_accuracy([make_pool([None, 2.0], [])], [[1.0, 0.0]]).mean() == 0.0


values = st.sampled_from([None, "yes", "no", 0.0, 1.0, -1.0, 2.5, 1e6])


@st.composite
def pools_and_orders(draw: st.DrawFn) -> list[tuple[list[object], list[str], list[float], list[int]]]:
    """Pools as (answers, programs, scores, a permutation); repeated values and scores are common."""
    result = []
    for _ in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 6))
        answers = draw(st.lists(values, min_size=n, max_size=n))
        programs = draw(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=n, max_size=n))
        scores = draw(st.lists(st.sampled_from([-3.0, 0.1, 0.2, 0.3, 5.0]), min_size=n, max_size=n))
        result.append((answers, programs, scores, draw(st.permutations(range(n)))))
    return result


@settings(max_examples=60, deadline=None)
@given(pools_and_orders())
def test_the_order_of_candidates_changes_no_metric(
    make_pool: MakePool, drawn: list[tuple[list[object], list[str], list[float], list[int]]]
) -> None:
    def evaluate(permuted: bool) -> dict[str, object]:
        pools, scores = [], []
        for answers, programs, own, order in drawn:
            order = order if permuted else list(range(len(answers)))
            shown = [answers[place] for place in order]
            correct = [place for place, answer in enumerate(shown) if answer == 2.5]
            pools.append(make_pool(shown, correct, programs=[programs[place] for place in order]))
            scores.append([own[place] for place in order])
        result = evaluate_pools(pools, scores)
        del result["positions"]
        return result

    assert _flat(evaluate(True)) == pytest.approx(_flat(evaluate(False)), abs=1e-12)


def _flat(value: object, name: str = "") -> dict[str, float]:
    """Nested figures as {path: number}; None becomes -1."""
    if isinstance(value, dict):
        return {path: x for key, inner in value.items() for path, x in _flat(inner, f"{name}/{key}").items()}
    if isinstance(value, list):
        return {path: x for i, inner in enumerate(value) for path, x in _flat(inner, f"{name}/{i}").items()}
    return {name: -1.0 if value is None else float(value)}  # type: ignore[arg-type]
