"""A tiny random causal language model and a quick run of its training, for the tests of the generation baseline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from tokenizers import decoders
from transformers import AutoModelForCausalLM, LlamaConfig

from finrank.commands.generation import generation
from tests.conftest import REPOSITORY
from tests.helpers.pools import make_pool
from tests.helpers.tiny_models import SIZE, tiny_tokenizer

CONFIG = REPOSITORY / "configs" / "models" / "llama-3-8b.yaml"
SMALL = [
    "prompt.max_length=256", "generation.max_new_tokens=64", "mixed_precision=float32", "dtype=float32",
    "trainer.logging_steps=1", "trainer.gradient_accumulation_steps=1", "early_stopping_patience=null",
]  # fmt: skip
HIDDEN = 64


def save_tiny_causal_lm(directory: Path, seed: int = 0) -> Path:
    """A folder with a random Llama, its head included, and a tokenizer, like a download from the hub."""
    torch.manual_seed(seed)
    size = {**SIZE, "hidden_size": HIDDEN, "intermediate_size": 2 * HIDDEN}
    AutoModelForCausalLM.from_config(
        LlamaConfig(**size, num_key_value_heads=2, initializer_range=0.2, tie_word_embeddings=False)
    ).save_pretrained(directory)
    words = [word for number in range(40) for word in re.findall(r"\w+|\W", make_pool(number).model_dump_json())]
    tokenizer = tiny_tokenizer(words, "llama")
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save_pretrained(directory)
    return directory


def train(folder: Path, *more: str, **options: Any) -> Path:
    """Train on `folder/data` with the tiny model in `folder/base`, made if missing."""
    base = folder / "base"
    if not base.exists():
        save_tiny_causal_lm(base)
    arguments: dict[str, Any] = {"base_model": str(base), **options}
    return generation(CONFIG, folder / "data", folder / "outputs", overrides=[*SMALL, *more], **arguments)
