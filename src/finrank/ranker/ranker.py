"""`Ranker`: a question, its page and candidate answers in; distinct answers out, most probable first."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
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
from finrank.errors import UserError
from finrank.ranker import hub
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.choosing.answers import Ranking, rank_answers, without_value
from finrank.ranker.choosing.chooser import CHOOSER, DEFAULT_CHOOSER, Chooser, load_chooser, save_chooser
from finrank.ranker.choosing.confidence import CONFIDENCE, Confidence, load_confidence, save_confidence, unlike_fitted
from finrank.ranker.encoding import encode, write_pairs
from finrank.ranker.requests import read_request
from finrank.ranker.saving import LoadedModel, find_model, has_own_base, load_model, save_model
from finrank.ranker.scoring import score_pools
from finrank.records import Candidate, Question
from finrank.store.writing import writing

# Enough to batch requests of similar length together.
_REQUESTS_AT_A_TIME = 128


@dataclass(frozen=True)
class Prepared:
    """One request as tokens, the model's input."""

    question: Question
    candidates: list[Candidate]
    """Candidates, each with its value or, in `error`, why it has none; one that is too long for the model has none."""
    pool: EncodedPool

    @property
    def tokens(self) -> int:
        """Tokens of the packed row, where the prefix counts once; 0 where no candidate is scored."""
        return self.pool.length if self.pool.candidates else 0


