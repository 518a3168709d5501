"""Everything that defines a generator, stored as `generator_config.json` with its weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from finrank.errors import UserError
from finrank.pools.corruption.fit_likeness import fold_of
from finrank.ranker.base_model import pinned
from finrank.ranker.settings import RankerSettings
from finrank.training.config import TrainingConfig

# Keys of the shared configs that only the ranker uses, in their sections.
_OF_THE_RANKER = ("pooling", "attention_route", "score_head", "head_learning_rate", "tokens_per_pass")
_OF_ITS_PROMPT = ("labels", "program_style")


class GeneratorSettings(RankerSettings):
    """Base weights, prompt, adapters and length of a completion; the ranker's pooling, route and head go unused."""

    max_new_tokens: int = Field(ge=1, description="tokens of a completion, its end token included")
    constrained: bool = Field(default=True, description="write programs over the page's numbers and nothing else")
    left_out_half: Literal[0, 1] | None = Field(
        default=None, description="the half of the train pages that it never saw; null: it saw all"
    )

    def has_seen(self, page: str) -> bool:
        """False if this page would be in the half of the train pages that was left out of training."""
        return self.left_out_half is None or fold_of(page) != self.left_out_half


def generator_settings(config: TrainingConfig) -> GeneratorSettings:
    """The part of a config that is stored with the model; UserError if it leaves a generator nothing to read."""
    if config.prompt.candidate_only:
        raise UserError("prompt.candidate_only hides the page: it is the ranker's control, a generator needs the page")
    if config.prompt.context_tokens == 0:
        raise UserError("prompt.context_tokens 0 hides the page, which a generator needs: set it to null, or over 0")
    if config.prompt.max_length <= config.generation.max_new_tokens:
        raise UserError(
            f"generation.max_new_tokens {config.generation.max_new_tokens} leaves no room for a prompt in "
            f"prompt.max_length {config.prompt.max_length}: raise the one or lower the other"
        )
    stored = dict(pinned(config.ranker_settings()))
    generation = config.generation
    return GeneratorSettings(
        **stored,
        max_new_tokens=generation.max_new_tokens,
        constrained=generation.constrained,
        left_out_half=generation.left_out_half,
    )


def ignored_keys(config: TrainingConfig) -> list[str]:
    """The keys that the config sets and a generator does not use."""
    keys = [key for key in _OF_THE_RANKER if key in config.model_fields_set]
    return keys + [f"prompt.{key}" for key in _OF_ITS_PROMPT if key in config.prompt.model_fields_set]
