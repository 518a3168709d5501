"""`Ranker`: what people call. A question, its page and candidate answers in; distinct answers out, best first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from finrank.console import warn
from finrank.equal_answers import group_equal_answers, temper
from finrank.programs import ProgramError, execute, parse
from finrank.ranker.confidence import Confidence, copy_confidence, load_confidence, unlike_fitted
from finrank.ranker.encoding import encode, pad_id
from finrank.ranker.saving import LoadedModel, find_model, load_model, save_model
from finrank.ranker.scoring import score_pools
from finrank.records import Answer, Candidate, Question
from finrank.store import UserError, describe


@dataclass(frozen=True)
class RankedAnswer:
    """One distinct answer to a question, with every candidate that gives it."""

    answer: Answer | None
    """The value, "yes" or "no"; None for a candidate that has no value (see `error`)."""
    score: float
    """Score of its best candidate, in logits; comparable within one question only."""
    probability: float
    """Share of the softmax over the pool that its candidates hold together, calibrated where the model folder has a
    `confidence.json`; the answers' probabilities add up to 1."""
    programs: list[str]
    """The programs that compute it, the best one first."""
    index: int
    """Its best candidate's place in the list that was given."""
    indices: list[int]
    """Places of all its candidates."""
    error: str | None
    """Why the best candidate's program gives no value (`answer` is then the one given with it, or None); else None."""


class Ranking(list[RankedAnswer]):
    """The distinct answers to one question, most probable first: a list that also says whether to trust the first."""

    abstain: bool
    """True when the first answer is less probable than the model's threshold: better give no answer. Always False
    where no threshold was fitted."""

    def __init__(self, answers: Iterable[RankedAnswer] = (), *, abstain: bool = False) -> None:
        super().__init__(answers)
        self.abstain = abstain


class Ranker:
    """Ranks candidate answers with a trained model.

    >>> ranker = Ranker.from_pretrained("outputs/run_001")  # doctest: +SKIP
    >>> answers = ranker.rank(  # doctest: +SKIP
    ...     question="what is the change in revenue ?", table=[["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"]],
    ...     text=[], candidates=["subtract(5829, 5735)", "subtract(5735, 5829)", {"answer": 5829.0}])
    >>> answers[0].answer, answers[0].index  # doctest: +SKIP
    (94.0, 0)
    """

    def __init__(self, loaded: LoadedModel, confidence: Confidence | None = None) -> None:
        """Use `from_pretrained`."""
        self._loaded = loaded
        self._confidence = confidence
        self._warned: set[str] = set()

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, *, base_model: str | None = None, device: str | None = None
    ) -> Ranker:
        """Load a trained model from a run, a stage directory or a model folder.

        `base_model` gives another place for the same base weights; `device` defaults to cuda where there is one.
        Raises UserError when a part of the model is missing, exchanged or damaged.
        """
        model_dir = find_model(Path(directory))
        return cls(load_model(model_dir, base_model, device), load_confidence(model_dir))

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the model with every part it needs into a folder, and its `confidence.json` where it has one."""
        save_model(self._loaded.model, self._loaded.tokenizer, Path(directory))
        copy_confidence(self._confidence, Path(directory))

    def rank(
        self,
        *,
        question: str,
        table: Sequence[Sequence[str]],
        text: Sequence[str],
        candidates: Sequence[str | Mapping[str, Any]],
    ) -> Ranking:
        """Distinct answers, most probable first; equal values of several candidates are one answer. `abstain` of what
        is returned is True when even the first is less probable than the model's threshold.

        A candidate is a program, or a mapping with `program`, `answer` or both. A program that fails to execute is
        ranked by its text, with `error` saying why it has no value. Raises UserError for malformed input.
        """
        request = {"question": question, "table": table, "text": text, "candidates": candidates}
        return self.rank_many([request])[0]

    def rank_many(self, requests: Sequence[Mapping[str, Any]]) -> list[Ranking]:
        """`rank` for many questions, batched: each request holds question, table, text and candidates.

        Warns once when pools are of another size or origin than those the probabilities were calibrated on.
        """
        records = [_read(number, request) for number, request in enumerate(requests)]
        self._warn_of_unlike(candidates for _, candidates in records)
        model, tokenizer = self._loaded.model, self._loaded.tokenizer
        encoded = [
            encode(question, candidates, tokenizer, model.settings.prompt).pool for question, candidates in records
        ]
        scores = score_pools(model, encoded, pad_id(tokenizer), route=self._loaded.route)
        return [
            _ranking(candidates, own.astype(np.float64), self._confidence)
            for (_, candidates), own in zip(records, scores, strict=True)
        ]

    def _warn_of_unlike(self, pools: Iterable[list[Candidate]]) -> None:
        if self._confidence is not None:
            for kind, sentence in unlike_fitted(self._confidence, pools).items():
                if kind not in self._warned:
                    warn(sentence)
                    self._warned.add(kind)


def _ranking(candidates: list[Candidate], scores: NDArray[np.float64], confidence: Confidence | None) -> Ranking:
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
                score=float(scores[by_score[0]]),
                probability=math.exp(log_probability),
                programs=list(dict.fromkeys(programs)),
                index=by_score[0],
                indices=group.indices,
                error=candidates[by_score[0]].error,
            )
        )
    threshold = None if confidence is None else confidence.threshold
    return Ranking(answers, abstain=threshold is not None and answers[0].probability < threshold.value)


def _read(number: int, request: Mapping[str, Any]) -> tuple[Question, list[Candidate]]:
    try:
        for name in ("table", "text", "candidates"):
            if isinstance(request[name], str):
                raise TypeError(f"{name} must be a list, not a string")
        if any(isinstance(row, str) for row in request["table"]):
            raise TypeError("a row of the table must be a list of cells, not a string")
        table = [list(row) for row in request["table"]]
        question = Question(
            id=f"request {number}",
            page=f"request {number}",
            question=request["question"],
            table=table,
            text=list(request["text"]),
        )
        candidates = [_candidate(item, table) for item in request["candidates"]]
    except KeyError as error:
        raise UserError(f"request {number} has no {error}: expected question, table, text and candidates") from error
    except (ValidationError, TypeError, OverflowError, UserError) as error:
        reason = describe(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(f"request {number}: {reason}") from error
    if not candidates:
        raise UserError(f"request {number} has no candidates: give at least one program or answer")
    return question, candidates


def _candidate(item: str | Mapping[str, Any], table: list[list[str]]) -> Candidate:
    given = {"program": item} if isinstance(item, str) else dict(item)
    odd = sorted(set(given) - {"program", "answer"})
    if odd or not any(value is not None for value in given.values()):
        raise UserError(f"a candidate is a program or holds program, answer or both; got {item!r}")
    program: Any = given.get("program")
    answer: Any = given.get("answer")
    error = None
    if isinstance(answer, int) and not isinstance(answer, bool):
        answer = float(answer)
    if program is not None:
        try:
            value = execute(parse(program), table)
            if isinstance(value, float) and not math.isfinite(value):
                raise ProgramError(f"its value is {value}")
            answer = value
        except ProgramError as failure:
            error = str(failure)
    return Candidate(program=program, answer=answer, error=error, origin="imported")
