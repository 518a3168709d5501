"""Metrics of a scorer: an outcome per pool, in expectation over tied scores, and means over pools.

A scorer picks a candidate with the highest score. Where several share it, each counts by its share of the tie: of four
candidates with scores [2, 2, 1, 0] the first two are picked with probability 1/2 each. A constant scorer is thus at
chance. The expectation of a measure of the whole ranking over all orders of tied candidates has a closed form (McSherry
& Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores", ECIR 2008).
A candidate that is not scored has the score minus infinity; a pool in which none is scored has 0 in every metric.

    accuracy            probability that the pick is correct, over all pools (none correct: it is wrong)
    accuracy_max        the same for *answers*, equal answers being one with the score of its best candidate
    accuracy_pooled     the same for the most probable answer, equal answers pooling their probability
    reward_ratio        reward of the pick / best reward in the pool, over pools with a correct candidate
    average_reward      reward of the pick, over all pools
    mrr                 1 / rank of the first correct candidate, over all pools (none correct: 0)
    ndcg                discounted sum of rewards / that of the best order, over pools with a correct candidate
    execution_accuracy  probability that the pick's value is the gold answer, over pools with a gold answer
    program_accuracy    probability that the pick is the same program as the gold one, where that is known

The last two are the official FinQA evaluator's (`programs.equal` defines when two programs are the same).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finrank.pools.equal_answers import is_right, most_precise
from finrank.programs import equal
from finrank.ranker.choosing.answers import answer_labels, group_equal_answers
from finrank.records import Pool, RewardedPool

FloatArray = NDArray[np.float64]

# Figures are rounded, so that the mean of a hundred times 0.2 is 0.2 and compares equal to it.
FIGURE_DECIMALS = 10


class Metric(NamedTuple):
    """One number per pool and its weight [pools]; a weight of 0 leaves the pool out."""

    values: FloatArray
    weights: FloatArray

    def mean(self) -> float | None:
        """The weighted mean over pools; None where every pool is left out."""
        total = self.weights.sum()
        if total == 0:
            return None
        return round(float((self.values * self.weights).sum() / total), FIGURE_DECIMALS)


def pick_probabilities(scores: ArrayLike) -> FloatArray:
    """Probability of each candidate [candidates] to be picked: the highest score, ties in equal shares.

    >>> pick_probabilities([2.0, 2.0, 1.0, 0.0]).tolist(), pick_probabilities([-math.inf]).tolist()
    ([0.5, 0.5, 0.0, 0.0], [0.0])
    """
    array = np.asarray(scores, dtype=np.float64)
    tied = (array == array.max()) & (array > -np.inf)
    return tied / max(int(tied.sum()), 1)


def outcome(pool: RewardedPool, scores: ArrayLike) -> dict[str, float]:
    """The metrics of one pool ranked by `scores` [candidates]; 0 where the pool is left out of a metric.

    Raises ValueError for bad scores, and when a pool has correct candidates and no reward above 0.
    """
    checked = checked_scores(pool, scores)
    groups = tie_groups(checked.tolist())
    if pool.correct and max(pool.rewards) <= 0:
        raise ValueError(f"pool {pool.id}: candidates {pool.correct} are correct, but no reward is above 0")
    top = groups[0]
    reward = math.fsum(pool.rewards[index] for index in top) / len(top)

    def share(wanted: Sequence[int]) -> float:
        return len(set(top).intersection(wanted)) / len(top)

    values = {
        "accuracy": share(pool.correct),
        "accuracy_max": share_of_answers(pool, top),
        "reward_ratio": reward / max(pool.rewards) if pool.correct else 0.0,
        "average_reward": reward,
        "mrr": reciprocal_rank(groups, set(pool.correct)),
        "ndcg": discounted_gain(groups, pool.rewards) / _best_gain(pool.rewards) if pool.correct else 0.0,
        "execution_accuracy": share(executing_candidates(pool)),
        "program_accuracy": share(same_programs(pool)),
    }
    return values if checked.max() > -np.inf else dict.fromkeys(values, 0.0)


def share_of_answers(pool: RewardedPool, picked: Sequence[int]) -> float:
    """The share of the picked candidates' distinct answers that are correct; each failed program is one of them."""
    members: dict[int, list[int]] = {}
    labels = answer_labels(pool.candidates, pool.question)
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    distinct = {labels[index] for index in picked}
    return sum(most_precise(pool.candidates, members[label]) in pool.correct for label in distinct) / len(distinct)


def executing_candidates(pool: Pool) -> list[int]:
    """Indices of the candidates that have the gold answer, by value or as stated; none without a gold answer."""
    return [index for index, one in enumerate(pool.candidates) if is_right(one, pool.answer, pool.question)]


def same_programs(pool: RewardedPool) -> list[int]:
    """Indices of the candidates that are the gold program by `programs.equal`; none without a gold program."""
    # Equal programs have equal values, so that only candidates with the known gold answer are compared.
    possible = range(len(pool.candidates)) if pool.answer is None else executing_candidates(pool)
    return [index for index in possible if _same(pool.program, pool.candidates[index].program)]


