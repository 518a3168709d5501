"""Where gold lies, in the order of its pool and in the order of a scorer, and whether every place is as likely.

A gold that is never in the middle of its pool gives itself away as much as one that always is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from finrank.evaluation.audit.attackers import correct_indices
from finrank.evaluation.metrics import FloatArray
from finrank.records import Pool

_SMALLEST_EXPECTED = 5.0  # the chi-square approximation wants at least this count in each cell


def gold_positions(pools: Sequence[Pool]) -> dict[str, Any]:
    """How often gold stands first, second, ... in its pool: "counts", "expected" and "p_value" (see `_tested`).

    Each of several correct candidates counts in equal shares; pools without one are left out.
    """
    observed = np.zeros(max(len(pool.candidates) for pool in pools))
    expected = np.zeros_like(observed)
    for pool in pools:
        if correct := correct_indices(pool):
            observed[correct] += 1 / len(correct)
            expected[: len(pool.candidates)] += 1 / len(pool.candidates)
    return _tested("counts", observed, expected)


def gold_ranks(pools: Sequence[Pool], scores: Sequence[FloatArray]) -> dict[str, Any]:
    """How often gold has the highest score of its pool, the second highest, ...: "shares", "expected" and "p_value".

    Candidates without a value are left out; tied scores share their ranks, so that the p-value errs on the safe side.
    """
    observed = np.zeros(max(len(pool.candidates) for pool in pools))
    expected = np.zeros_like(observed)
    for pool, own in zip(pools, scores, strict=True):
        alive = own[[candidate.answer is not None for candidate in pool.candidates]]
        correct = correct_indices(pool)
        for index in correct:
            higher, equal = int((alive > own[index]).sum()), int((alive == own[index]).sum())
            observed[higher : higher + equal] += 1 / (equal * len(correct))
        if correct:
            expected[: len(alive)] += 1 / len(alive)
    result = _tested("shares", observed, expected)
    total = observed.sum() or 1.0
    return {**result, "shares": (observed / total).round(6).tolist(), "expected": (expected / total).round(6).tolist()}


def _tested(name: str, observed: FloatArray, expected: FloatArray) -> dict[str, Any]:
    """Both as lists, and the p-value of a chi-square test that gold lies anywhere with equal probability."""
    p_value = chi_square_p_value(observed, expected)
    return {
        name: observed.round(6).tolist(),
        "expected": expected.round(6).tolist(),
        "p_value": None if p_value is None else float(f"{p_value:.4g}"),
    }


def chi_square_p_value(observed: FloatArray, expected: FloatArray) -> float | None:
    """Pearson's goodness-of-fit test: the probability of counts at least as far from the expected ones.

    Cells expected to hold fewer than 5 are joined with the one before; None where fewer than two cells are left.

    >>> round(chi_square_p_value(np.array([30.0, 10.0]), np.array([20.0, 20.0])), 6)
    0.001565
    """
    cells: list[list[float]] = []
    for seen, wanted in zip(observed.tolist(), expected.tolist(), strict=True):
        if cells and (wanted < _SMALLEST_EXPECTED or cells[-1][1] < _SMALLEST_EXPECTED):
            cells[-1] = [cells[-1][0] + seen, cells[-1][1] + wanted]
        else:
            cells.append([seen, wanted])
    if len(cells) < 2:
        return None
    return _chi_square_tail(sum((seen - wanted) ** 2 / wanted for seen, wanted in cells), len(cells) - 1)


def _chi_square_tail(statistic: float, freedom: int) -> float:
    """P(chi-square with `freedom` degrees > statistic), by the recurrence of the incomplete gamma function.

    Q(a + 1, x) = Q(a, x) + x^a exp(-x) / Gamma(a + 1), from Q(1/2, x) = erfc(sqrt(x)) or Q(1, x) = exp(-x)
    (Abramowitz and Stegun, 6.5.21).
    """
    half = statistic / 2
    if half == 0:
        return 1.0
    a, tail = (0.5, math.erfc(math.sqrt(half))) if freedom % 2 else (1.0, math.exp(-half))
    while a < freedom / 2:
        tail += math.exp(a * math.log(half) - half - math.lgamma(a + 1))
        a += 1
    return min(1.0, tail)
