"""The closed forms against brute force: every order of tied candidates, one by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from finrank.evaluation.metrics import metrics_of_outcomes, outcome, pool_metrics, pooled_accuracy, same_programs
from finrank.evaluation.ranks import (
    best_discounted_gain,
    chance_discounted_gain,
    chance_reciprocal_rank,
    discounted_gain,
    reciprocal_rank,
    tie_groups,
)
from finrank.records import RewardedPool

MakePool = Callable[..., RewardedPool]

_PROGRAMS = {3.0: ["add(1, 2)", "add(2, 1)", "multiply(1, 3)"], 2.0: ["multiply(1, 2)", "add(1, 1)"]}


def random_pool(make_pool: MakePool, random: np.random.Generator) -> tuple[RewardedPool, list[float]]:
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


def test_every_metric_is_its_mean_over_all_orders_of_tied_candidates(make_pool: MakePool) -> None:
    random = np.random.default_rng(5)
    drawn = [random_pool(make_pool, random) for _ in range(150)]
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


def test_taking_tied_candidates_as_they_stand_is_seen(make_pool: MakePool) -> None:
    pool = make_pool([3.0, 2.0, 4.0], [0], rewards=[1.0, 0.2, 0.2])
    assert outcome(pool, [1.0, 1.0, 0.0]).reciprocal_rank == pytest.approx((1 + 1 / 2) / 2)
    as_they_stand = reciprocal_rank([[0], [1], [2]], pool.correct)
    assert as_they_stand == 1.0


def test_a_ranking_by_reward_has_the_best_gain(make_pool: MakePool) -> None:
    random = np.random.default_rng(6)
    for _ in range(50):
        pool, _ = random_pool(make_pool, random)
        best = metrics_of_outcomes([pool], [outcome(pool, pool.rewards)])
        if pool.correct:
            assert best["ndcg"].mean() == pytest.approx(1.0)
            assert best["mrr"].mean() == 1.0


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_chance_is_what_a_tie_of_all_gives_though_worked_out_otherwise(size: int) -> None:
    gains = [1 / (index + 1) for index in range(size)]
    everything = tie_groups([0.0] * size)
    assert discounted_gain(everything, gains) == pytest.approx(chance_discounted_gain(gains))
    for right in range(size + 1):
        assert reciprocal_rank(everything, range(right)) == pytest.approx(chance_reciprocal_rank(size, right))


def test_large_pools_stay_finite() -> None:
    assert chance_reciprocal_rank(5000, 2500) == pytest.approx(reciprocal_rank([range(5000)], range(2500)))
    assert best_discounted_gain([1.0] * 5000) == pytest.approx(chance_discounted_gain([1.0] * 5000))


def test_equal_programs_are_found_where_no_gold_answer_is_known(make_pool: MakePool) -> None:
    pool = make_pool([3.0, 2.0], programs=["add(2, 1)", "add(1, 1)"], program="add(1, 2)")
    assert same_programs(pool) == [0]
