"""`Ranker`: what people call. A question, its page and candidate answers in; distinct answers out, best first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from huggingface_hub import CommitInfo
from numpy.typing import NDArray

from finrank.console import warn
from finrank.ranker import hub
from finrank.ranker.answers import group_equal_answers, temper
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.confidence import Confidence, copy_confidence, load_confidence, unlike_fitted
from finrank.ranker.encoding import encode
from finrank.ranker.requests import read_request
from finrank.ranker.saving import LoadedModel, find_model, load_model, save_model
from finrank.ranker.scoring import score_pools
from finrank.records import Answer, Candidate, Question

# Requests that are in memory as tokens at a time: enough to batch those of similar length together.
_REQUESTS_AT_A_TIME = 128


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


@dataclass(frozen=True)
class Prepared:
    """One request, read and written as tokens: what the model will score."""

    question: Question
    candidates: list[Candidate]
    """Executed: with the value of its program, or why it has none."""
    pool: EncodedPool

    @property
    def tokens(self) -> int:
        """Tokens of the packed row, where the prefix counts once."""
        return self.pool.length


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

    def __init__(
        self, loaded: LoadedModel, confidence: Confidence | None = None, model_dir: Path | None = None
    ) -> None:
        """Use `from_pretrained`."""
        self._loaded = loaded
        self._confidence = confidence
        self._model_dir = model_dir
        self._warned: set[str] = set()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        base_model: str | None = None,
        device: str | None = None,
        merge: bool = False,
    ) -> Ranker:
        """Load a trained model: from a run, a stage directory, a model folder, or the Hugging Face hub by its id.

        `revision` (branch, tag or commit) and `token` (default: HF_TOKEN, or the one of `hf auth login`) are for the
        hub; what was fetched once is found again without a network. `base_model` gives another place for the same base
        weights; `device` defaults to cuda where there is one. `merge` adds the adapters into the base weights: faster,
        and scores differ by rounding. Raises UserError when a part of the model is missing, exchanged or damaged, and
        when it cannot be had.
        """
        model_dir = find_model(hub.locate_model(name, revision=revision, token=token))
        return cls(load_model(model_dir, base_model, device, merge=merge), load_confidence(model_dir), model_dir)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the model with every part it needs into a folder, with the `confidence.json` and card that it has.

        A README.md that is there already stays.
        """
        directory = Path(directory)
        save_model(self._loaded.model, self._loaded.tokenizer, directory)
        copy_confidence(self._confidence, directory)
        if self._model_dir is not None:
            hub.copy_card(self._model_dir, directory)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        commit_message: str = "Upload a finrank model",
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> CommitInfo:
        """Upload the model, with its confidence and card, to the Hugging Face hub as `repo_id` ("name/model").

        The repository is made where there is none; `private` has no effect on one that exists. `revision` is a branch
        (default: main). Raises UserError, with what to do, when the hub refuses or cannot be reached.
        """
        hub.warn_of_local_base(self._loaded.model.settings.base_model)
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return hub.upload(
                Path(folder),
                repo_id,
                private=private,
                commit_message=commit_message,
                revision=revision,
                token=token,
            )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._loaded.model.device

    @property
    def route(self) -> str:
        """The attention route that passed the check at load, and why it was taken (see ranker/routes.py)."""
        return f"{self._loaded.route} ({self._loaded.route_reason})"

    @property
    def confidence(self) -> Confidence | None:
        """Temperature and threshold of the model's probabilities; None where none were fitted."""
        return self._confidence

    def rank(
        self,
        *,
        question: str,
        table: Sequence[Sequence[str]] = (),
        text: Sequence[str] = (),
        candidates: Sequence[str | float | Mapping[str, Any]],
    ) -> Ranking:
        """Distinct answers, most probable first; equal values of several candidates are one answer. `abstain` of what
        is returned is True when even the first is less probable than the model's threshold.

        Without table and text the page is empty: a question that holds its numbers itself.

        A candidate is a program, a value (94.0, "94.0", "12.5%", "yes"), or a mapping with `program`, `answer` or both,
        and its `origin` where it is known. A program that fails to execute is ranked by its text, with `error` saying
        why it has no value. Raises UserError for malformed input.
        """
        request = {"question": question, "table": table, "text": text, "candidates": candidates}
        return self.rank_many([request])[0]

    def rank_many(self, requests: Iterable[Mapping[str, Any]]) -> list[Ranking]:
        """`rank` for many questions, batched: each request holds question, candidates and, where there are such, table
        and text.

        Warns once when pools are of another size or origin than those the probabilities were calibrated on. Raises
        UserError for malformed input, naming the request by its number.
        """
        return list(self.rank_stream(requests))

    def rank_stream(self, requests: Iterable[Mapping[str, Any]]) -> Iterator[Ranking]:
        """`rank_many` for any number of requests: takes some at a time, so that memory does not grow with them.

        A malformed request ends the stream with its UserError, after the rankings of the blocks before it;
        `finrank rank` sets such requests aside and goes on.

        >>> for ranking in ranker.rank_stream(map(json.loads, open("pools.jsonl"))): ...  # doctest: +SKIP
        """
        numbered = enumerate(requests)
        while some := [self.prepare(request, f"request {number}") for number, request in _take(numbered)]:
            self._warn_of_unlike(some)
            for prepared, scores in zip(some, self.score(some), strict=True):
                yield self.ranking(prepared, scores)

    def prepare(self, request: Mapping[str, Any], name: str = "request") -> Prepared:
        """Read a request, execute its programs and write it as tokens: all that needs no pass through the model.

        `name` stands for the request in messages. Raises UserError for anything else than a request, and for a question
        that does not fit the model's `max_length`.
        """
        question, candidates = read_request(request, name)
        encoded = encode(question, candidates, self._loaded.tokenizer, self._loaded.model.settings.prompt)
        return Prepared(question, candidates, encoded)

    def score(self, prepared: Sequence[Prepared]) -> list[NDArray[np.float64]]:
        """Scores [candidates] of each request in logits, batched by tokens, in the order given."""
        found = score_pools(self._loaded.model, [one.pool for one in prepared], route=self._loaded.route)
        return [scores.astype(np.float64) for scores in found]

    def ranking(self, prepared: Prepared, scores: NDArray[np.float64]) -> Ranking:
        """The answers of one request, most probable first, from the scores [candidates] of its candidates."""
        return _ranking(prepared.candidates, scores, self._confidence)

    def unlike_fitted(self, prepared: Prepared) -> list[str]:
        """Sentences on what sets this request apart from the pools that its probabilities were calibrated on."""
        return list(self.unlike(prepared).values())

    def unlike(self, prepared: Prepared) -> dict[str, str]:
        """The sentences of `unlike_fitted` by kind, "size" or "origin": for those who warn once of each."""
        return {} if self._confidence is None else unlike_fitted(self._confidence, [prepared.candidates])

    def _warn_of_unlike(self, some: Sequence[Prepared]) -> None:
        for prepared in some:
            for kind, sentence in self.unlike(prepared).items():
                if kind not in self._warned:
                    warn(sentence)
                    self._warned.add(kind)


def _take(requests: Iterator[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    return islice(requests, _REQUESTS_AT_A_TIME)


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
