"""Single rankings to look at, with all that one needs to see what went right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finrank.evaluation.metrics import FloatArray
from finrank.ranker.answers import group_equal_answers, temper
from finrank.records import RewardedPool

MOST_MISTAKES = 50
EXAMPLES = 8


def confident_mistakes(
    pools: Sequence[RewardedPool], scores: Sequence[FloatArray], *, temperature: float = 1.0
) -> list[dict[str, Any]]:
    """At most 50 pools that have a correct candidate and in which none has the highest score, most confident first."""
    wrong = [
        ranking(pool, own, temperature)
        for pool, own in zip(pools, scores, strict=True)
        if pool.correct and own[pool.correct].max() < own.max()
    ]
    return sorted(wrong, key=lambda one: (-one["confidence"], one["id"]))[:MOST_MISTAKES]


def examples(
    pools: Sequence[RewardedPool], scores: Sequence[FloatArray], *, temperature: float = 1.0
) -> list[dict[str, Any]]:
    """Eight pools (all, where there are fewer) evenly spaced through the split, whatever became of them."""
    places = sorted({number * len(pools) // EXAMPLES for number in range(EXAMPLES)})
    return [ranking(pools[place], scores[place], temperature) for place in places]


def ranking(pool: RewardedPool, scores: FloatArray, temperature: float = 1.0) -> dict[str, Any]:
    """One ranked pool as JSON values.

    {"id", "page", "question", "rows" (of the table), "text", "program" and "answer" (gold), "candidates": [{"program",
    "answer", "score", "probability", "reward", "origin", "edits"}], "picked" (index), "confidence"}. The probability of
    a candidate is that of its answer as `Ranker` gives it: equal answers pool theirs, and `temperature` comes after.
    The picked candidate has the highest score, and the confidence is its probability.
    """
    probabilities = _answer_probabilities(pool, scores, temperature)
    picked = int(scores.argmax())
    shown = zip(pool.candidates, scores.tolist(), probabilities, pool.rewards, strict=True)
    return {
        "id": pool.id,
        "page": pool.page,
        "question": pool.question,
        "rows": pool.table,
        "text": pool.text,
        "program": pool.program,
        "answer": pool.answer,
        "candidates": [
            {
                "program": candidate.program,
                "answer": candidate.answer,
                "score": round(score, 6),
                "probability": probability,
                "reward": reward,
                "origin": candidate.origin,
                "edits": candidate.edits,
            }
            for candidate, score, probability, reward in shown
        ],
        "picked": picked,
        "confidence": probabilities[picked],
    }


def _answer_probabilities(pool: RewardedPool, scores: FloatArray, temperature: float) -> list[float]:
    """The probability of each candidate's answer; over distinct answers, not over candidates, they sum to 1."""
    groups = group_equal_answers(pool.candidates, scores)
    probabilities = np.exp(temper(np.array([group.log_probability for group in groups]), temperature))
    of_candidate = np.empty(len(scores))
    for group, probability in zip(groups, probabilities.round(6).tolist(), strict=True):
        of_candidate[group.indices] = probability
    return list(of_candidate.tolist())
