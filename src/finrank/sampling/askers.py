"""Where `finrank sample` gets its completions: a generator in a folder, or an endpoint (`endpoint.py`).

Both take questions, store what they receive in the journal, and report for each question whether it succeeded.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from finrank.console import warn
from finrank.errors import UserError
from finrank.sampling.journal import Journal
from finrank.sampling.policy import Attempt, EndpointOptions, Refused, Sampling
from finrank.sampling.question_files import Asked
from finrank.store import sha256, versions

if TYPE_CHECKING:
    from finrank.sampling.endpoint import Endpoint


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


Asker: TypeAlias = "GeneratorAsker | Endpoint"


def new_asker(model: str, options: EndpointOptions | None, sampling: Sampling, base_model: str | None) -> Asker:
    """The asker for a generator's folder or, with `options`, for a model's name at an endpoint."""
    if sampling.temperature == 0 and sampling.num_candidates > 1:
        warn("temperature 0 mostly returns the same completion every time: pools will hold repeats")
    if options is None:
        return GeneratorAsker(Path(model), sampling, base_model=base_model)
    from finrank.sampling.endpoint import Endpoint

    if base_model is not None:
        raise UserError("--base_model belongs to a model folder: an endpoint has its own")
    return Endpoint(options, model, sampling)
