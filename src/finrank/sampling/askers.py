"""Where `finrank sample` gets its completions: a generator in a folder, or an endpoint.

Both take questions, store what they receive in the journal, and report for each question whether it succeeded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from finrank.console import warn
from finrank.errors import UserError
from finrank.pools.completion import INSTRUCTIONS, LONGEST_TEXT, write_messages
from finrank.sampling.journal import Journal
from finrank.sampling.policy import EndpointOptions, Fault, Refused, Sampling
from finrank.sampling.question_files import Asked
from finrank.seeds import seed_of
from finrank.store import sha256, versions


class Attempt(NamedTuple):
    """How asking a question ended; it has all its completions if there is no fault."""

    key: str
    fault: Exception | None = None


class GeneratorAsker:
    """Completions of a generator that `04_sft_train_generation.py` has trained."""

    max_failures = 0

    def __init__(self, model: Path, sampling: Sampling, *, base_model: str | None = None) -> None:
        """Raises UserError if the generator is incomplete; its weights are loaded with the first question."""
        import torch

        from finrank.generator.saving import CONFIG, find_generator, read_settings

        self.name, self.sampling = str(model), sampling
        self._directory, self._base_model = find_generator(model), base_model
        read_settings(self._directory)
        installed = versions("torch", "transformers")
        self.made_with = {
            **asdict(sampling),
            CONFIG: sha256(self._directory / CONFIG),  # which holds the hashes of adapters and tokenizer
            "base model given": base_model or "none",
            "torch": installed["torch"],
            "transformers": installed["transformers"],
            "device": "cuda" if torch.cuda.is_available() else "cpu",
        }

    def ask_all(self, asked: Iterator[Asked], journal: Journal) -> Generator[Attempt]:
        """Complete one question after the other."""
        from finrank.generator.model import load_generator
        from finrank.generator.text import TooLong
        from finrank.training.memory import explain_out_of_memory

        generator = load_generator(self._directory, self._base_model)
        options = asdict(self.sampling)
        number = options.pop("num_candidates")
        for key, question in asked:
            advice = (
                f"The {number} completions of a question ({question.id}) are written at once: lower --num_candidates "
                "(and add --overwrite where completions of this number are kept already)"
            )
            try:
                with explain_out_of_memory(advice=advice):
                    texts = generator.complete([question], num_samples=number, **options)[0]
            except TooLong as error:
                yield Attempt(key, Refused(str(error)))
                continue
            journal.add(key, [(text, None) for text in texts], (None, None))
            yield Attempt(key)


class EndpointAsker:
    """Completions of a chat model behind an OpenAI-compatible URL."""

    def __init__(self, options: EndpointOptions, model: str, sampling: Sampling) -> None:
        """Raises UserError for a URL or key that cannot be used; nothing is sent yet."""
        from finrank.sampling.endpoint import Endpoint

        self.name, self.sampling = f"{model} at {options.url}", sampling
        self.max_failures, self._concurrency = options.max_failures, options.concurrency
        self._endpoint = Endpoint(options, model, sampling)
        self.made_with = {
            "endpoint": options.url,
            "model": model,
            **asdict(sampling),
            "max_tokens": options.max_tokens,
            "instructions": hashlib.sha256(INSTRUCTIONS.encode()).hexdigest(),
        }

    def ask_all(self, asked: Iterator[Asked], journal: Journal) -> Generator[Attempt]:
        """Complete several questions at a time, in the order in which the server answers."""
        self._endpoint.has_answered |= not journal.is_empty
        return self._endpoint.run((self._ask(one, journal) for one in asked), self._concurrency)

    async def _ask(self, asked: Asked, journal: Journal) -> Attempt:
        """Ask until a question has all its completions: a server may return fewer at a time than requested."""
        key, question = asked
        try:
            while (missing := self.sampling.num_candidates - journal.count(key)) > 0:
                # A new seed for each request, or the rest would be copies; below 2^31, which every server accepts.
                seed = seed_of(self.sampling.seed, question.id, journal.requests(key)) >> 33
                reply = await self._endpoint.ask(write_messages(question), n=missing, seed=seed)
                # One more character than is read, so that a text that is too long is seen to be.
                texts = [(text[: LONGEST_TEXT + 1], finish) for text, finish in reply.completions]
                journal.add(key, texts, (reply.prompt_tokens, reply.completion_tokens))
        except (Fault, UserError) as fault:
            return Attempt(key, fault)
        return Attempt(key)


def new_asker(
    model: str, options: EndpointOptions | None, sampling: Sampling, base_model: str | None
) -> GeneratorAsker | EndpointAsker:
    """The asker for a generator's folder or, with `options`, for a model's name at an endpoint."""
    if sampling.temperature == 0 and sampling.num_candidates > 1:
        warn("temperature 0 mostly gives the same completion every time: pools will hold repeats")
    if options is None:
        return GeneratorAsker(Path(model), sampling, base_model=base_model)
    if base_model is not None:
        raise UserError("--base_model belongs to a model folder: an endpoint has its own")
    return EndpointAsker(options, model, sampling)
