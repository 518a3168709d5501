"""Equal answers are one answer: candidates of the same value pool their probability.

Exact duplicates (same program text and same value) count once; what is left is turned into probabilities by a
softmax over the scores, and candidates whose values are equal at 5 decimals are added up. Candidates without
a value have nothing in common: each stays alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finrank.programs.value import answer_key
from finrank.records import Answer, Candidate


@dataclass(frozen=True)
class AnswerGroup:
    """One distinct answer, the candidates that give it (duplicates among them), and its log-probability."""

    answer: Answer | None
    indices: list[int]
    log_probability: float


def group_equal_answers(candidates: Sequence[Candidate], scores: NDArray[np.float64]) -> list[AnswerGroup]:
    """The distinct answers of a pool, most probable first (ties: the one that stands first in the pool).

    Scores [candidates] are finite. With scores [0, 0, 0] for values 5.0 (from two programs) and 7.0, the
    groups are 5.0 with log(2/3) and 7.0 with log(1/3).
    """
    assert len(candidates) == len(scores) > 0, "one score per candidate, and at least one candidate"
    best_copy: dict[tuple[str | None, object], float] = {}
    members: dict[object, list[int]] = {}
    copies: dict[object, set[tuple[str | None, object]]] = {}
    for index, (candidate, score) in enumerate(zip(candidates, scores.tolist(), strict=True)):
        copy = (candidate.program, answer_key(candidate.answer))
        group = copy if candidate.answer is None else copy[1]  # a failure is grouped with its own copies only
        best_copy[copy] = max(score, best_copy.get(copy, -np.inf))
        members.setdefault(group, []).append(index)
        copies.setdefault(group, set()).add(copy)
    total = _log_sum_exp(list(best_copy.values()))
    groups = [
        AnswerGroup(
            answer=candidates[indices[0]].answer,
            indices=indices,
            log_probability=_log_sum_exp([best_copy[copy] for copy in copies[group]]) - total,
        )
        for group, indices in members.items()
    ]
    return sorted(groups, key=lambda group: (-group.log_probability, group.indices[0]))


def temper(log_probabilities: NDArray[np.float64], temperature: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities [..., answers] made milder (temperature above 1) or sharper (below 1); their order stays.

    Probabilities p become p^(1/T), normalised: at temperature 2, [0.8, 0.2] become [2/3, 1/3]. -inf stands for no
    answer. Equal answers pool their probability before, at temperature 1, so that it never changes which answer wins.
    """
    scaled = log_probabilities / temperature
    return scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)


def _log_sum_exp(scores: list[float]) -> float:
    # Sorted, so that the order of the candidates changes no bit of the sum and ties stay ties.
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    return float(ordered[-1] + np.log(np.exp(ordered - ordered[-1]).sum()))
