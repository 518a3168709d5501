"""Metrics of a scorer: an outcome per pool, in expectation over tied scores, and means over pools.

A scorer picks a candidate with the highest score. Where several share it, each counts by its share of the tie: of four
candidates with scores [2, 2, 1, 0] the first two are picked with probability 1/2 each. A constant scorer is thus at
chance. Candidates that share a score are in any order with equal probability; the expectation of a measure of the
whole ranking over those orders has a closed form, so nothing is drawn (McSherry & Najork, "Computing Information
Retrieval Performance Measures Efficiently in the Presence of Tied Scores", ECIR 2008).

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

from finrank.programs import Program, ProgramError, equal, parse
from finrank.programs.value import answer_key, same_answer
from finrank.ranker.answers import group_equal_answers
from finrank.records import Candidate, Pool, RewardedPool

FloatArray = NDArray[np.float64]

# Figures are rounded, so that the mean of a hundred times 0.2 is 0.2 and compares equal to it.
FIGURE_DECIMALS = 10


class PoolOutcome(NamedTuple):
    """The outcome of one pool, in expectation over tied scores."""

    correct: float
    correct_max: float
    selected_reward: float
    reciprocal_rank: float
    discounted_gain: float
    executes: float
    same_program: float


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

    >>> pick_probabilities([2.0, 2.0, 1.0, 0.0]).tolist()
    [0.5, 0.5, 0.0, 0.0]
    """
    array = np.asarray(scores, dtype=np.float64)
    tied = array == array.max()
    return tied / tied.sum()


def outcome(pool: RewardedPool, scores: ArrayLike) -> PoolOutcome:
    """The outcome of ranking the pool's candidates by `scores` [candidates].

    Raises ValueError when a score is NaN or infinite, or there is not one per candidate.
    """
    groups = tie_groups(checked_scores(pool, scores).tolist())
    top = groups[0]
    correct = set(pool.correct)
    return PoolOutcome(
        correct=_share(top, correct),
        correct_max=share_of_answers(pool, top),
        selected_reward=math.fsum(pool.rewards[index] for index in top) / len(top),
        reciprocal_rank=reciprocal_rank(groups, correct),
        discounted_gain=discounted_gain(groups, pool.rewards),
        executes=_share(top, set(executing_candidates(pool))),
        same_program=_share(top, set(same_programs(pool))),
    )


def _share(picked: Sequence[int], wanted: set[int]) -> float:
    return sum(index in wanted for index in picked) / len(picked)


def share_of_answers(pool: RewardedPool, picked: Sequence[int]) -> float:
    """The share of the picked candidates' distinct answers that are correct; failed programs count each for itself."""
    right = {_answer_of(pool.candidates[index]) for index in pool.correct}
    answers = {_answer_of(pool.candidates[index]) for index in picked}
    return len(answers & right) / len(answers)


def _answer_of(candidate: Candidate) -> tuple[str, object]:
    if candidate.answer is None:
        return "failed", candidate.program
    return "answer", answer_key(candidate.answer)


def executing_candidates(pool: Pool) -> list[int]:
    """Indices of the candidates whose value is the gold answer at 5 decimals; none without a gold answer."""
    return [index for index, one in enumerate(pool.candidates) if same_answer(one.answer, pool.answer)]


def parsed(text: str | None) -> Program | None:
    """The program written by a text; None without a text, and for a text that is not a program."""
    try:
        return None if text is None else parse(text)
    except ProgramError:
        return None


def same_programs(pool: RewardedPool) -> list[int]:
    """Indices of the candidates that are the gold program by the official notion; none without a gold program.

    Equal programs have equal values (the official evaluator asserts it), so where the gold answer is known, only
    candidates with that value are compared.
    """
    possible = range(len(pool.candidates)) if pool.answer is None else executing_candidates(pool)
    return [index for index in possible if _same(pool.program, pool.candidates[index].program)]


@lru_cache(maxsize=65_536)  # every scorer asks for the same pairs, and sympy is slow
def _same(gold: str | None, program: str | None) -> bool:
    return gold is not None and program is not None and equal(gold, program)


def correct_pooled(pool: RewardedPool, scores: ArrayLike) -> float:
    """Probability that the most probable distinct answer is a correct one; ties in equal shares.

    Raises ValueError as `outcome` does.
    """
    groups = group_equal_answers(pool.candidates, checked_scores(pool, scores))
    top = [group.indices[0] for group in groups if group.log_probability == groups[0].log_probability]
    return share_of_answers(pool, top)


