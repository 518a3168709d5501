"""Measures of a whole ranking, exact in expectation over tied scores: reciprocal rank and discounted gain.

Candidates that share a score are in any order with equal probability. The expectation over those orders has a
closed form for both measures, so nothing is drawn (McSherry & Najork, "Computing Information Retrieval Performance
Measures Efficiently in the Presence of Tied Scores", ECIR 2008).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from functools import lru_cache


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


def chance_reciprocal_rank(size: int, right: int) -> float:
    """Expected 1 / rank of the first of `right` correct candidates among `size` in random order.

    Derived differently from `reciprocal_rank`, as a check of it: summed over the probabilities that the first correct
    one is among the first i, 1 - C(size - i, right) / C(size, right).

    >>> chance_reciprocal_rank(2, 1)
    0.75
    """
    if right == 0:
        return 0.0
    reached = (
        1 - math.prod((size - first - other) / (size - other) for other in range(right)) for first in range(1, size)
    )
    return 1 / size + math.fsum(chance * (1 / first - 1 / (first + 1)) for first, chance in enumerate(reached, start=1))


def chance_discounted_gain(gains: Sequence[float]) -> float:
    """The discounted gain expected of a random ranking: the mean gain at every rank."""
    return math.fsum(gains) / len(gains) * math.fsum(_discounts(len(gains)))


@lru_cache(maxsize=4096)
def _discounts(size: int) -> tuple[float, ...]:
    """1 / log2(1 + rank) for the ranks 1 to size (Burges et al., "Learning to rank using gradient descent", 2005)."""
    return tuple(1 / math.log2(1 + rank) for rank in range(1, size + 1))
