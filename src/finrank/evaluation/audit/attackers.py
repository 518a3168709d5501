"""Attackers: scorers that find gold without question and page, where a pool gives it away.

    linear      a linear listwise model on each candidate's own program and value, fitted on other pages
    combined    the same, that sees each candidate's rank under every medoid too
    medoid      the candidate nearest to its siblings, by value or by program text, in several distances
    anti-medoid the one farthest from them: a gold that is never in the middle gives itself away as well

All take pools with or without rewards. Scores are arrays [candidates], the highest picked, ties in equal shares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from finrank.evaluation.audit.features import features_of
from finrank.evaluation.audit.linear import Design, PoolFeatures, fit, vocabulary
from finrank.evaluation.audit.medoids import anti_scores, medoid_scores
from finrank.evaluation.metrics import FloatArray, executing_candidates, pick_probabilities
from finrank.records import Pool, RewardedPool

# Fits on some pools (first) and scores others (second): an array per pool of the second.
FittedScorer = Callable[[Sequence[Pool], Sequence[Pool]], list[FloatArray]]

# L2 penalties tried, from strong to weak, each fit starting from the one before.
PENALTIES = (30.0, 10.0, 3.0, 1.0, 0.3)
_PENALTY_FOLDS = 3


def correct_indices(pool: Pool) -> list[int]:
    """Indices of the correct candidates: as rewarded, else those whose value is the gold answer."""
    return pool.correct if isinstance(pool, RewardedPool) else executing_candidates(pool)


def accuracies(pools: Sequence[Pool], scores: Sequence[FloatArray]) -> FloatArray:
    """Probability that the pick of each pool is correct [pools], ties by expectation; 0 where none is correct."""
    pairs = zip(pools, scores, strict=True)
    return np.array([pick_probabilities(pool_scores)[correct_indices(pool)].sum() for pool, pool_scores in pairs])


def linear_accuracy(train: Sequence[Pool], audited: Sequence[Pool], *, seed: int = 0) -> float:
    """The share of `audited` in which the linear attacker, fitted on `train`, finds a correct candidate."""
    return float(accuracies(audited, linear_scores(train, audited, seed=seed)).mean())


def linear_scores(train: Sequence[Pool], audited: Sequence[Pool], *, seed: int = 0) -> list[FloatArray]:
    """Scores of a linear model on each candidate's own program and value (see `_fitted_scores`)."""
    return _fitted_scores(pool_features, train, audited, seed)


def combined_scores(train: Sequence[Pool], audited: Sequence[Pool], *, seed: int = 0) -> list[FloatArray]:
    """The same, seeing the ranks under all medoids too: cues that are even one by one may reveal gold together."""
    return _fitted_scores(_features_and_ranks, train, audited, seed)


def _fitted_scores(
    features: Callable[[Pool], PoolFeatures], train: Sequence[Pool], audited: Sequence[Pool], seed: int
) -> list[FloatArray]:
    """Fit on `train`, with the L2 penalty that is best on held-out pages of it, and score `audited`.

    Train pools without a correct candidate teach nothing; where there are no others, all scores are 0. Raises
    ValueError when a page is in both (use `cross_fitted`).
    """
    check_disjoint(train, audited)
    teaching = [pool for pool in train if correct_indices(pool)]
    if not teaching:
        return [np.zeros(len(pool.candidates)) for pool in audited]
    seen = [features(pool) for pool in teaching]
    columns = vocabulary(seen)
    penalty = _best_penalty(seen, page_folds([pool.page for pool in teaching], _PENALTY_FOLDS, seed), columns)
    weights = fit(Design(seen, columns), penalty)
    design = Design([features(pool) for pool in audited], columns)
    # Rounded, so that candidates of equal features tie.
    return np.split(design.times(weights).round(9), design.starts[1:])


def check_disjoint(train: Sequence[Pool], audited: Sequence[Pool]) -> None:
    """Raises ValueError when a page is in both: an attacker must not have seen the pages it is measured on."""
    if shared := {pool.page for pool in train} & {pool.page for pool in audited}:
        raise ValueError(f"page {min(shared)} is in both train and audited pools: use cross_fitted")


def pool_features(pool: Pool) -> PoolFeatures:
    """The features that the linear attacker sees of a pool."""
    return PoolFeatures([features_of(candidate) for candidate in pool.candidates], correct_indices(pool))


def _features_and_ranks(pool: Pool) -> PoolFeatures:
    seen = pool_features(pool)
    for kind, by_distance in medoid_scores([pool]).items():
        for distance, (scores,) in by_distance.items():
            # Ranks from the nearest and from the farthest, equal ones alike.
            for names, score in zip(seen.candidates, scores.tolist(), strict=True):
                names.append(f"{kind} {distance}: {(scores > score).sum()} nearer")
                names.append(f"{kind} {distance}: {(scores < score).sum()} farther")
    return seen


def _best_penalty(pools: list[PoolFeatures], folds: list[list[int]], columns: dict[str, int]) -> float:
    """The penalty with the smallest cross-entropy on held-out pages."""
    if len(folds) < 2:
        return PENALTIES[0]
    losses = np.zeros(len(PENALTIES))
    for held_out in folds:
        out = set(held_out)
        fitted = Design([pool for index, pool in enumerate(pools) if index not in out], columns)
        left = Design([pools[index] for index in held_out], columns)
        weights = None
        for index, penalty in enumerate(PENALTIES):
            weights = fit(fitted, penalty, weights)
            losses[index] += left.loss(weights)
    return PENALTIES[int(losses.argmin())]


def page_folds(pages: Sequence[str], n_folds: int, seed: int) -> list[list[int]]:
    """Indices of pools in folds that cut through no page; empty folds (fewer pages than folds) are left out."""
    names = sorted(set(pages))
    shuffled = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[index]: number % n_folds for number, index in enumerate(shuffled.tolist())}
    folds = [[index for index, page in enumerate(pages) if fold_of[page] == fold] for fold in range(n_folds)]
    return [fold for fold in folds if fold]


def cross_fitted(pools: Sequence[Pool], scorer: FittedScorer, *, n_folds: int = 5, seed: int = 0) -> list[FloatArray]:
    """Scores of every pool by a scorer fitted on other pages of the same pools (an array per pool, in order).

    Where all pools are of one page there is nothing to fit on: the scorer is called with no pools.
    """
    scores: dict[int, FloatArray] = {}
    for fold in page_folds([pool.page for pool in pools], n_folds, seed):
        held_out = set(fold)
        others = [pool for index, pool in enumerate(pools) if index not in held_out]
        scores.update(zip(fold, scorer(others, [pools[index] for index in fold]), strict=True))
    return [scores[index] for index in range(len(pools))]


def medoid_accuracies(pools: Sequence[Pool], *, anti: bool = False) -> dict[str, dict[str, float]]:
    """Accuracy of every medoid, or of every anti-medoid, by kind ("value", "text") and distance."""
    return {
        kind: {
            name: float(accuracies(pools, anti_scores(pools, scores) if anti else scores).mean())
            for name, scores in by_distance.items()
        }
        for kind, by_distance in medoid_scores(pools).items()
    }
