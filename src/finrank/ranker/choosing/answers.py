"""From candidates and scores to ranked answers: candidates of equal value are one answer and pool their probability.

Exact duplicates (same program text and same value) count once in a softmax over the scores; the probabilities of
candidates with equal answers (`pools/equal_answers.py`) are added up. Then the chooser (`chooser.py`) adds what votes
and systems say, duplicates among them. A candidate that is not scored, its score being
minus infinity, comes last: alone, but for its copies, and with probability 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finrank.pools.equal_answers import equal_answers, most_precise
from finrank.programs.value import answer_key
from finrank.ranker.choosing.chooser import DEFAULT_CHOOSER, Chooser, answer_features, who_says
from finrank.records import Answer, Candidate

if TYPE_CHECKING:
    from finrank.ranker.choosing.confidence import Confidence


@dataclass(frozen=True)
class RankedAnswer:
    """One distinct answer to a question, with every candidate that has it."""

    answer: Answer | None
    """Value, "yes" or "no": the exact one, or the most precisely stated; None for a candidate without (see `error`)."""
    probability: float
    """Its share of the softmax over the answers by what the chooser gives them (their candidates' scores, votes and
    more), calibrated where the model folder has a `confidence.json`; the answers' probabilities add up to 1."""
    score: float | None
    """Score of its best candidate, in logits, comparable within one question only; None without a value."""
    index: int
    """Index of its best candidate in the list that was ranked."""
    indices: list[int]
    """Indices of all its candidates."""
    programs: list[str]
    """Programs that compute it, the best one first."""
    error: str | None = None
    """Reason why the best candidate's program has no value (`answer` is then the one that came with it, or None)."""
    models: list[str] = field(default_factory=list)
    """Systems that gave it, where candidates name theirs, that of the best candidate first."""

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values, in their order, without `error` and `models` where there is none."""
        return {name: value for name, value in asdict(self).items() if name not in ("error", "models") or value}


class Ranking(list[RankedAnswer]):
    """The distinct answers to one question, most probable first: a list that also says whether to trust the top one."""

    abstain: bool
    """True when even the top answer is less probable than the model's threshold (False where none was fitted), and
    where no candidate has a value."""

    def __init__(self, answers: Iterable[RankedAnswer] = (), *, abstain: bool = False) -> None:
        super().__init__(answers)
        self.abstain = abstain

    def as_json(self) -> dict[str, Any]:
        """{"answers": […], "abstain": …} as JSON values."""
        return {"answers": [answer.as_json() for answer in self], "abstain": self.abstain}


def rank_answers(
    candidates: Sequence[Candidate],
    scores: NDArray[np.float64],
    question: str,
    confidence: Confidence | None = None,
    chooser: Chooser = DEFAULT_CHOOSER,
) -> Ranking:
    """The ranking of a pool from scores [candidates] in logits, with the confidence's temperature and threshold.

    Candidates with score minus infinity come last, in their order; the ranking abstains where there are no others.
    """
    groups = choose_answers(candidates, scores, question, chooser)
    log_probabilities = np.array([group.log_probability for group in groups])
    if confidence is not None:
        log_probabilities = temper(log_probabilities, confidence.temperature)
    answers = []
    for group, log_probability in zip(groups, log_probabilities.tolist(), strict=True):
        by_score = sorted(group.indices, key=lambda index: -scores[index])
        best_first = [candidates[index] for index in by_score]
        score = float(scores[by_score[0]])
        answers.append(
            RankedAnswer(
                answer=None if score == -math.inf else candidates[group.source].answer,
                probability=math.exp(log_probability),
                score=None if score == -math.inf else score,
                index=by_score[0],
                indices=group.indices,
                programs=list(dict.fromkeys(one.program for one in best_first if one.program is not None)),
                error=best_first[0].error,
                models=list(dict.fromkeys(one.model for one in best_first if one.model is not None)),
            )
        )
    threshold = 0.0 if confidence is None or confidence.threshold is None else confidence.threshold.value
    return Ranking(answers, abstain=answers[0].score is None or answers[0].probability < threshold)


def by_relevance(ranking: Ranking, scores: NDArray[np.float64]) -> list[tuple[int, RankedAnswer]]:
    """The index of every candidate with its answer, as rerankers return them: the most relevant first.

    Candidates of one answer are ordered by their scores [candidates], then as in the pool.
    """
    return [
        (index, answer)
        for answer in ranking
        for index in sorted(answer.indices, key=lambda index: (-scores[index], index))
    ]


@dataclass(frozen=True)
class AnswerGroup:
    """One distinct answer with its log-probability."""

    source: int
    """Index of the candidate whose answer it is: the first exact one, else the one that states it most precisely."""
    indices: list[int]
    """Indices of all its candidates, duplicates among them."""
    log_probability: float


def group_equal_answers(
    candidates: Sequence[Candidate], scores: NDArray[np.float64], question: str
) -> list[AnswerGroup]:
    """The distinct answers of a pool, most probable first (ties: the first in the pool).

    With scores [0, 0, 0] for values 5.0 (from two programs) and 7.0, the groups are 5.0 with log(2/3) and 7.0 with
    log(1/3). A score of minus infinity takes a candidate's value away: it is an answer of its own, with log(0).
    """
    assert len(candidates) == len(scores) > 0, "one score per candidate, and at least one candidate"
    is_scored = (scores > -np.inf).tolist()
    candidates = [one if scored else without_value(one) for one, scored in zip(candidates, is_scored, strict=True)]
    copies = [(one.program, answer_key(one.answer), one.error if one.answer is None else None) for one in candidates]
    best_copy: dict[tuple[object, ...], float] = {}
    members: dict[int, list[int]] = {}
    for index, label in enumerate(answer_labels(candidates, question)):
        members.setdefault(label, []).append(index)
        if is_scored[index]:
            best_copy[copies[index]] = max(float(scores[index]), best_copy.get(copies[index], -np.inf))
    total = _log_sum_exp(best_copy.values())
    groups = []
    for indices in members.values():
        own = {copies[index] for index in indices if is_scored[index]}
        log_probability = _log_sum_exp(best_copy[copy] for copy in own) - total if own else -math.inf
        groups.append(AnswerGroup(most_precise(candidates, indices), indices, log_probability))
    return sorted(groups, key=lambda group: (-group.log_probability, group.indices[0]))


def choose_answers(
    candidates: Sequence[Candidate],
    scores: NDArray[np.float64],
    question: str,
    chooser: Chooser = DEFAULT_CHOOSER,
) -> list[AnswerGroup]:
    """`group_equal_answers` with the probabilities and the order that the chooser gives."""
    groups = group_equal_answers(candidates, scores, question)
    scored = [group for group in groups if group.log_probability > -math.inf]
    if not scored:
        return groups
    members = [group.indices for group in scored]
    adjusted = chooser.adjust(
        np.array([group.log_probability for group in scored]),
        answer_features(candidates, members, [candidates[group.source].answer for group in scored]),
        [who_says(candidates, indices) for indices in members],
    )
    chosen = [replace(group, log_probability=float(new)) for group, new in zip(scored, adjusted, strict=True)]
    chosen.sort(key=lambda group: -group.log_probability)  # what ties, if only by rounding, stays in the ranker's order
    return [*chosen, *groups[len(scored) :]]


def answer_labels(candidates: Sequence[Candidate], question: str) -> list[int]:
    """For each candidate the index of the first one that is the same answer: without a value, of its first copy.

    >>> failed = Candidate(program="divide(1, 0)", error="division by zero", origin="imported")
    >>> answer_labels([failed, Candidate(program="add(1, 2)", answer=3.0, origin="imported"), failed], "how many ?")
    [0, 1, 0]
    """
    first_copy: dict[tuple[str | None, str | None], int] = {}
    return [
        first_copy.setdefault((one.program, one.error), index) if label is None else label
        for index, (one, label) in enumerate(zip(candidates, equal_answers(candidates, question), strict=True))
    ]


def without_value(candidate: Candidate, reason: str | None = None) -> Candidate:
    """The candidate without its value, for this reason (None: the one that it has)."""
    return candidate.model_copy(update={"answer": None, "stated": None, "error": reason or candidate.error})


def temper(log_probabilities: NDArray[np.float64], temperature: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities [..., answers] flattened (temperature above 1) or sharpened (below 1), in the same order.

    Probabilities p become p^(1/T), normalised: at temperature 2, [0.8, 0.2] become [2/3, 1/3]. -inf marks a missing
    answer. Equal answers pool their probability before, at temperature 1, so that it never changes which answer wins.
    """
    scaled = log_probabilities / temperature
    total = np.logaddexp.reduce(scaled, axis=-1, keepdims=True)
    return scaled - np.where(total == -np.inf, 0.0, total)  # nothing has a probability where nothing was scored


def _log_sum_exp(scores: Iterable[float]) -> float:
    # Sorted, so that the order of the candidates changes no bit of the sum and ties stay ties.
    ordered = np.array(sorted(scores))
    if not ordered.size:
        return -math.inf
    return float(ordered[-1] + np.log(np.exp(ordered - ordered[-1]).sum()))