class Ranker:
    """Ranks candidate answers with a trained model.

    >>> ranker = Ranker.from_pretrained("finqa-minilm")  # doctest: +SKIP
    >>> answers = ranker.rank(  # doctest: +SKIP
    ...     question="what is the change in revenue ?", table=[["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"]],
    ...     text=[], candidates=["subtract(5829, 5735)", "subtract(5735, 5829)", {"answer": 5829.0}])
    >>> answers[0].answer, answers[0].index  # doctest: +SKIP
    (94.0, 0)
    """

    def __init__(
        self,
        loaded: LoadedModel,
        confidence: Confidence | None = None,
        model_dir: Path | None = None,
        chooser: Chooser = DEFAULT_CHOOSER,
    ) -> None:
        """Use `from_pretrained`."""
        self._loaded = loaded
        self._model_dir = model_dir
        self._warned: set[str] = set()
        self.confidence = confidence
        """Temperature and threshold of the model's probabilities; None where none were fitted."""
        self.chooser = chooser
        """The weights of votes and systems beside the model's scores."""
        self.route = f"{loaded.route} ({loaded.route_reason})"
        """Attention route that passed the check at load, and why it was taken."""

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

        "finqa-minilm" is the ready-made model in this package; a folder of that name in the current one wins.
        `revision` (branch, tag or commit) and `token` (default: HF_TOKEN, or the one of `hf auth login`) are for the
        hub, whose files are cached. `base_model` names another copy of the same base weights; `device` defaults to cuda
        where there is one. `merge` adds the adapters into the base weights: faster, and scores differ by rounding.
        Raises UserError when a part of the model is missing, exchanged, damaged or unavailable.
        """
        model_dir = find_model(hub.locate_model(name, revision=revision, token=token))
        loaded = load_model(model_dir, base_model, device, merge=merge)
        return cls(loaded, load_confidence(model_dir), model_dir, load_chooser(model_dir))

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the model into a folder, with its `confidence.json`, and with its card unless a README.md is there."""
        directory = Path(directory)
        with writing(directory):
            save_model(self._loaded.model, self._loaded.tokenizer, directory)
            (directory / CONFIDENCE).unlink(missing_ok=True)  # of an earlier model
            if self.confidence is not None:
                save_confidence(directory, self.confidence)
            (directory / CHOOSER).unlink(missing_ok=True)
            if self.chooser != DEFAULT_CHOOSER:
                save_chooser(directory, self.chooser)
            card = None if self._model_dir is None else self._model_dir / hub.CARD
            if card is not None and card.is_file() and not (directory / hub.CARD).exists():
                shutil.copyfile(card, directory / hub.CARD)

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

        A missing repository is made; `private` has no effect on an existing one. `revision` is a branch (default:
        main). Raises UserError, with what to do, when the hub refuses or cannot be reached.
        """
        settings = self._loaded.model.settings
        base_model = settings.base_model
        if Path(base_model).exists() and not has_own_base(settings):
            warn(
                f"the base weights are a local folder ({base_model}) and stay here: others load the model with "
                "Ranker.from_pretrained(..., base_model=their copy)"
            )
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return hub.upload(Path(folder), repo_id, private, commit_message, revision, token)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._loaded.model.device

    def rank(
        self,
        *,
        question: str,
        table: Sequence[Sequence[str]] = (),
        text: Sequence[str] = (),
        candidates: Sequence[str | float | Mapping[str, Any]],
    ) -> Ranking:
        """Rank candidate answers to one question.

        `table` holds rows of cells (the first row is the header, the first column the labels), `text` the sentences of
        the page; both may be missing. A candidate is a program, a value (94.0, "94.0", "12.5%", "yes"), or a mapping
        with `program`, `answer` or both, and its `origin` where it is known.

        Returns the distinct answers, most probable first; its `abstain` is true when even the top answer is too
        uncertain. A candidate without a value, or too long for the model, comes after all others, with score None,
        probability 0 and the reason in `error`. Raises UserError for malformed input.
        """
        request = {"question": question, "table": table, "text": text, "candidates": candidates}
        return self.rank_many([request])[0]

    def rank_many(self, requests: Iterable[Mapping[str, Any]]) -> list[Ranking]:
        """`rank` for many questions in batches; each request maps the names of `rank`'s arguments to their values.

        Warns once of pools of another size or origin than those on which probabilities were calibrated. Raises
        UserError for malformed input, naming the request by its number.
        """
        return list(self.rank_stream(requests))

    def rank_stream(self, requests: Iterable[Mapping[str, Any]]) -> Iterator[Ranking]:
        """`rank_many` for any number of requests, of which 128 are in memory at a time.

        A malformed request ends the stream with its UserError, after the rankings of the blocks before it.

        >>> for ranking in ranker.rank_stream(map(json.loads, open("pools.jsonl"))): ...  # doctest: +SKIP
        """
        numbered = enumerate(requests)
        while block := [
            self.prepare(request, f"request {number}") for number, request in islice(numbered, _REQUESTS_AT_A_TIME)
        ]:
            self.warn_of_unlike(block)
            for prepared, scores in zip(block, self.score(block), strict=True):
                yield self.ranking(prepared, scores)

    def prepare(self, request: Mapping[str, Any], name: str = "request") -> Prepared:
        """Read a request, execute its programs and write it as tokens: everything before the model.

        Raises UserError, beginning with the request's `name`, for malformed input or a question over `max_length`.
        """
        return self.prepare_pool(*read_request(request, name))

    def prepare_pool(self, question: Question, candidates: Sequence[Candidate]) -> Prepared:
        """`prepare` for a question and candidates that are read already; UserError for a question over `max_length`."""
        candidates = list(candidates)
        encoded = encode(question, candidates, self._loaded.tokenizer, self._loaded.model.settings.prompt)
        for index, reason in encoded.left_out.items():
            candidates[index] = without_value(candidates[index], reason)
        return Prepared(question, candidates, encoded)

    def score(
        self, prepared: Sequence[Prepared], before_pass: Callable[[], None] | None = None
    ) -> list[NDArray[np.float64]]:
        """Scores [candidates] of each request in logits, batched by tokens, in the order given; -inf: left out.

        `before_pass` is called before each pass of the encoder, and may raise to end the work there.

        Raises UserError where a score is not finite: a probability that is not a number is never an answer.
        """
        pools = [request.pool for request in prepared]
        model = self._loaded.model
        with ExitStack() as until_scored:
            if before_pass is not None:
                hook = model.encoder.register_forward_pre_hook(lambda *_: before_pass())
                until_scored.callback(hook.remove)
            scores = score_pools(model, pools, route=self._loaded.route)
        for pool, scores_N in zip(pools, scores, strict=True):
            if not np.isfinite(scores_N[pool.scored]).all():
                raise UserError("the model's scores are not finite: its weights are damaged, or too large")
        return [of_pool.astype(np.float64) for of_pool in scores]

    def pairs(self, request: Mapping[str, Any]) -> dict[int, tuple[str, str]]:
        """Prefix and candidate text of each candidate that is scored, by its index: what an exported model reads.

        `request` is as in `rank_many`. Raises UserError as `prepare` does.

        >>> model = CrossEncoder("exported", trust_remote_code=True)  # doctest: +SKIP
        >>> model.predict(list(ranker.pairs(request).values()))  # doctest: +SKIP
        array([ 3.21, -4.05], dtype=float32)
        """
        loaded = self._loaded
        return write_pairs(*read_request(request, "request"), loaded.tokenizer, loaded.model.settings.prompt)

    def ranking(self, prepared: Prepared, scores: NDArray[np.float64]) -> Ranking:
        """The answers of one request, most probable first, from the scores [candidates] in logits."""
        return rank_answers(prepared.candidates, scores, prepared.question.question, self.confidence, self.chooser)

    def unlike_fitted(self, prepared: Prepared) -> list[str]:
        """Sentences on how this request differs from the pools on which its probabilities were calibrated."""
        return list(self._differences(prepared).values())

    def warn_of_unlike(self, block: Iterable[Prepared]) -> None:
        """Print `unlike_fitted` of requests as warnings; each kind, size or origin, once per ranker."""
        for prepared in block:
            for kind, sentence in self._differences(prepared).items():
                if kind not in self._warned:
                    warn(sentence)
                    self._warned.add(kind)

    def _differences(self, prepared: Prepared) -> dict[str, str]:
        return {} if self.confidence is None else unlike_fitted(self.confidence, [prepared.candidates])