@lru_cache(maxsize=65_536)  # every scorer asks for the same pairs, and sympy is slow
def _same(gold: str | None, program: str | None) -> bool:
    return gold is not None and program is not None and equal(gold, program)


def pool_metrics(pools: Sequence[RewardedPool], scores: Sequence[ArrayLike]) -> dict[str, Metric]:
    """All metrics of a scorer but `accuracy_pooled`, per pool in the order of `pools`; ValueError as of `outcome`."""
    if len(pools) != len(scores):
        raise ValueError(f"{len(pools)} pools but scores for {len(scores)}: expected one array of scores per pool")
    outcomes = [outcome(*pair) for pair in zip(pools, scores, strict=True)]
    answerable = [bool(pool.correct) for pool in pools]
    counted = {
        "reward_ratio": answerable,
        "ndcg": answerable,
        "execution_accuracy": [pool.answer is not None for pool in pools],
        "program_accuracy": [pool.program is not None for pool in pools],
    }
    everywhere = [True] * len(pools)
    return {
        name: Metric(
            np.array([values[name] for values in outcomes], dtype=np.float64),
            np.array(counted.get(name, everywhere), dtype=np.float64),
        )
        for name in outcomes[0]
    }


def pooled_accuracy(pools: Sequence[RewardedPool], scores: Sequence[ArrayLike]) -> Metric:
    """Probability that the most probable distinct answer is correct, per pool; ties in equal shares."""
    values = []
    for pool, pool_scores in zip(pools, scores, strict=True):
        groups = group_equal_answers(pool.candidates, checked_scores(pool, pool_scores), pool.question)
        best = groups[0].log_probability
        top = [group.indices[0] for group in groups if group.log_probability == best > -math.inf]
        values.append(share_of_answers(pool, top) if top else 0.0)
    return Metric(np.array(values, dtype=np.float64), np.ones(len(pools)))


def tie_groups(scores: Sequence[float]) -> list[list[int]]:
    """Indices of the candidates by descending score, those of one score together in ascending order.

    >>> tie_groups([2.0, 5.0, 2.0])
    [[1], [0, 2]]
    """
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    return [list(group) for _, group in itertools.groupby(order, key=lambda index: scores[index])]


def reciprocal_rank(groups: Sequence[Sequence[int]], correct: Collection[int]) -> float:
    """Expected 1 / rank of the first correct candidate, ranks counted from 1; 0 where none is correct.

    Of a tie, the first correct candidate is the i-th with the probability that i - 1 wrong ones are drawn before it.

    >>> reciprocal_rank([[3], [0, 2], [1]], correct=[2])  # rank 2 or 3
    0.41666666666666663
    """
    before = 0
    for group in groups:
        right, size = sum(index in correct for index in group), len(group)
        if right:
            expected, none_yet = 0.0, 1.0
            for drawn in range(size - right + 1):
                left = size - drawn
                expected += none_yet * right / left / (before + drawn + 1)
                none_yet *= (left - right) / left
            return expected
        before += size
    return 0.0


def discounted_gain(groups: Sequence[Sequence[int]], gains: Sequence[float]) -> float:
    """Expected sum of gain / log2(1 + rank) over the ranking (DCG); tied candidates have the mean gain of the tie.

    The gain is the reward itself (Järvelin & Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002).

    >>> discounted_gain([[1], [0, 2]], gains=[0.0, 1.0, 0.5]) == 1.0 + 0.25 * (1 / math.log2(3) + 0.5)
    True
    """
    before, parts = 0, []
    for group in groups:
        weights = _discounts(before + len(group))[before:]
        parts.append(math.fsum(gains[index] for index in group) / len(group) * math.fsum(weights))
        before += len(group)
    return math.fsum(parts)


def _best_gain(gains: Sequence[float]) -> float:
    return math.fsum(gain * weight for gain, weight in zip(sorted(gains)[::-1], _discounts(len(gains)), strict=True))


@lru_cache(maxsize=4096)
def _discounts(size: int) -> tuple[float, ...]:
    """1 / log2(1 + rank) for the ranks 1 to size."""
    return tuple(1 / math.log2(1 + rank) for rank in range(1, size + 1))


def checked_scores(pool: Pool, scores: ArrayLike) -> FloatArray:
    """Scores as float64 [candidates]; ValueError naming the pool for a wrong number, for NaN and for infinity."""
    array, n = np.asarray(scores, dtype=np.float64), len(pool.candidates)
    if array.shape != (n,):
        raise ValueError(f"pool {pool.id}: {n} candidates but scores of shape {array.shape}")
    bad = np.flatnonzero(~(array < np.inf))  # minus infinity: not scored
    if bad.size:
        value = array[bad[0]]
        raise ValueError(f"pool {pool.id}: the score of candidate {bad[0]} is {value}, expected a finite number")
    return array