def pool_metrics(pools: Sequence[RewardedPool], scores: Sequence[ArrayLike]) -> dict[str, Metric]:
    """All metrics of a scorer but `accuracy_pooled`, per pool in the order of `pools`.

    Raises ValueError as `outcome` does, where there is not one array of scores per pool, and for a pool that has
    correct candidates and no reward above 0.
    """
    if len(pools) != len(scores):
        raise ValueError(f"{len(pools)} pools but scores for {len(scores)}: give one array of scores per pool")
    outcomes = [outcome(*pair) for pair in zip(pools, scores, strict=True)]
    for pool in pools:
        if pool.correct and max(pool.rewards) <= 0:
            raise ValueError(f"pool {pool.id}: candidates {pool.correct} are correct, but no reward is above 0")
    column = dict(zip(PoolOutcome._fields, np.array(outcomes, dtype=np.float64).T, strict=True))
    answerable = np.array([float(bool(pool.correct)) for pool in pools])
    best = np.array([max(pool.rewards) if pool.correct else 1.0 for pool in pools])
    best_gain = np.array([best_discounted_gain(pool.rewards) if pool.correct else 1.0 for pool in pools])
    everywhere = np.ones(len(pools))
    return {
        "accuracy": Metric(column["correct"], everywhere),
        "accuracy_max": Metric(column["correct_max"], everywhere),
        "reward_ratio": Metric(column["selected_reward"] / best * answerable, answerable),
        "average_reward": Metric(column["selected_reward"], everywhere),
        "mrr": Metric(column["reciprocal_rank"], everywhere),
        "ndcg": Metric(column["discounted_gain"] / best_gain * answerable, answerable),
        "execution_accuracy": Metric(column["executes"], np.array([float(p.answer is not None) for p in pools])),
        "program_accuracy": Metric(column["same_program"], np.array([float(p.program is not None) for p in pools])),
    }


def pooled_accuracy(pools: Sequence[RewardedPool], scores: Sequence[ArrayLike]) -> Metric:
    """Accuracy after equal answers have pooled their probability, per pool."""
    values = [correct_pooled(*pair) for pair in zip(pools, scores, strict=True)]
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

    Of n tied candidates after `before` others, r of them correct, the first correct one is the i-th with the
    probability that i - 1 wrong ones are drawn before it, without replacement.

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

    The gain of a candidate is its reward itself (linear gain, as in Järvelin & Kekäläinen, "Cumulated gain-based
    evaluation of IR techniques", 2002), not 2^reward - 1: rewards lie in [0, 1] and are values already.

    >>> discounted_gain([[1], [0, 2]], gains=[0.0, 1.0, 0.5]) == 1.0 + 0.25 * (1 / math.log2(3) + 0.5)
    True
    """
    before, parts = 0, []
    for group in groups:
        weights = _discounts(before + len(group))[before:]
        parts.append(math.fsum(gains[index] for index in group) / len(group) * math.fsum(weights))
        before += len(group)
    return math.fsum(parts)


def best_discounted_gain(gains: Sequence[float]) -> float:
    """The discounted gain of the best ranking: gains in descending order."""
    return math.fsum(gain * weight for gain, weight in zip(sorted(gains)[::-1], _discounts(len(gains)), strict=True))


@lru_cache(maxsize=4096)
def _discounts(size: int) -> tuple[float, ...]:
    """1 / log2(1 + rank) for the ranks 1 to size (Burges et al., "Learning to rank using gradient descent", 2005)."""
    return tuple(1 / math.log2(1 + rank) for rank in range(1, size + 1))


def checked_scores(pool: Pool, scores: ArrayLike) -> FloatArray:
    """Scores as float64 [candidates]; ValueError naming the pool when their number is wrong or one is not finite."""
    array, n = np.asarray(scores, dtype=np.float64), len(pool.candidates)
    if array.shape != (n,):
        raise ValueError(f"pool {pool.id}: {n} candidates but scores of shape {array.shape}")
    if not np.isfinite(array).all():
        first = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"pool {pool.id}: the score of candidate {first} is {array[first]}, expected a finite number")
    return array
