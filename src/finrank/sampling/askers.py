"""Where `finrank sample` has its completions from: a generator in a folder, or an endpoint.

Both take questions, put what they receive into the journal, and say of each question how it went.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from finrank.errors import UserError
from finrank.pools.completion import INSTRUCTIONS, LONGEST_TEXT, write_messages
from finrank.records import Question
from finrank.sampling.journal import Journal
from finrank.seeds import seed_of
from finrank.store import sha256, versions


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn."""

    num_candidates: int = 8
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def check(self) -> None:
        """UserError for a value out of range."""
        if self.num_candidates < 1:
            raise UserError(f"num_candidates is {self.num_candidates}: a pool has 1 at least")
        if not (self.temperature >= 0.0 and math.isfinite(self.temperature)):
            raise UserError(f"temperature is {self.temperature}: it is 0 (always the likeliest) or above")
        if not 0.0 < self.top_p <= 1.0:
            raise UserError(f"top_p is {self.top_p}: it is a share of probability, above 0 and up to 1")


@dataclass(frozen=True)
class EndpointOptions:
    """How an endpoint is asked. Only `url` and `max_tokens` have to do with what it answers."""

    url: str
    max_tokens: int = 512  # of a completion; 0: what the server allows
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 4  # questions at a time
    timeout: float = 120.0  # seconds for each attempt
    max_retries: int = 6

    def check(self) -> None:
        """UserError for a value out of range."""
        if self.max_tokens < 0 or self.max_retries < 0:
            raise UserError("max_tokens and max_retries are 0 or above")
        if self.concurrency < 1:
            raise UserError(f"concurrency is {self.concurrency}: it is 1 question at a time at least")
        if not self.timeout > 0.0:
            raise UserError(f"timeout is {self.timeout}: it is in seconds, above 0")


class Asked(NamedTuple):
    """A question, and what its completions are kept under in the journal."""

    key: str
    question: Question


class Outcome(NamedTuple):
    """How asking for a question's completions went, and why where it did not go well.

    "refused": it will never be answered; "forbidden": nor this one, and others may meet the same; "unanswered": the
    server failed, and asking again may help; "stopped": no other question would be answered either, and the user has to
    do something.
    """

    key: str
    status: Literal["answered", "refused", "forbidden", "unanswered", "stopped"]
    reason: str = ""


class ModelSource:
    """Completions of a generator that `04_sft_train_generation.py` has trained."""

    def __init__(self, model: Path, sampling: Sampling, *, base_model: str | None = None) -> None:
        """Raises UserError when there is no whole generator; its weights are loaded with the first question."""
        from finrank.generator.saving import CONFIG, find_generator, read_settings

        self.name = str(model)
        self._directory = find_generator(model)
        read_settings(self._directory)
        self._sampling, self._base_model = sampling, base_model
        # The config holds the hashes of adapters and tokenizer.
        self.made_with = {**asdict(sampling), CONFIG: sha256(self._directory / CONFIG), **_machine(base_model)}

    def sample(self, asked: Iterator[Asked], journal: Journal) -> Generator[Outcome]:
        """Complete one question after the other."""
        from finrank.generator.model import load_generator
        from finrank.generator.text import TooLong
        from finrank.training.memory import explain_out_of_memory

        generator = load_generator(self._directory, self._base_model)
        how = asdict(self._sampling)
        number = how.pop("num_candidates")
        for key, question in asked:
            advice = (
                f"The {number} completions of a question ({question.id}) are written at once: lower --num_candidates "
                "(and add --overwrite where completions of this number are kept already)"
            )
            try:
                with explain_out_of_memory(advice=advice):
                    texts = generator.complete([question], num_samples=number, **how)[0]
            except TooLong as error:
                yield Outcome(key, "refused", str(error))
                continue
            journal.add(key, [(text, None) for text in texts], (None, None))
            yield Outcome(key, "answered")


class EndpointSource:
    """Completions of a chat model behind an OpenAI-compatible URL."""

    def __init__(self, options: EndpointOptions, model: str, sampling: Sampling) -> None:
        """Nothing is sent yet; raises UserError for options out of range."""
        from finrank.sampling.endpoint import Endpoint

        options.check()
        self.name = f"{model} at {options.url}"
        self._sampling, self._concurrency = sampling, options.concurrency
        self._endpoint = Endpoint(
            options.url,
            model,
            api_key_env=options.api_key_env,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=options.max_tokens or None,
            timeout=options.timeout,
            max_retries=options.max_retries,
        )
        self.made_with = {
            "endpoint": options.url,
            "model": model,
            **asdict(sampling),
            "max_tokens": options.max_tokens,
            "instructions": hashlib.sha256(INSTRUCTIONS.encode()).hexdigest(),
        }

    def sample(self, asked: Iterator[Asked], journal: Journal) -> Generator[Outcome]:
        """Complete several questions at a time, in the order in which the server answers."""
        from finrank.sampling.endpoint import finished

        if not journal.is_empty:
            self._endpoint.has_answered = True
        return finished((self._ask(one, journal) for one in asked), self._concurrency, self._endpoint)

    def answers(self, asked: Asked) -> bool:
        """Whether the server answers this question now; the completion is thrown away. UserError as `Endpoint.ask`."""
        from finrank.sampling.endpoint import Refused, Unanswered, finished

        # A seed that no request of the run has: a server's cache would answer for a model that is down.
        seed = _seed_of(self._sampling.seed, asked.question.id, -1)
        probe = self._endpoint.ask(write_messages(asked.question), n=1, seed=seed)
        try:
            list(finished(iter([probe]), 1, self._endpoint))
        except (Refused, Unanswered):
            return False
        return True

    async def _ask(self, asked: Asked, journal: Journal) -> Outcome:
        """Ask until a question has all its completions: a server may give fewer at a time than it is asked for."""
        from finrank.sampling.endpoint import Forbidden, Refused, Unanswered

        key, question = asked
        try:
            while (missing := self._sampling.num_candidates - journal.count(key)) > 0:
                # Another seed for each request, or the rest would be copies of what is there.
                seed = _seed_of(self._sampling.seed, question.id, journal.requests(key))
                reply = await self._endpoint.ask(write_messages(question), n=missing, seed=seed)
                # One more than is read, so that it still counts as too long.
                texts = [(text[: LONGEST_TEXT + 1], finish) for text, finish in reply.completions]
                journal.add(key, texts, (reply.prompt_tokens, reply.completion_tokens))
        except Forbidden as error:
            return Outcome(key, "forbidden", str(error))
        except Refused as error:
            return Outcome(key, "refused", str(error))
        except Unanswered as error:
            return Outcome(key, "unanswered", str(error))
        except UserError as error:
            return Outcome(key, "stopped", str(error))
        return Outcome(key, "answered")


def _machine(base_model: str | None) -> dict[str, Any]:
    """What besides model and seed decides what a generator draws."""
    import torch

    found = versions("torch", "transformers")
    return {
        "base model given": base_model or "none",
        "torch": found["torch"],
        "transformers": found["transformers"],
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }


def _seed_of(seed: int, identifier: str, request: int) -> int:
    """The seed of a request, from 0 to 2^31 - 1, which every server takes."""
    return seed_of(seed, identifier, request) >> 33
