"""Where `finrank sample` gets its completions: a generator in a folder, or an endpoint (`endpoint.py`).

Both take questions, store what they receive in the journal, and report for each question whether it succeeded.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
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
    """Completions of generators that `04_sft_train_generation.py` has trained.

    Each question gets those of the first that did not see its page in training, or of the first.
    """

    max_failures = 0

    def __init__(self, models: Sequence[Path], sampling: Sampling, *, base_model: str | None = None) -> None:
        """Raises UserError if a generator is incomplete; weights are loaded with the first question."""
        import torch

        from finrank.generator.saving import CONFIG, find_generator, read_settings

        self.name, self.sampling = ", ".join(map(str, models)), sampling
        self._directories, self._base_model = [find_generator(model) for model in models], base_model
        self._settings = [read_settings(directory) for directory in self._directories]
        installed = versions("torch", "transformers")
        self.made_with = {
            **asdict(sampling),
            # Which holds the hashes of adapters and tokenizer.
            **{f"generator {number}": sha256(one / CONFIG) for number, one in enumerate(self._directories, 1)},
            "base model given": base_model or "none",
            "torch": installed["torch"],
            "transformers": installed["transformers"],
            "device": "cuda" if torch.cuda.is_available() else "cpu",
        }

    @property
    def may_have_seen(self) -> bool:
        """True if a train page may be one that every generator has learned from."""
        return not {0, 1} <= {settings.left_out_half for settings in self._settings}

    def ask_all(self, asked: Iterator[Asked], journal: Journal) -> Generator[Attempt]:
        """Complete one question after the other."""
        from finrank.generator.model import load_generator
        from finrank.generator.text import TooLong
        from finrank.training.memory import explain_out_of_memory

        generators = [load_generator(directory, self._base_model) for directory in self._directories]
        options = asdict(self.sampling)
        number = options.pop("num_candidates")
        for key, question in asked:
            advice = (
                f"The {number} completions of a question ({question.id}) are written at once: lower --num_candidates "
                "(and add --overwrite where completions of this number are kept already)"
            )
            seen = [settings.has_seen(question.page) for settings in self._settings]
            generator = generators[0 if all(seen) else seen.index(False)]
            try:
                with explain_out_of_memory(advice=advice):
                    texts = generator.complete([question], num_samples=number, **options)[0]
            except TooLong as error:
                yield Attempt(key, Refused(str(error)))
                continue
            journal.add(key, [(text, None) for text in texts], (None, None))
            yield Attempt(key)


Asker: TypeAlias = "GeneratorAsker | Endpoint"


def new_asker(
    models: Sequence[str], options: EndpointOptions | None, sampling: Sampling, base_model: str | None
) -> Asker:
    """The asker for generators' folders or, with `options`, for a model's name at an endpoint."""
    if sampling.temperature == 0 and sampling.num_candidates > 1:
        warn("temperature 0 mostly returns the same completion every time: pools will hold repeats")
    if options is None:
        return GeneratorAsker([Path(model) for model in models], sampling, base_model=base_model)
    from finrank.sampling.endpoint import Endpoint

    if base_model is not None:
        raise UserError("--base_model belongs to a model folder: an endpoint has its own")
    if len(models) > 1:
        raise UserError("several --model are generators in folders: an endpoint is asked for one model")
    return Endpoint(options, models[0], sampling)


def warn_of_seen(asker: Asker, splits: Collection[str]) -> None:
    """Warn if train questions are answered by a generator that has learned their gold."""
    if "train" in splits and isinstance(asker, GeneratorAsker) and asker.may_have_seen:
        warn(
            "train questions may have been seen in training, and what is written for them is too good: give two "
            "generators, each trained without one half of the pages (generation.left_out_half)"
        )
