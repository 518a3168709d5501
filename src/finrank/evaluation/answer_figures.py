"""Figures about answers, where candidates come from systems: the first answer, and what it must beat.

vote            the answer that most candidates say, ties in equal shares
best_system     the answers of the one system that is right most often
systems_only    a weight per system, fitted on other pages: nothing is read
medoid          the answer of the candidate in the middle, by value
oracle          a right answer wherever there is one
fitted          the chooser, its weights fitted on other pages (`finrank fit` stores such weights)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from finrank.evaluation import baselines
from finrank.evaluation.fit_chooser import (
    ChooserPool,
    Scorer,
    choose,
    chooser_pool,
    cross_fitted,
    fit_chooser,
    who_said_it,
)
from finrank.evaluation.intervals import page_intervals, paired_sign_flip
from finrank.evaluation.metrics import FloatArray, Metric, pool_metrics
from finrank.evaluation.result import AnswerFigures, AnswerRow
from finrank.ranker.choosing.chooser import Chooser, is_proposal
from finrank.records import RewardedPool


def answer_figures(
    pools: Sequence[RewardedPool], scores: Sequence[ArrayLike], chooser: Chooser, *, seed: int = 0
) -> AnswerFigures | None:
    """The accuracy of the chooser's first answer and of what it must beat; None where no answer is said twice.

    `scores` holds an array [candidates] per pool. Ties count in equal shares.
    """
    seen = [chooser_pool(pool, pool_scores) for pool, pool_scores in zip(pools, scores, strict=True)]
    if not any((pool.votes > 1).any() for pool in seen):
        return None
    named = any(name for pool in seen for names in pool.systems for name in names)
    outcomes: dict[str, FloatArray | None] = {
        "first": _outcomes(seen, [choose(chooser, pool) for pool in seen]),
        "vote": _outcomes(seen, [pool.votes for pool in seen]),
        "best_system": _best_system(pools) if named else None,
        "systems_only": _outcomes(seen, cross_fitted(seen, who_said_it)) if named else None,
        "medoid": pool_metrics(pools, [baselines.medoid(pool) for pool in pools])["accuracy"].values,
        "oracle": np.array([float(pool.right.any()) for pool in seen]),
        "fitted": _outcomes(seen, cross_fitted(seen, _fitted)),
    }
    pages = [pool.page for pool in pools]
    known = {name: values for name, values in outcomes.items() if values is not None}
    intervals = page_intervals({name: _metric(values) for name, values in known.items()}, pages, seed=seed)
    first = known.pop("first")
    rows = {
        name: AnswerRow(
            accuracy=_metric(values).mean() or 0.0,
            interval=intervals[name] or [],
            p_value=paired_sign_flip(first, values, pages, seed=seed),
        )
        for name, values in known.items()
    }
    return AnswerFigures(
        accuracy=_metric(first).mean() or 0.0,
        interval=intervals["first"] or [],
        baselines={name: rows.get(name) for name in outcomes if name not in ("first", "fitted")},
        fitted=rows["fitted"],
    )


def first_answers(pools: Sequence[RewardedPool], scores: Sequence[ArrayLike], chooser: Chooser) -> Metric:
    """Whether [pools] the chooser's first answer is right by scores [candidates], ties in equal shares."""
    seen = [chooser_pool(*pair) for pair in zip(pools, scores, strict=True)]
    return _metric(_outcomes(seen, [choose(chooser, pool) for pool in seen]))


def _fitted(pools: Sequence[ChooserPool]) -> Scorer:
    chooser = fit_chooser(pools)
    return lambda pool: choose(chooser, pool)


def _metric(values: FloatArray) -> Metric:
    return Metric(values, np.ones(len(values)))


def _outcomes(pools: Sequence[ChooserPool], scores: Sequence[FloatArray]) -> FloatArray:
    """Whether [pools] the answer with the highest score is right, ties in equal shares."""
    return np.array(
        [
            float(pool.right[of_pool == of_pool.max()].mean()) if len(of_pool) else 0.0
            for pool, of_pool in zip(pools, scores, strict=True)
        ]
    )


def _best_system(pools: Sequence[RewardedPool]) -> FloatArray:
    """Whether [pools] the system that is right most often is right; wrong where it says nothing."""
    right: dict[str, FloatArray] = {}
    for index, pool in enumerate(pools):
        own: dict[str, list[bool]] = {}
        for position, candidate in enumerate(pool.candidates):
            if candidate.model is not None and not is_proposal(candidate):
                own.setdefault(candidate.model, []).append(position in pool.correct)
        for name, outcomes in own.items():
            right.setdefault(name, np.zeros(len(pools)))[index] = math.fsum(outcomes) / len(outcomes)
    best = max(sorted(right), key=lambda name: right[name].sum())
    return right[best]
