"""Llama shapes with random weights, random pools with FinQA's token counts, and the counts of both."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import LlamaModel

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.training.batches import TrainingPool

CONFIGS = Path(__file__).parents[2] / "configs" / "models"
LENGTHS = Path(__file__).parent / "finqa_lengths.json"

_KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
_SIZES = {
    "llama-3-8b": (4096, 14336, 32, 32, 8),
    "smollm2-135m": (576, 1536, 30, 9, 3),
    "small": (384, 1024, 6, 6, 6),
    "toy": (32, 64, 2, 4, 2),
}
SHAPES: dict[str, dict[str, int]] = {
    name: dict(zip(_KEYS, sizes, strict=True), max_position_embeddings=1024) for name, sizes in _SIZES.items()
}
SHAPES["llama-3-8b"] |= {"vocab_size": 128256, "max_position_embeddings": 8192}
SHAPES["smollm2-135m"] |= {"vocab_size": 49152, "max_position_embeddings": 8192}
TOY_VOCABULARY = 400
TOY_SHRINK = 16  # the toy's prefixes and candidates are this much shorter
# Dense bfloat16 rates in TFLOP/s from the makers' data sheets; the first part of a device's name that matches decides.
PEAKS = (("NVL", None), ("H100 PCIe", 756.0), ("H100", 989.0), ("H200", 989.0), ("A100", 312.0))


def peak_tflops(name: str) -> float | None:
    """The dense bfloat16 rate of a device in TFLOP/s; None where it is unknown.

    >>> peak_tflops("NVIDIA H100 80GB HBM3"), peak_tflops("NVIDIA H100 PCIe"), peak_tflops("NVIDIA L4")
    (989.0, 756.0, None)
    """
    return next((rate for part, rate in PEAKS if part in name), None)


@contextmanager
def weights_in(dtype: str, device: torch.device) -> Iterator[None]:
    """Models built inside get their weights in this precision, directly on the device."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def random_pools(vocabulary: int, seed: int, shrink: int = 1) -> list[TrainingPool]:
    """Pools of random tokens with FinQA's token counts over `shrink`; the first candidate is the correct one."""
    draw = random.Random(seed)
    pools = []
    for number, (prefix, candidates) in enumerate(json.loads(LENGTHS.read_text(encoding="utf-8"))["lengths"]):
        parts = [draw.choices(range(vocabulary), k=max(1, tokens // shrink)) for tokens in (prefix, *candidates)]
        pools.append(TrainingPool(EncodedPool(str(number), parts[0], parts[1:]), correct=[0]))
    return pools


def multiplying_parameters(base: LlamaModel) -> int:
    """Parameters of a base model without its embedding table, which multiplies nothing, and without adapters."""
    every = sum(value.numel() for name, value in base.named_parameters() if "lora_" not in name)
    return int(every - base.get_input_embeddings().weight.numel())


def packed_tokens(pools: Sequence[EncodedPool]) -> int:
    """Tokens with each prefix once, the least that any route computes."""
    return sum(pool.length for pool in pools)


def redundant_tokens(pools: Sequence[EncodedPool], route: RouteName) -> int:
    """Prefix tokens that a route computes again for each further candidate, padding aside.

    >>> pools = [EncodedPool("q", [7, 8, 9], [[1, 2], [3]])]
    >>> packed_tokens(pools), redundant_tokens(pools, "naive"), redundant_tokens(pools, "mask")
    (6, 3, 0)
    """
    if route != "naive":
        return 0
    return sum((len(pool.candidates) - 1) * len(pool.prefix) for pool in pools)
