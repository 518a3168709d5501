"""Metrics by hand, against every order of tied candidates, and under permutations, which must not change them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finrank.evaluation.evaluate import evaluate_pools
from finrank.evaluation.metrics import (
    correct_pooled,
    outcome,
    pool_metrics,
    pooled_accuracy,
    reciprocal_rank,
    same_programs,
)
from finrank.ranker.answers import group_equal_answers
from finrank.records import RewardedPool
from tests.helpers.evaluated_pools import make_pool


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
    scores: list[float], correct: list[int], expected_correct: float, expected_reward: float
) -> None:
    own = outcome(make_pool([5.0, 6.0, 7.0, 8.0], correct, rewards=[1.0, 0.4, 0.2, 0.0]), scores)
    assert own.correct == own.correct_max == pytest.approx(expected_correct)
    assert own.selected_reward == pytest.approx(expected_reward)


def test_three_pools_by_hand() -> None:
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


def test_the_ratio_is_none_where_no_pool_is_answerable() -> None:
    metrics = pool_metrics([make_pool([1.0, 2.0], [])], [[1.0, 0.0]])
    assert metrics["reward_ratio"].mean() is None
    assert metrics["accuracy"].mean() == 0.0


def test_float32_scores_tie_only_where_they_are_equal() -> None:
    near = np.array([1.0, np.nextafter(np.float32(1.0), np.float32(2.0))], dtype=np.float32)
    assert outcome(make_pool([1.0, 2.0], [1]), near).correct == 1.0


def test_execution_and_program_accuracy_by_hand() -> None:
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


def test_pools_without_gold_are_left_out_of_the_official_accuracies() -> None:
    known = make_pool([3.0, 4.0], [0], programs=["add(1, 2)", "add(2, 2)"], program="add(1, 2)", answer=3.0)
    value_alone = make_pool([3.0, 4.0], [0], programs=["add(1, 2)", "add(2, 2)"], answer=3.0)
    own = pool_metrics([known, value_alone, make_pool([3.0, 4.0])], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert own["execution_accuracy"].mean() == 0.5
    assert own["program_accuracy"].mean() == 1.0


def test_equal_answers_by_their_best_candidate() -> None:
    # 5.0 three times and 7.0 once, all tied: 7.0 is one answer of two, but one candidate of four.
    pool = make_pool([5.0, 5.0, 5.0, 7.0], [3])
    assert outcome(pool, np.zeros(4)).correct == 0.25
    assert outcome(pool, np.zeros(4)).correct_max == 0.5
    assert correct_pooled(pool, np.zeros(4)) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_name_the_pool(bad: float) -> None:
    with pytest.raises(ValueError, match=r"pool V/2008-3: the score of candidate 1"):
        outcome(make_pool([1.0, 2.0], identifier="V/2008-3"), [0.0, bad])
    with pytest.raises(ValueError, match=r"pool V/2008-3"):
        correct_pooled(make_pool([1.0, 2.0], identifier="V/2008-3"), [0.0, bad])


def test_a_wrong_number_of_scores_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pool q: 2 candidates but scores of shape \(3,\)"):
        pool_metrics([make_pool([1.0, 2.0])], [[0.0, 1.0, 2.0]])
    with pytest.raises(ValueError, match="1 pools but scores for 2"):
        pool_metrics([make_pool([1.0, 2.0])], [[0.0, 1.0], [0.0, 1.0]])


def test_correct_candidates_without_reward_are_refused() -> None:
    with pytest.raises(ValueError, match="pool q"):
        pool_metrics([make_pool([1.0, 2.0], [0], rewards=[0.0, 0.0])], [[0.0, 1.0]])


def test_equal_answers_pool_their_probability() -> None:
    # Each copy of 5.0 is less probable than 7.0, together they are more probable.
    pool = make_pool([5.0, 7.0, 5.0], [0, 2])
    scores = np.log([0.3, 0.4, 0.3])
    assert outcome(pool, scores).correct == 0.0
    assert correct_pooled(pool, scores) == 1.0
    groups = group_equal_answers(pool.candidates, scores)
    assert [(group.answer, group.indices) for group in groups] == [(5.0, [0, 2]), (7.0, [1])]
    assert np.exp([group.log_probability for group in groups]) == pytest.approx([0.6, 0.4])


def test_exact_duplicates_count_once() -> None:
    pool = make_pool([5.0, 7.0, 5.0], [0, 2], programs=["a", "b", "a"])
    groups = group_equal_answers(pool.candidates, np.log([0.3, 0.4, 0.3]))
    assert [(group.answer, group.indices) for group in groups] == [(7.0, [1]), (5.0, [0, 2])]
    assert np.exp(groups[0].log_probability) == pytest.approx(0.4 / 0.7)


def test_failed_candidates_do_not_pool() -> None:
    pool = make_pool([None, None, 5.0], [2])
    assert correct_pooled(pool, np.log([0.3, 0.3, 0.4])) == 1.0


def test_values_pool_at_five_decimals_and_ties_count_by_share() -> None:
    assert correct_pooled(make_pool([0.123456, 0.123459, 7.0], [0, 1]), [0.0, 0.0, 0.5]) == 1.0
    assert correct_pooled(make_pool([1.0, 2.0, 3.0, 4.0], [1]), [0.0, 0.0, 0.0, 0.0]) == 0.25
    assert correct_pooled(make_pool(["yes", "no", 1.0], [0]), [1.0, 1.0, 0.0]) == 0.5


def test_an_unanswerable_pool_is_wrong_when_pooled_too() -> None:
    assert pooled_accuracy([make_pool([None, 2.0], [])], [[1.0, 0.0]]).mean() == 0.0


_PROGRAMS = {3.0: ["add(1, 2)", "add(2, 1)", "multiply(1, 3)"], 2.0: ["multiply(1, 2)", "add(1, 1)"]}


def random_pool(random: np.random.Generator) -> tuple[RewardedPool, list[float]]:
    """Up to six candidates; repeated values, duplicates, failures and tied scores are common."""
    size = int(random.integers(1, 7))
    answers: list[float | None] = []
    programs = []
    for _ in range(size):
        answer = [3.0, 2.0, None][random.choice(3, p=[0.45, 0.4, 0.15])]
        answers.append(answer)
        texts = ["divide(1, 0)", "divide(2, 0)"] if answer is None else _PROGRAMS[answer]
        programs.append(texts[random.integers(len(texts))])
    correct = [index for index, answer in enumerate(answers) if answer == 3.0]
    rewards = [1.0 if index in correct else float(random.choice([0.0, 0.2, 0.5])) for index in range(size)]
    pool = make_pool(answers, correct, rewards=rewards, programs=programs, program="add(1, 2)", answer=3.0)
    # The same program has the same score, as of any model.
    score_of = {program: float(random.integers(0, 3)) for program in sorted(set(programs))}
    return pool, [score_of[program] for program in programs]


def orders(scores: list[float]) -> Iterator[tuple[int, ...]]:
    """Every order of the candidates in which no score is above the one before it."""
    for order in itertools.permutations(range(len(scores))):
        if all(scores[one] >= scores[other] for one, other in itertools.pairwise(order)):
            yield order


def dcg(gains: list[float]) -> float:
    return sum(gain / math.log2(1 + rank) for rank, gain in enumerate(gains, start=1))


def of_one_order(pool: RewardedPool, order: tuple[int, ...]) -> dict[str, float]:
    """The metrics where nothing is tied, straight from their definitions."""
    first = order[0]
    ranks = [rank for rank, index in enumerate(order, start=1) if index in pool.correct]
    best = max(pool.rewards)
    return {
        "accuracy": float(first in pool.correct),
        "reward_ratio": pool.rewards[first] / best if pool.correct else 0.0,
        "average_reward": pool.rewards[first],
        "mrr": 1 / min(ranks) if ranks else 0.0,
        "ndcg": dcg([pool.rewards[i] for i in order]) / dcg(sorted(pool.rewards)[::-1]) if pool.correct else 0.0,
        "execution_accuracy": float(pool.candidates[first].answer == 3.0),
        "program_accuracy": float(pool.candidates[first].program in ("add(1, 2)", "add(2, 1)")),
    }


def by_answers(pool: RewardedPool, scores: list[float]) -> dict[str, float]:
    """Accuracy over distinct answers: by the best score, and by the summed probability of distinct programs."""
    score_of = {(one.answer, one.program): score for one, score in zip(pool.candidates, scores, strict=True)}
    best: dict[object, float] = {}
    summed: dict[object, float] = {}
    for (answer, program), score in score_of.items():
        key = answer if answer is not None else program
        best[key] = max(best.get(key, -math.inf), score)
        summed[key] = summed.get(key, 0.0) + math.exp(score)
    figures = {}
    for name, of in (("accuracy_max", best), ("accuracy_pooled", summed)):
        top = [key for key, value in of.items() if value > max(of.values()) - 1e-9]
        figures[name] = sum(key == 3.0 for key in top) / len(top)
    return figures


def test_every_metric_is_its_mean_over_all_orders_of_tied_candidates() -> None:
    random = np.random.default_rng(5)
    drawn = [random_pool(random) for _ in range(150)]
    pools, scores = [pool for pool, _ in drawn], [own for _, own in drawn]
    metrics = {**pool_metrics(pools, scores), "accuracy_pooled": pooled_accuracy(pools, scores)}
    tied = 0
    for number, (pool, own) in enumerate(drawn):
        all_orders = [of_one_order(pool, order) for order in orders(own)]
        tied += len(all_orders) > 1
        expected = {name: float(np.mean([one[name] for one in all_orders])) for name in all_orders[0]}
        expected |= by_answers(pool, own)
        assert {name: metric.values[number] for name, metric in metrics.items()} == pytest.approx(expected)
    assert tied > 75


def test_taking_tied_candidates_as_they_stand_is_seen() -> None:
    pool = make_pool([3.0, 2.0, 4.0], [0], rewards=[1.0, 0.2, 0.2])
    assert outcome(pool, [1.0, 1.0, 0.0]).reciprocal_rank == pytest.approx((1 + 1 / 2) / 2)
    as_they_stand = reciprocal_rank([[0], [1], [2]], pool.correct)
    assert as_they_stand == 1.0


def test_a_ranking_by_reward_has_the_best_gain() -> None:
    random = np.random.default_rng(6)
    for _ in range(50):
        pool, _ = random_pool(random)
        best = pool_metrics([pool], [pool.rewards])
        if pool.correct:
            assert best["ndcg"].mean() == pytest.approx(1.0)
            assert best["mrr"].mean() == 1.0


def test_large_pools_stay_finite() -> None:
    # With every second of many tied candidates correct, the first correct one is at rank r with probability 2^-r.
    assert reciprocal_rank([range(5000)], range(2500)) == pytest.approx(math.log(2), abs=1e-3)


def test_equal_programs_are_found_where_no_gold_answer_is_known() -> None:
    pool = make_pool([3.0, 2.0], programs=["add(2, 1)", "add(1, 1)"], program="add(1, 2)")
    assert same_programs(pool) == [0]


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
    drawn: list[tuple[list[object], list[str], list[float], list[int]]],
) -> None:
    def evaluate(permuted: bool) -> dict[str, object]:
        pools, scores = [], []
        for answers, programs, own, order in drawn:
            order = order if permuted else list(range(len(answers)))
            shown = [answers[place] for place in order]
            correct = [place for place, answer in enumerate(shown) if answer == 2.5]
            pools.append(make_pool(shown, correct, programs=[programs[place] for place in order]))
            scores.append([own[place] for place in order])
        result = evaluate_pools(pools, scores).as_json()
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
