"""What a scorer picks from each pool, and the means of that: accuracy, reward ratio, average reward.

A scorer picks a candidate with the highest score. Where several share it, each counts by its share of the
tie: of four candidates with scores [2, 2, 1, 0] the first two are picked with probability 1/2 each. A
constant scorer is thus at chance.

    accuracy         probability that the pick is correct, over all pools (none correct: it is wrong)
    accuracy_pooled  the same for the most probable *answer*, equal answers pooling their probability
    reward_ratio     reward of the pick / best reward in the pool, over pools with a correct candidate
    average_reward   reward of the pick, over all pools
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finrank.equal_answers import group_equal_answers
from finrank.records import RewardedPool, answer_key

FloatArray = NDArray[np.float64]

# Figures are rounded, so that the mean of a hundred times 0.2 is 0.2 and compares equal to it.
FIGURE_DECIMALS = 10


class Pick(NamedTuple):
    """What a scorer gets out of one pool, in expectation over tied top scores."""

    correct: float
    selected_reward: float
    best_reward: float


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


def pick(scores: ArrayLike, rewards: ArrayLike, correct: Sequence[int], pool_id: str) -> Pick:
    """Expected outcome of picking by score; `rewards` [candidates], `correct` indices, `pool_id` for errors.

    Raises ValueError when a score is NaN or infinite, or the numbers of scores and rewards differ.
    """
    rewards = np.asarray(rewards, dtype=np.float64)
    share = pick_probabilities(checked_scores(scores, len(rewards), pool_id))
    # Summing the picked ones alone keeps certain picks exact: 1.0, never 0.9999999999999999.
    return Pick(
        correct=float(np.count_nonzero(share[list(correct)]) / np.count_nonzero(share)),
        selected_reward=float(rewards[share > 0].mean()),
        best_reward=float(rewards.max()),
    )


def correct_pooled(pool: RewardedPool, scores: ArrayLike) -> float:
    """Probability that the most probable distinct answer is a correct one; ties in equal shares.

    Raises ValueError as `pick` does.
    """
    array = checked_scores(scores, len(pool.candidates), pool.id)
    groups = group_equal_answers(pool.candidates, array)
    top = [group for group in groups if group.log_probability == groups[0].log_probability]
    right = {_key(pool, index) for index in pool.correct}
    return sum(_key(pool, group.indices[0]) in right for group in top) / len(top)


def _key(pool: RewardedPool, index: int) -> float | str | None:
    answer = pool.candidates[index].answer
    return None if answer is None else answer_key(answer)


def pool_metrics(pools: Sequence[RewardedPool], scores: Sequence[ArrayLike]) -> dict[str, Metric]:
    """Accuracy, reward ratio and average reward of a scorer, per pool in the order of `pools`.

    Raises ValueError as `pick` does, or where there is not one array of scores per pool.
    """
    if len(pools) != len(scores):
        raise ValueError(f"{len(pools)} pools but scores for {len(scores)}: give one array of scores per pool")
    return metrics_of_picks(
        pools,
        [pick(own, pool.rewards, pool.correct, pool.id) for pool, own in zip(pools, scores, strict=True)],
    )


def metrics_of_picks(pools: Sequence[RewardedPool], picks: Sequence[Pick]) -> dict[str, Metric]:
    """The three metrics from what was picked in each pool.

    Raises ValueError for a pool that has correct candidates and no reward above 0.
    """
    for pool, one in zip(pools, picks, strict=True):
        if pool.correct and one.best_reward <= 0:
            raise ValueError(f"pool {pool.id}: candidates {pool.correct} are correct, but no reward is above 0")
    correct, selected, best = np.array(picks, dtype=np.float64).reshape(-1, 3).T
    answerable = np.array([bool(pool.correct) for pool in pools])
    everywhere = np.ones(len(pools))
    ratio = np.divide(selected, best, out=np.zeros(len(pools)), where=answerable)
    return {
        "accuracy": Metric(correct, everywhere),
        "reward_ratio": Metric(ratio, answerable.astype(np.float64)),
        "average_reward": Metric(selected, everywhere),
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
