"""Baselines: scorers without understanding, which a model must beat. Each returns scores [candidates] per pool."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from finrank.evaluation.metrics import FloatArray, Metric, pool_metrics
from finrank.pools.equal_answers import equal_answers
from finrank.ranker.choosing.chooser import is_proposal
from finrank.records import Answer, Candidate, Pool, RewardedPool

# Distances lie in [0, 1]; a failed candidate scores below every mean distance.
_FAILED = -2.0
_TOKEN = re.compile(r"[^\s(),]+")


def chance(pools: Sequence[RewardedPool]) -> dict[str, Metric]:
    """The metrics of equal scores: those expected of a random order, or of a random distinct answer."""
    metrics = pool_metrics(pools, [constant(pool) for pool in pools])
    return {**metrics, "accuracy_pooled": metrics["accuracy_max"]}


def constant(pool: Pool) -> FloatArray:
    """The same score for all candidates that have a value, as from a model that ignores its input; others are last."""
    return np.array([-np.inf if candidate.answer is None else 0.0 for candidate in pool.candidates])


def oracle(pool: RewardedPool) -> FloatArray:
    """The rewards themselves: the best that any scorer can reach on this pool."""
    return np.array(pool.rewards, dtype=np.float64)


def medoid(pool: Pool) -> FloatArray:
    """Minus the mean distance of a candidate's value to the others': the highest is in the middle."""
    return nearness(pool, lambda first, second: answer_distance(first.answer, second.answer))


def medoid_text(pool: Pool) -> FloatArray:
    """Minus the mean distance by program text: the share of tokens that a candidate does not have in common."""
    return nearness(pool, token_distance)


def nearness(pool: Pool, distance: Callable[[Candidate, Candidate], float]) -> FloatArray:
    """Minus the mean distance of each candidate to its siblings [candidates]; candidates without a value come last.

    `distance` is symmetric and in [0, 1].
    """
    candidates = pool.candidates
    distances = np.zeros((len(candidates), len(candidates)))
    for first, second in itertools.combinations(range(len(candidates)), 2):
        distances[first, second] = distances[second, first] = distance(candidates[first], candidates[second])
    siblings = max(len(candidates) - 1, 1)
    # Exact sums, rounded, so that two candidates at the same mean distance tie whatever the order of summing.
    means = [round(math.fsum(row) / siblings, 12) for row in distances.tolist()]
    pairs = zip(candidates, means, strict=True)
    return np.array([_FAILED if candidate.answer is None else -mean for candidate, mean in pairs])


def token_distance(first: Candidate, second: Candidate) -> float:
    """1 - shared / all distinct tokens of two program texts (Jaccard distance); 1 where a program is missing.

    >>> gold, wrong = (Candidate(program=p, origin="gold") for p in ("add(1, 2)", "add(1, 3)"))
    >>> token_distance(gold, wrong)  # {add, 1} of {add, 1, 2, 3}
    0.5
    """
    tokens, others = set(program_tokens(first.program)), set(program_tokens(second.program))
    return 1.0 - len(tokens & others) / len(tokens | others) if tokens and others else 1.0


@lru_cache(maxsize=4096)
def program_tokens(text: str | None) -> tuple[str, ...]:
    """Operations and arguments as written, row labels word by word; none without a program.

    >>> program_tokens("subtract(5829, 5735), divide(#0, 5735)")
    ('subtract', '5829', '5735', 'divide', '#0', '5735')
    """
    return tuple(_TOKEN.findall(text or ""))


def answer_distance(first: Answer | None, second: Answer | None) -> float:
    """Symmetric distance of two answers in [0, 1]: |a - b| / (|a| + |b|) for numbers (Canberra distance), else 0 or 1.

    A failed candidate is 1 away from everything.

    >>> answer_distance(3.0, 1.0), answer_distance(0.0, 0.0), answer_distance("yes", "no")
    (0.5, 0.0, 1.0)
    """
    if first is not None and first == second:
        return 0.0
    if not isinstance(first, float) or not isinstance(second, float):
        return 1.0
    first, second = first / 2, second / 2  # the sum of two huge values must not overflow
    return abs(first - second) / (abs(first) + abs(second))


def majority_vote(pools: Sequence[RewardedPool]) -> list[FloatArray] | None:
    """The number of candidates with the same answer, 0 for failures; None where no pool has a repeated answer.

    What a first stage proposed does not count as a vote.
    """
    votes = []
    for pool in pools:
        labels = equal_answers(pool.candidates, pool.question)
        counts = Counter(label for label, each in zip(labels, pool.candidates, strict=True) if not is_proposal(each))
        votes.append(np.array([0.0 if label is None else float(counts[label]) for label in labels]))
    return votes if any((counts > 1).any() for counts in votes) else None
