"""Tiny random models and a tokenizer for tests: the real architectures at toy size, nothing to download."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModel,
    BertConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

SIZE: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SIZE, num_key_value_heads=2, initializer_range=0.2),
    "qwen2": Qwen2Config(**SIZE, num_key_value_heads=2, initializer_range=0.2),
    "qwen3": Qwen3Config(**SIZE, num_key_value_heads=2, head_dim=8, initializer_range=0.2),
    "mistral": MistralConfig(**SIZE, num_key_value_heads=1, initializer_range=0.2),
    "bert": BertConfig(**SIZE, initializer_range=0.2, hidden_dropout_prob=0.1),
}


def tiny_encoder(family: str, seed: int = 0) -> Any:
    """A randomly initialised base model; weights are large enough for scores to differ visibly."""
    torch.manual_seed(seed)
    return AutoModel.from_config(CONFIGS[family], attn_implementation="sdpa").eval()


def tiny_tokenizer(texts: Iterable[str], family: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the texts, with the family's own kind of special tokens."""
    special = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
    if family == "bert":
        special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE["vocab_size"],
        special_tokens=list(special.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def save_tiny_base(directory: Path, family: str, seed: int = 0) -> Path:
    """A folder with a random base model and its tokenizer, as a hub download would leave it."""
    tiny_encoder(family, seed).save_pretrained(directory)
    words = [*re.findall(r"\S+", Path(__file__).read_text(encoding="utf-8")), "revenue", "what", "is", "the", "change"]
    tiny_tokenizer(words * 2, family).save_pretrained(directory)
    return directory
