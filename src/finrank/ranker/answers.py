"""From candidates and scores to ranked answers: candidates of equal value are one answer and pool their probability.

Exact duplicates (same program text and same value) count once in a softmax over the scores; the probabilities of
candidates whose values are equal at 5 decimals are added up. Candidates without a value stay alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finrank.programs.value import answer_key
from finrank.records import Answer, Candidate

if TYPE_CHECKING:
    from finrank.ranker.confidence import Confidence


@dataclass(frozen=True)
class RankedAnswer:
    """One distinct answer to a question, with every candidate that has it."""

    answer: Answer | None
    """Value, "yes" or "no"; None for a candidate that has no value (see `error`)."""
    probability: float
    """Its candidates' share of the softmax over the pool, calibrated where the model folder has a `confidence.json`;
    the answers' probabilities add up to 1."""
    score: float
    """Score of its best candidate, in logits; comparable within one question only."""
    index: int
    """Index of its best candidate in the list that was ranked."""
    indices: list[int]
    """Indices of all its candidates."""
    programs: list[str]
    """Programs that compute it, the best one first."""
    error: str | None = None
    """Reason why the best candidate's program has no value (`answer` is then the one that came with it, or None)."""

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values, in their order, without `error` where it is None."""
        return {name: value for name, value in asdict(self).items() if name != "error" or value is not None}


class Ranking(list[RankedAnswer]):
    """The distinct answers to one question, most probable first: a list that also says whether to trust the top one."""

    abstain: bool
    """True when even the top answer is less probable than the model's threshold; False where none was fitted."""

    def __init__(self, answers: Iterable[RankedAnswer] = (), *, abstain: bool = False) -> None:
        super().__init__(answers)
        self.abstain = abstain

    def as_json(self) -> dict[str, Any]:
        """{"answers": […], "abstain": …} as JSON values."""
        return {"answers": [answer.as_json() for answer in self], "abstain": self.abstain}


def rank_answers(
    candidates: Sequence[Candidate], scores: NDArray[np.float64], confidence: Confidence | None = None
) -> Ranking:
    """The ranking of a pool from scores [candidates] in logits, with the confidence's temperature and threshold."""
    groups = group_equal_answers(candidates, scores)
    log_probabilities = np.array([group.log_probability for group in groups])
    if confidence is not None:
        log_probabilities = temper(log_probabilities, confidence.temperature)
    answers = []
    for group, log_probability in zip(groups, log_probabilities.tolist(), strict=True):
        by_score = sorted(group.indices, key=lambda index: -scores[index])
        programs = [program for index in by_score if (program := candidates[index].program) is not None]
        answers.append(
            RankedAnswer(
                answer=group.answer,
                probability=math.exp(log_probability),
                score=float(scores[by_score[0]]),
                index=by_score[0],
                indices=group.indices,
                programs=list(dict.fromkeys(programs)),
                error=candidates[by_score[0]].error,
            )
        )
    threshold = None if confidence is None else confidence.threshold
    return Ranking(answers, abstain=threshold is not None and answers[0].probability < threshold.value)


@dataclass(frozen=True)
class AnswerGroup:
    """One distinct answer, the indices of its candidates (duplicates among them), and its log-probability."""

    answer: Answer | None
    indices: list[int]
    log_probability: float


def group_equal_answers(candidates: Sequence[Candidate], scores: NDArray[np.float64]) -> list[AnswerGroup]:
    """The distinct answers of a pool, most probable first (ties: the first in the pool).

    Scores [candidates] are finite. With scores [0, 0, 0] for values 5.0 (from two programs) and 7.0, the groups are
    5.0 with log(2/3) and 7.0 with log(1/3).
    """
    assert len(candidates) == len(scores) > 0, "one score per candidate, and at least one candidate"
    copies = [(candidate.program, answer_key(candidate.answer)) for candidate in candidates]
    best_copy: dict[tuple[str | None, object], float] = {}
    members: dict[object, list[int]] = {}
    for index, (copy, score) in enumerate(zip(copies, scores.tolist(), strict=True)):
        best_copy[copy] = max(score, best_copy.get(copy, -np.inf))
        group = copy if copy[1] is None else copy[1]  # a failure is grouped with its own copies only
        members.setdefault(group, []).append(index)
    total = _log_sum_exp(best_copy.values())
    groups = []
    for indices in members.values():
        log_probability = _log_sum_exp(best_copy[copy] for copy in {copies[index] for index in indices}) - total
        groups.append(AnswerGroup(candidates[indices[0]].answer, indices, log_probability))
    return sorted(groups, key=lambda group: (-group.log_probability, group.indices[0]))


def temper(log_probabilities: NDArray[np.float64], temperature: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities [..., answers] flattened (temperature above 1) or sharpened (below 1), in the same order.

    Probabilities p become p^(1/T), normalised: at temperature 2, [0.8, 0.2] become [2/3, 1/3]. -inf marks a missing
    answer. Equal answers pool their probability before, at temperature 1, so that it never changes which answer wins.
    """
    scaled = log_probabilities / temperature
    return scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)


def _log_sum_exp(scores: Iterable[float]) -> float:
    # Sorted, so that the order of the candidates changes no bit of the sum and ties stay ties.
    ordered = np.array(sorted(scores))
    return float(ordered[-1] + np.log(np.exp(ordered - ordered[-1]).sum()))
