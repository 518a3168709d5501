"""A linear listwise model on binary features: softmax over each pool, cross-entropy on the correct candidates, L2.

The loss of weights w over pools with candidates x_1 .. x_N is

    sum over pools of  log(sum_i exp(w x_i)) - mean over correct c of w x_c   +   l2 / 2 * |w|^2

(the conditional logit of McFadden, 1974). It is minimised by Newton's method with conjugate gradients (Nocedal and
Wright, "Numerical Optimization", 2006, section 7.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finrank.evaluation.metrics import FloatArray

SEEN_AT_LEAST = 3  # rarer features are left out
_NEWTON_STEPS = 30
_CONJUGATE_STEPS = 40
_TOLERANCE = 1e-4  # gradient norm, relative to the one at zero weights


@dataclass(frozen=True)
class PoolFeatures:
    """The features of one pool's candidates, and the indices of the correct ones (may be empty)."""

    candidates: list[list[str]]
    correct: list[int]


def vocabulary(pools: Sequence[PoolFeatures]) -> dict[str, int]:
    """Column of each feature seen often enough, in sorted order."""
    counts = Counter(name for pool in pools for names in pool.candidates for name in names)
    names = sorted(name for name, count in counts.items() if count >= SEEN_AT_LEAST)
    return {name: column for column, name in enumerate(names)}


class Design:
    """Pools as one sparse binary matrix [rows = all candidates, columns = features], pools one after another."""

    def __init__(self, pools: Sequence[PoolFeatures], columns: dict[str, int]) -> None:
        rows = [[columns[name] for name in names if name in columns] for pool in pools for names in pool.candidates]
        sizes = np.array([len(pool.candidates) for pool in pools], dtype=np.int64)
        self.n_rows, self.n_columns = len(rows), len(columns)
        self.row = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        self.column = np.array([column for row in rows for column in row], dtype=np.int64)
        self.pool = np.repeat(np.arange(len(pools)), sizes)
        self.starts = np.cumsum(sizes) - sizes
        self.target = np.zeros(self.n_rows)
        for pool, start in zip(pools, self.starts.tolist(), strict=True):
            self.target[[start + index for index in pool.correct]] = 1 / max(len(pool.correct), 1)

    def times(self, weights: FloatArray) -> FloatArray:
        return np.bincount(self.row, weights[self.column], self.n_rows).astype(np.float64, copy=False)

    def transposed_times(self, values: FloatArray) -> FloatArray:
        return np.bincount(self.column, values[self.row], self.n_columns).astype(np.float64, copy=False)

    def log_softmax(self, scores: FloatArray) -> FloatArray:
        """Log-probability of each row within its pool."""
        shifted = scores - np.maximum.reduceat(scores, self.starts)[self.pool]
        return shifted - np.log(np.add.reduceat(np.exp(shifted), self.starts))[self.pool]

    def loss(self, weights: FloatArray) -> float:
        """Cross-entropy summed over pools, without the L2 term."""
        return -float(self.target @ self.log_softmax(self.times(weights)))


def fit(design: Design, l2: float, start: FloatArray | None = None) -> FloatArray:
    """The weights [columns] that minimise the loss; `start` is where to begin (another L2's solution)."""
    weights = np.zeros(design.n_columns) if start is None else start
    uniform = np.exp(design.log_softmax(np.zeros(design.n_rows)))
    smallest = _TOLERANCE * float(np.linalg.norm(design.transposed_times(uniform - design.target)))

    def objective(at: FloatArray) -> float:
        return design.loss(at) + l2 / 2 * float(at @ at)

    current = objective(weights)
    for _ in range(_NEWTON_STEPS):
        probability = np.exp(design.log_softmax(design.times(weights)))
        gradient = design.transposed_times(probability - design.target) + l2 * weights
        if float(np.linalg.norm(gradient)) <= smallest:
            break
        step = _newton_step(design, probability, gradient, l2)
        slope, size = float(gradient @ step), 1.0
        while (new := objective(weights + size * step)) > current + 1e-4 * size * slope and size > 1e-6:
            size /= 2
        if new >= current:
            break  # as low as rounding allows
        weights, current = weights + size * step, new
    return weights


def _newton_step(design: Design, probability: FloatArray, gradient: FloatArray, l2: float) -> FloatArray:
    """About -H^-1 gradient, by conjugate gradients; H v = X'(p (Xv - mean of Xv in the pool under p)) + l2 v."""
    step = np.zeros_like(gradient)
    residual = -gradient
    direction = residual
    squared = float(residual @ residual)
    # Looser far from the minimum: the forcing term of the inexact Newton method.
    enough = squared * min(0.25, squared**0.5)
    for _ in range(_CONJUGATE_STEPS):
        along = design.times(direction)
        mean = np.add.reduceat(probability * along, design.starts)[design.pool]
        product = design.transposed_times(probability * (along - mean)) + l2 * direction
        size = squared / float(direction @ product)
        step = step + size * direction
        residual = residual - size * product
        before, squared = squared, float(residual @ residual)
        if squared <= enough:
            break
        direction = residual + squared / before * direction
    return step
