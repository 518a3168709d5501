"""Fitting the chooser to labelled pools, and its accuracy on pages that it was not fitted on.

The weights maximise the likelihood of the right answers, the sum over pools of log(sum over right answers of
softmax(score)), less L2 penalties that shrink the weight of a system towards 0, the mean of all (McFadden's conditional
logit, 1974, with several right answers as in Jin & Ghahramani, "Learning with Multiple Labels", 2002). The ranker has a
weight too; all are divided by it, so that the ranker's own counts 1.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from finrank.evaluation.metrics import FloatArray, checked_scores
from finrank.ranker.choosing.answers import group_equal_answers
from finrank.ranker.choosing.chooser import DEFAULT_CHOOSER, FEATURES, Chooser, answer_features, who_says
from finrank.records import RewardedPool

FOLDS = 5
Scorer = Callable[["ChooserPool"], FloatArray]
"""Scores [answers] of a pool."""
_L2 = 3.0  # of the systems' weights
_L2_OF_FEATURES = 0.1
_LEAST_RANKER = 0.05  # a ranker that adds nothing still decides between answers that are equal in all else
_NEWTON_STEPS = 30


@dataclass(frozen=True)
class ChooserPool:
    """The scored answers of one pool: what the chooser looks at, and which of them are right."""

    page: str
    log_probabilities: FloatArray  # [answers], the ranker's
    features: FloatArray  # [answers, 4]
    systems: list[list[str]]  # that say each answer, "" for candidates that name none
    right: FloatArray  # [answers], 1 or 0

    @property
    def votes(self) -> FloatArray:
        """The number of candidates [answers] that say each answer, proposals left out."""
        return np.array([len(names) for names in self.systems], dtype=np.float64)


def chooser_pool(pool: RewardedPool, scores: ArrayLike) -> ChooserPool:
    """A pool as the chooser sees it, by the ranker's scores [candidates]."""
    groups = group_equal_answers(pool.candidates, checked_scores(pool, scores), pool.question)
    groups = [group for group in groups if group.log_probability > -math.inf]
    members = [group.indices for group in groups]
    answers = [pool.candidates[group.source].answer for group in groups]
    return ChooserPool(
        page=pool.page,
        log_probabilities=np.array([group.log_probability for group in groups]),
        features=answer_features(pool.candidates, members, answers),
        systems=[who_says(pool.candidates, indices) for indices in members],
        right=np.array([float(group.source in pool.correct) for group in groups]),
    )


def fit_chooser(pools: Sequence[ChooserPool]) -> Chooser:
    """The chooser that fits these pools; those without a right or a wrong answer say nothing."""
    names = sorted({name for pool in pools for names in pool.systems for name in names if name})
    designs = [
        (np.column_stack([pool.log_probabilities, pool.features, *_said(pool, names)]), pool.right) for pool in pools
    ]
    penalties = np.array([*[_L2_OF_FEATURES] * (1 + len(FEATURES)), *[_L2] * len(names)])
    weights = fit_weights(designs, penalties)
    weights /= max(weights[0], _LEAST_RANKER)
    rounded = [round(float(weight), 4) for weight in weights]
    fitted = dict(zip(FEATURES, rounded[1:], strict=False))
    if not any(pool.features[:, -1].any() for pool in pools):
        fitted["proposed"] = DEFAULT_CHOOSER.proposed  # nothing was proposed, which says nothing of its weight
    systems = dict(zip(names, rounded[1 + len(FEATURES) :], strict=True))
    return Chooser.model_validate({**fitted, "systems": systems})


def who_said_it(pools: Sequence[ChooserPool]) -> Scorer:
    """Scores [answers] of a pool by a weight per system, fitted on `pools`: nothing is read."""
    names = sorted({name for pool in pools for names in pool.systems for name in names})
    if not names:  # all pools are of one page, so that none are left to fit
        return lambda pool: np.zeros(len(pool.right))
    designs = [(np.column_stack(_said(pool, names)), pool.right) for pool in pools]
    weights = fit_weights(designs, np.full(len(names), _L2))
    return lambda pool: np.column_stack(_said(pool, names)) @ weights


def choose(chooser: Chooser, pool: ChooserPool) -> FloatArray:
    """The chooser's log-probabilities [answers] of a pool."""
    return chooser.adjust(pool.log_probabilities, pool.features, pool.systems)


def cross_fitted(pools: Sequence[ChooserPool], fit: Callable[[Sequence[ChooserPool]], Scorer]) -> list[FloatArray]:
    """Scores [answers] of each pool by what `fit` makes of the pools of other pages, in five folds of pages."""
    folds = [int(hashlib.sha256(pool.page.encode()).hexdigest(), 16) % FOLDS for pool in pools]
    scorers = {
        fold: fit([pool for pool, own in zip(pools, folds, strict=True) if own != fold]) for fold in sorted(set(folds))
    }
    return [scorers[fold](pool) for pool, fold in zip(pools, folds, strict=True)]


def _said(pool: ChooserPool, names: Sequence[str]) -> list[FloatArray]:
    """How often each system says each answer: one array [answers] per system."""
    return [np.array([said.count(name) for said in pool.systems], dtype=np.float64) for name in names]


def fit_weights(designs: Sequence[tuple[FloatArray, FloatArray]], penalties: FloatArray) -> FloatArray:
    """The weights [columns] of most penalised likelihood for designs ([answers, columns], right [answers]).

    By Newton's method on the bound that keeps the shares of several right answers fixed, which is concave.
    """
    telling = [(rows, right) for rows, right in designs if 0 < right.sum() < len(right)]
    weights = np.zeros(len(penalties))
    for _ in range(_NEWTON_STEPS):
        gradient, curvature = -penalties * weights, np.diag(penalties)
        for rows, right in telling:
            scores = rows @ weights
            share = np.exp(scores - scores.max())
            among_right = share * right / (share * right).sum() if (share * right).sum() > 0 else right / right.sum()
            share /= share.sum()
            mean = share @ rows
            gradient += among_right @ rows - mean
            curvature += (rows - mean).T @ ((rows - mean) * share[:, None])
        step = np.linalg.solve(curvature, gradient)
        weights = weights + step / max(1.0, float(np.abs(step).max()))
        if float(np.abs(step).max()) < 1e-6:
            break
    return weights
