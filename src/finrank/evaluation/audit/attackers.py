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
from finrank.evaluation.audit.medoids import BY_TEXT, BY_VALUE, farthest
from finrank.evaluation.metrics import FloatArray, pick_probabilities
from finrank.programs.value import same_answer
from finrank.records import Pool, RewardedPool

# Fits on some pools (first) and scores others (second): an array per pool of the second.
FittedScorer = Callable[[Sequence[Pool], Sequence[Pool]], list[FloatArray]]

KINDS = {"value": BY_VALUE, "text": BY_TEXT}

# L2 penalties tried, from strong to weak, each fit starting from the one before.
PENALTIES = (30.0, 10.0, 3.0, 1.0, 0.3)
_PENALTY_FOLDS = 3


def correct_indices(pool: Pool) -> list[int]:
    """Indices of the correct candidates: as rewarded, else those whose value is the gold answer."""
    if isinstance(pool, RewardedPool):
        return pool.correct
    return [index for index, one in enumerate(pool.candidates) if same_answer(one.answer, pool.answer)]


def accuracies(pools: Sequence[Pool], scores: Sequence[FloatArray]) -> FloatArray:
    """Probability that the pick of each pool is correct [pools], ties by expectation; 0 where none is correct."""
    return np.array(
        [pick_probabilities(own)[correct_indices(pool)].sum() for pool, own in zip(pools, scores, strict=True)]
    )


def linear_accuracy(train: Sequence[Pool], audited: Sequence[Pool], *, seed: int = 0) -> float:
    """The share of `audited` in which the linear attacker, fitted on `train`, finds a correct candidate."""
    return float(accuracies(audited, linear_scores(train, audited, seed=seed)).mean())


def linear_scores(train: Sequence[Pool], audited: Sequence[Pool], *, seed: int = 0) -> list[FloatArray]:
    """Scores of a linear model on each candidate's own program and value, fitted on `train` (see `_fitted_scores`)."""
    return _fitted_scores(pool_features, train, audited, seed)


def combined_scores(train: Sequence[Pool], audited: Sequence[Pool], *, seed: int = 0) -> list[FloatArray]:
    """The same, seeing the ranks under all medoids too: cues that are even one by one may tell gold together."""
    return _fitted_scores(_features_and_ranks, train, audited, seed)


def _fitted_scores(
    features: Callable[[Pool], PoolFeatures], train: Sequence[Pool], audited: Sequence[Pool], seed: int
) -> list[FloatArray]:
    """Fit on `train`, with the L2 penalty that is best on held-out pages of it, and score `audited`.

    Train pools without a correct candidate teach nothing; where no other is there, all scores are 0. Raises
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
    """Raises ValueError when a page is in both: an attacker must not have seen what it is measured on."""
    if shared := {pool.page for pool in train} & {pool.page for pool in audited}:
        raise ValueError(f"page {min(shared)} is in both train and audited pools: use cross_fitted")


def pool_features(pool: Pool) -> PoolFeatures:
    """What the linear attacker sees of a pool."""
    return PoolFeatures([features_of(candidate) for candidate in pool.candidates], correct_indices(pool))


def _features_and_ranks(pool: Pool) -> PoolFeatures:
    seen = pool_features(pool)
    names = [list(own) for own in seen.candidates]
    for kind, scores_of in medoid_scores(pool).items():
        for distance, scores in scores_of.items():
            # Ranks from the nearest and from the farthest, equal ones alike.
            for own, score in zip(names, scores.tolist(), strict=True):
                own.append(f"{kind} {distance}: {(scores > score).sum()} nearer")
                own.append(f"{kind} {distance}: {(scores < score).sum()} farther")
    return PoolFeatures(names, seen.correct)


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
        for place, penalty in enumerate(PENALTIES):
            weights = fit(fitted, penalty, weights)
            losses[place] += left.loss(weights)
    return PENALTIES[int(losses.argmin())]


def page_folds(pages: Sequence[str], n_folds: int, seed: int) -> list[list[int]]:
    """Indices of pools in folds that cut through no page; empty folds (fewer pages than folds) are left out."""
    names = sorted(set(pages))
    shuffled = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[place]: number % n_folds for number, place in enumerate(shuffled.tolist())}
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


def medoid_scores(pool: Pool) -> dict[str, dict[str, FloatArray]]:
    """Scores [candidates] of every medoid: {"value": {distance: scores}, "text": {distance: scores}}."""
    return {kind: {name: scorer(pool) for name, scorer in scorers.items()} for kind, scorers in KINDS.items()}


def scores_by_medoid(pools: Sequence[Pool]) -> dict[str, dict[str, list[FloatArray]]]:
    """The same for many pools: {"value": {distance: scores of each pool}, "text": {distance: scores of each pool}}."""
    by_pool = [medoid_scores(pool) for pool in pools]
    return {kind: {name: [own[kind][name] for own in by_pool] for name in names} for kind, names in KINDS.items()}


def medoid_hits(pools: Sequence[Pool], scores: Sequence[FloatArray], *, anti: bool = False) -> FloatArray:
    """`accuracies` of the medoid with these scores, or of its anti-medoid [pools]."""
    far = [farthest(pool, own) for pool, own in zip(pools, scores, strict=True)] if anti else scores
    return accuracies(pools, far)


def medoid_accuracies(pools: Sequence[Pool], *, anti: bool = False) -> dict[str, dict[str, float]]:
    """Accuracy of every medoid, or of the anti-medoids: {"value": {distance: accuracy}, "text": {...}}."""
    return {
        kind: {name: float(medoid_hits(pools, scores, anti=anti).mean()) for name, scores in by_distance.items()}
        for kind, by_distance in scores_by_medoid(pools).items()
    }
