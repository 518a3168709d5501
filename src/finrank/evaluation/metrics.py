"""What a scorer makes of each pool, and the means of that.

A scorer picks a candidate with the highest score. Where several share it, each counts by its share of the tie: of four
candidates with scores [2, 2, 1, 0] the first two are picked with probability 1/2 each. A constant scorer is thus at
chance. The measures of whole rankings count ties in the same way (`ranks.py`).

    accuracy            probability that the pick is correct, over all pools (none correct: it is wrong)
    accuracy_max        the same for *answers*, equal answers being one with the score of its best candidate
    accuracy_pooled     the same for the most probable answer, equal answers pooling their probability
    reward_ratio        reward of the pick / best reward in the pool, over pools with a correct candidate
    average_reward      reward of the pick, over all pools
    mrr                 1 / rank of the first correct candidate, over all pools (none correct: 0)
    ndcg                discounted sum of rewards / that of the best order, over pools with a correct candidate
    execution_accuracy  probability that the pick's value is the gold answer, over pools with a gold answer
    program_accuracy    probability that the pick is the same program as the gold one, where that is known

The last two are the official FinQA evaluator's (`programs.equal` says when two programs are the same).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finrank.evaluation.ranks import best_discounted_gain, discounted_gain, reciprocal_rank, tie_groups
from finrank.programs import equal
from finrank.programs.value import answer_key, same_answer
from finrank.ranker.answers import group_equal_answers
from finrank.records import Candidate, RewardedPool

FloatArray = NDArray[np.float64]

# Figures are rounded, so that the mean of a hundred times 0.2 is 0.2 and compares equal to it.
FIGURE_DECIMALS = 10


class Outcome(NamedTuple):
    """What a scorer makes of one pool, in expectation over tied scores."""

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


def outcome(pool: RewardedPool, scores: ArrayLike) -> Outcome:
    """What ranking the pool's candidates by `scores` [candidates] gives.

    Raises ValueError when a score is NaN or infinite, or there is not one per candidate.
    """
    groups = tie_groups(checked_scores(scores, len(pool.candidates), pool.id).tolist())
    top = groups[0]
    correct, executing, same = set(pool.correct), set(executing_candidates(pool)), set(same_programs(pool))
    return Outcome(
        correct=share(top, correct),
        correct_max=share_of_answers(pool, top),
        selected_reward=math.fsum(pool.rewards[index] for index in top) / len(top),
        reciprocal_rank=reciprocal_rank(groups, correct),
        discounted_gain=discounted_gain(groups, pool.rewards),
        executes=share(top, executing),
        same_program=share(top, same),
    )


def share(picked: Sequence[int], wanted: set[int]) -> float:
    """The share of the picked candidates that are wanted ones."""
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


def executing_candidates(pool: RewardedPool) -> list[int]:
    """Indices of the candidates whose value is the gold answer at 5 decimals; none without a gold answer."""
    return [index for index, one in enumerate(pool.candidates) if same_answer(one.answer, pool.answer)]


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
    array = checked_scores(scores, len(pool.candidates), pool.id)
    groups = group_equal_answers(pool.candidates, array)
    top = [group.indices[0] for group in groups if group.log_probability == groups[0].log_probability]
    return share_of_answers(pool, top)


def pool_metrics(pools: Sequence[RewardedPool], scores: Sequence[ArrayLike]) -> dict[str, Metric]:
    """All metrics of a scorer but `accuracy_pooled`, per pool in the order of `pools`.

    Raises ValueError as `outcome` does, or where there is not one array of scores per pool.
    """
    if len(pools) != len(scores):
        raise ValueError(f"{len(pools)} pools but scores for {len(scores)}: give one array of scores per pool")
    return metrics_of_outcomes(pools, [outcome(pool, own) for pool, own in zip(pools, scores, strict=True)])


def metrics_of_outcomes(pools: Sequence[RewardedPool], outcomes: Sequence[Outcome]) -> dict[str, Metric]:
    """The metrics from what became of each pool.

    Raises ValueError for a pool that has correct candidates and no reward above 0.
    """
    for pool in pools:
        if pool.correct and max(pool.rewards) <= 0:
            raise ValueError(f"pool {pool.id}: candidates {pool.correct} are correct, but no reward is above 0")
    table = np.array(outcomes, dtype=np.float64).reshape(-1, len(Outcome._fields))
    column = dict(zip(Outcome._fields, table.T, strict=True))
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
    values = [correct_pooled(pool, own) for pool, own in zip(pools, scores, strict=True)]
    return Metric(np.array(values, dtype=np.float64), np.ones(len(pools)))


def checked_scores(scores: ArrayLike, n: int, pool_id: str) -> FloatArray:
    """Scores as float64 [n]; ValueError naming the pool when their number is wrong or one not finite."""
    array = np.asarray(scores, dtype=np.float64)
    if array.shape != (n,):
        raise ValueError(f"pool {pool_id}: {n} candidates but scores of shape {array.shape}")
    if not np.isfinite(array).all():
        first = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"pool {pool_id}: the score of candidate {first} is {array[first]}, expected a finite number")
    return array
