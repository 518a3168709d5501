"""From candidates and scores to ranked answers: equal answers are one answer, and pool their probability.

Exact duplicates (same program text and same value) count once; the others are turned into probabilities by a softmax
over the scores, and candidates whose values are equal at 5 decimals are added up. Candidates without a value have
nothing in common: each stays alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finrank.programs.value import answer_key
from finrank.records import Answer, Candidate


@dataclass(frozen=True)
class RankedAnswer:
    """One distinct answer to a question, with every candidate that has it."""

    answer: Answer | None
    """The value, "yes" or "no"; None for a candidate that has no value (see `error`)."""
    probability: float
    """Share of the softmax over the pool that its candidates hold together, calibrated where the model folder has a
    `confidence.json`; the answers' probabilities add up to 1."""
    score: float
    """Score of its best candidate, in logits; comparable within one question only."""
    index: int
    """Index of its best candidate in the list that was ranked."""
    indices: list[int]
    """Indices of all its candidates."""
    programs: list[str]
    """Programs that compute it, the best one first."""
    error: str | None = None
    """Why the best candidate's program has no value (`answer` is then the one given with it, or None); else None."""

    def as_json(self) -> dict[str, Any]:
        """The answer as JSON values in the order of the fields, without `error` where there is none."""
        values = asdict(self)
        return values if self.error is not None else {name: value for name, value in values.items() if name != "error"}


class Ranking(list[RankedAnswer]):
    """The distinct answers to one question, most probable first: a list that also says whether to trust the top one."""

    abstain: bool
    """True when even the top answer is too uncertain to return: less probable than the model's threshold. Always False
    where no threshold was fitted."""

    def __init__(self, answers: Iterable[RankedAnswer] = (), *, abstain: bool = False) -> None:
        super().__init__(answers)
        self.abstain = abstain

    def as_json(self) -> dict[str, Any]:
        """The ranking as JSON values: {"answers": […], "abstain": …}."""
        return {"answers": [answer.as_json() for answer in self], "abstain": self.abstain}


def rank_answers(
    candidates: Sequence[Candidate],
    scores: NDArray[np.float64],
    temperature: float | None = None,
    threshold: float | None = None,
) -> Ranking:
    """The ranking of a pool from scores [candidates] in logits.

    Probabilities are tempered where there is a temperature. The ranking abstains where there is a threshold and the top
    answer's probability is below it.
    """
    groups = group_equal_answers(candidates, scores)
    log_probabilities = np.array([group.log_probability for group in groups])
    if temperature is not None:
        log_probabilities = temper(log_probabilities, temperature)
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
    return Ranking(answers, abstain=threshold is not None and answers[0].probability < threshold)


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
    """Log-probabilities [..., answers] flattened (temperature above 1) or sharpened (below 1), in the same order.

    Probabilities p become p^(1/T), normalised: at temperature 2, [0.8, 0.2] become [2/3, 1/3]. -inf marks a missing
    answer. Equal answers pool their probability before, at temperature 1, so that it never changes which answer wins.
    """
    scaled = log_probabilities / temperature
    return scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)


def _log_sum_exp(scores: list[float]) -> float:
    # Sorted, so that the order of the candidates changes no bit of the sum and ties stay ties.
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    return float(ordered[-1] + np.log(np.exp(ordered - ordered[-1]).sum()))
