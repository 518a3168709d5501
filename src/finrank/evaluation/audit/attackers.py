"""Attackers: scorers that find gold without question and page, where a pool reveals it.

    linear      a linear listwise model on each candidate's own program and value, fitted on other pages
    combined    the same, with each candidate's rank under every medoid as further features
    medoid      the candidate nearest to its siblings, by value or by program text, in several distances
    anti-medoid the one farthest from them: a gold that is never in the middle is as easy to find

All take pools with or without rewards. Scores are arrays [candidates], the highest picked, ties in equal shares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

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


def medoid_accuracies(
    pools: Sequence[Pool], scores: Mapping[str, Mapping[str, Sequence[FloatArray]]]
) -> dict[str, dict[str, FloatArray]]:
    """`accuracies` of medoids and anti-medoids by kind and distance; `scores` are the `medoid_scores` of the pools."""
    return {
        f"{prefix}medoid_{kind}": {
            name: accuracies(pools, anti_scores(pools, of_pools) if prefix else of_pools)
            for name, of_pools in by_distance.items()
        }
        for prefix in ("", "anti_")
        for kind, by_distance in scores.items()
    }


def pool_features(pool: Pool) -> PoolFeatures:
    """The features of each candidate's own program and value."""
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


def linear_scores(
    train: Sequence[Pool],
    audited: Sequence[Pool],
    *,
    seed: int = 0,
    features: Callable[[Pool], PoolFeatures] = pool_features,
) -> list[FloatArray]:
    """Scores of a linear model fitted on `train`, with the L2 penalty that is best on held-out pages of it.

    All are 0 where no train pool has a correct candidate. Raises ValueError when a page is in both (use
    `cross_fitted`).
    """
    check_disjoint(train, audited)
    answerable = [pool for pool in train if correct_indices(pool)]
    if not answerable:
        return [np.zeros(len(pool.candidates)) for pool in audited]
    seen = [features(pool) for pool in answerable]
    columns = vocabulary(seen)
    penalty = _best_penalty(seen, page_folds([pool.page for pool in answerable], _PENALTY_FOLDS, seed), columns)
    weights = fit(Design(seen, columns), penalty)
    design = Design([features(pool) for pool in audited], columns)
    # Rounded, so that candidates of equal features tie.
    return np.split(design.times(weights).round(9), design.starts[1:])


# Cues that are even one by one may reveal gold together.
combined_scores = partial(linear_scores, features=_features_and_ranks)


def check_disjoint(train: Sequence[Pool], audited: Sequence[Pool]) -> None:
    """Raises ValueError when a page is in both: an attacker must not have seen the pages it is measured on."""
    if shared := {pool.page for pool in train} & {pool.page for pool in audited}:
        raise ValueError(f"page {min(shared)} is in both train and audited pools: use cross_fitted")


def _best_penalty(pools: list[PoolFeatures], folds: list[list[int]], columns: dict[str, int]) -> float:
    if len(folds) < 2:
        return PENALTIES[0]
    losses = np.zeros(len(PENALTIES))
    for held_out in folds:
        fitted = Design([pools[index] for index in sorted(set(range(len(pools))) - set(held_out))], columns)
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
    """Scores of every pool, in order, by a scorer fitted on other pages; on none where all pools are of one page."""
    scores: dict[int, FloatArray] = {}
    for fold in page_folds([pool.page for pool in pools], n_folds, seed):
        held_out = set(fold)
        others = [pool for index, pool in enumerate(pools) if index not in held_out]
        scores.update(zip(fold, scorer(others, [pools[index] for index in fold]), strict=True))
    return [scores[index] for index in range(len(pools))]
