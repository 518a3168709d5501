"""Whether a scorer picks places rather than answers: picked positions, accuracy by position, order of candidates."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from finrank.evaluation.audit.gold_places import chi_square_p_value
from finrank.evaluation.intervals import subset_intervals
from finrank.evaluation.metrics import FloatArray, Metric, pick_probabilities
from finrank.records import RewardedPool

# When a model is said to pick a position rather than an answer.
POSITION_SHARE = 0.6
POSITION_MIN_CANDIDATES = 4
POSITION_MIN_POOLS = 20

ORDER_SAMPLE = 32  # pools whose candidates are scored again in another order

Score = Callable[[Sequence[RewardedPool]], Sequence[np.ndarray]]


def picked_positions(pools: Sequence[RewardedPool], scores: Sequence[FloatArray]) -> dict[str, Any]:
    """How often each position (from 0) is picked: "picks", ties in equal shares.

    "share" is that of the "most" picked position among the "pools" of at least 4 candidates; "warning" is a sentence
    when it is over 60 % of at least 20 such pools, else None.
    """
    picks = np.zeros(max(len(pool.candidates) for pool in pools))
    in_large, right_in_large, large = np.zeros_like(picks), np.zeros_like(picks), 0
    for pool, own in zip(pools, scores, strict=True):
        share = pick_probabilities(own)
        picks[: len(share)] += share
        if len(share) >= POSITION_MIN_CANDIDATES:
            large += 1
            in_large[: len(share)] += share
            right_in_large[pool.correct] += 1
    most = int(in_large.argmax())
    share_of_most = float(in_large[most]) / large if large else 0.0
    warning = None
    if large >= POSITION_MIN_POOLS and share_of_most > POSITION_SHARE:
        warning = (
            f"{share_of_most:.0%} of the picks are at position {most} (counted from 0), where "
            f"{right_in_large[most] / large:.0%} of the pools have a correct candidate: the model picks a "
            "place, not an answer, or the pools are not shuffled; "
            "run step 02 again and train on shuffled candidates"
        )
    return {
        "picks": [round(count, 6) for count in picks.tolist()],
        "pools": large,
        "most": most if large else None,
        "share": round(share_of_most, 6),
        "warning": warning,
    }


def position_bias(
    pools: Sequence[RewardedPool], scores: Sequence[FloatArray], accuracy: Metric, *, seed: int
) -> dict[str, Any]:
    """Accuracy by the place of the best candidate, and where the picks lie, against all places being as likely.

    "best_positions" is a list of {"position" (from 0), "n" (pools; one with several correct candidates counts in equal
    shares at each), "accuracy", "interval"}, "picked" the share of the picks at each position, and "p_value" that of a
    chi-square test against picks at every place of a pool alike (None for too few pools).
    """
    longest = max(len(pool.candidates) for pool in pools)
    picked, expected, best = np.zeros(longest), np.zeros(longest), np.zeros((longest, len(pools)))
    for number, (pool, own) in enumerate(zip(pools, scores, strict=True)):
        picked[: len(own)] += pick_probabilities(own)
        expected[: len(own)] += 1 / len(own)
        best[pool.correct, number] = 1 / max(len(pool.correct), 1)
    at_position = {str(place): Metric(accuracy.values, best[place]) for place in range(longest) if best[place].any()}
    intervals = subset_intervals(at_position, [pool.page for pool in pools], seed=seed)
    p_value = chi_square_p_value(picked, expected)
    return {
        "best_positions": [
            {
                "position": int(place),
                "n": round(float(metric.weights.sum()), 6),
                "accuracy": metric.mean(),
                "interval": intervals[place],
            }
            for place, metric in at_position.items()
        ],
        "picked": [round(share, 6) for share in (picked / len(pools)).tolist()],
        "p_value": None if p_value is None else float(f"{p_value:.4g}"),
    }


def order_invariance(
    pools: Sequence[RewardedPool], scores: Sequence[FloatArray], score: Score, *, seed: int
) -> dict[str, Any]:
    """Score a sample of the pools with their candidates reversed, and shuffled, and compare with `scores`.

    `score` gives the model's scores of pools. Returns {"checked": number of pools, "max_difference": of any candidate's
    score from its score in the stored order}. A model that sees candidates apart from each other differs by rounding.
    """
    rng = random.Random(seed)
    sample = sorted(rng.sample(range(len(pools)), min(ORDER_SAMPLE, len(pools))))
    orders = []
    for index in sample:
        stored = list(range(len(pools[index].candidates)))
        orders += [(index, stored[::-1]), (index, rng.sample(stored, len(stored)))]
    again = score([reordered(pools[index], order) for index, order in orders])
    differences = [
        float(np.abs(np.asarray(own) - np.asarray(scores[index])[order]).max())
        for (index, order), own in zip(orders, again, strict=True)
    ]
    return {"checked": len(sample), "max_difference": max(differences)}


def reordered(pool: RewardedPool, order: Sequence[int]) -> RewardedPool:
    """The pool with its candidates in another order: `order` holds their places in `pool`."""
    return pool.model_copy(
        update={
            "candidates": [pool.candidates[old] for old in order],
            "rewards": [pool.rewards[old] for old in order],
            "components": [pool.components[old] for old in order],
            "correct": [new for new, old in enumerate(order) if old in pool.correct],
        }
    )
