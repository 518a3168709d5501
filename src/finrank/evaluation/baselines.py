"""Scorers that understand nothing: what a model must beat before its figures mean anything.

Each gives scores [candidates] per pool that pass through the metrics like a model's, except `chance`, which
is worked out from the pool directly, so that it checks the metrics (a constant scorer must come out the
same).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from finrank.evaluation.metrics import FloatArray, Metric, Pick, metrics_of_picks
from finrank.records import Answer, RewardedPool, answer_key

# Distances lie in [0, 1]; a failed candidate scores below every mean distance.
_FAILED = -2.0


def chance(pools: Sequence[RewardedPool]) -> dict[str, Metric]:
    """The metrics expected from a uniformly random pick."""
    return metrics_of_picks(
        pools,
        [
            Pick(
                correct=len(pool.correct) / len(pool.candidates),
                selected_reward=math.fsum(pool.rewards) / len(pool.rewards),
                best_reward=max(pool.rewards),
            )
            for pool in pools
        ],
    )


def constant(pool: RewardedPool) -> FloatArray:
    """The same score for all candidates: what a model that ignores its input gives."""
    return np.zeros(len(pool.candidates))


def oracle(pool: RewardedPool) -> FloatArray:
    """The rewards themselves: the best that any scorer can reach on this pool."""
    return np.array(pool.rewards, dtype=np.float64)


def medoid(pool: RewardedPool) -> FloatArray:
    """Minus the mean distance of a candidate's value to the others': the highest lies in the middle.

    Finds gold without reading anything where the others were made by editing gold. Failed candidates come
    last.
    """
    answers = [candidate.answer for candidate in pool.candidates]
    scores = []
    for index, answer in enumerate(answers):
        distances = [answer_distance(answer, other) for place, other in enumerate(answers) if place != index]
        # Rounded, so that two values at the same mean distance tie whatever the order of summing.
        mean = round(math.fsum(distances) / max(len(distances), 1), 12)
        scores.append(_FAILED if answer is None else -mean)
    return np.array(scores)


def answer_distance(first: Answer | None, second: Answer | None) -> float:
    """Symmetric distance of two answers in [0, 1]: |a - b| / (|a| + |b|) for numbers, else 0 or 1.

    The formula for numbers is the Canberra distance. A number is 1 away from "yes" and "no", "yes" is 1 away
    from "no", and a failed candidate 1 away from everything.

    >>> answer_distance(3.0, 1.0), answer_distance(0.0, 0.0), answer_distance("yes", "no")
    (0.5, 0.0, 1.0)
    """
    if first is None or second is None:
        return 1.0
    if isinstance(first, str) or isinstance(second, str):
        return 0.0 if first == second else 1.0
    if first == second:
        return 0.0
    first, second = first / 2, second / 2  # the sum of two huge values must not overflow
    return abs(first - second) / (abs(first) + abs(second))


def majority_vote(pools: Sequence[RewardedPool]) -> list[FloatArray] | None:
    """The number of candidates with the same value, per candidate and pool; a failed candidate has no votes.

    None where no pool has a repeated value: voting does not apply.
    """
    votes = [_votes(pool) for pool in pools]
    return votes if any((own > 1).any() for own in votes) else None


def _votes(pool: RewardedPool) -> FloatArray:
    keys = [None if c.answer is None else answer_key(c.answer) for c in pool.candidates]
    counts = Counter(keys)
    return np.array([0.0 if key is None else float(counts[key]) for key in keys])
