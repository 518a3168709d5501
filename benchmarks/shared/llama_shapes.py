"""What `llama_8b_gpu.py` measures: the model in a shape, random pools in FinQA's lengths, and counts of both."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaModel

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.model import CandidateRankingModel
from finrank.training.batches import TrainingPool
from finrank.training.config import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "models"
LENGTHS = Path(__file__).resolve().parent / "finqa_lengths.json"

SHAPES: dict[str, dict[str, int]] = {
    "llama-3-8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
    },
    "toy": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 400,
        "max_position_embeddings": 1024,
    },
}
TOY_SHRINK = 16  # the toy's prefixes and candidates are this much shorter
# Dense bfloat16 rates in TFLOP/s from the makers' data sheets; the first name that fits decides.
PEAKS = (("NVL", None), ("H100 PCIe", 756.0), ("H100", 989.0), ("H200", 989.0), ("A100", 312.0))


@dataclass
class Bench:
    """What all measurements share."""

    model: CandidateRankingModel
    optimizer: torch.optim.Optimizer
    pools: list[TrainingPool]
    seed: int
    peak_tflops: float | None
    ends: float
    """When the time is over, on the monotonic clock."""
    skipped: list[str] = field(default_factory=list)

    def fits(self, seconds: float, what: str) -> bool:
        """Whether so much time is left; if not, `what` is noted as skipped."""
        left = self.ends - time.monotonic()
        if seconds > left:
            self.skip(f"{what}: about {seconds:.0f} s, of which {max(left, 0):.0f} s are left")
        return seconds <= left

    def skip(self, why: str) -> None:
        """Note and print what is left out."""
        self.skipped.append(why)
        print(f"left out: {why}", flush=True)


def peak_tflops(name: str) -> float | None:
    """The dense bfloat16 rate of a device in TFLOP/s; None where it is not known.

    >>> peak_tflops("NVIDIA H100 80GB HBM3"), peak_tflops("NVIDIA H100 PCIe"), peak_tflops("NVIDIA L4")
    (989.0, 756.0, None)
    """
    return next((rate for part, rate in PEAKS if part in name), None)


def make_bench(shape: str, device: torch.device, seed: int, peak: float | None, ends: float) -> Bench:
    """Model, optimizer and pools of a shape; weights are made on the device and never stand elsewhere."""
    torch.manual_seed(seed)
    settings = load_config(CONFIGS / "llama-3-8b.yaml").ranker_settings()
    if device.type == "cpu":
        settings = settings.model_copy(update={"dtype": "float32"})
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, settings.dtype))
    try:
        with device:
            config = LlamaConfig(**SHAPES[shape], rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
            encoder = LlamaModel(config).requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
    model = CandidateRankingModel.new(settings, encoder).train()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:  # LoRA starts with B = 0, where a route that drops the adapters would look right
                value.normal_(std=0.01)
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01, fused=device.type == "cuda")
    pools = random_pools(config.vocab_size, seed, TOY_SHRINK if shape == "toy" else 1)
    return Bench(model, optimizer, pools, seed, peak, ends)


def random_pools(vocabulary: int, seed: int, shrink: int = 1) -> list[TrainingPool]:
    """Random tokens in FinQA's lengths; the first candidate is correct."""
    draw = random.Random(seed)
    pools = []
    for number, (prefix, candidates) in enumerate(json.loads(LENGTHS.read_text(encoding="utf-8"))["lengths"]):
        parts = [draw.choices(range(vocabulary), k=max(1, tokens // shrink)) for tokens in (prefix, *candidates)]
        pools.append(TrainingPool(EncodedPool(str(number), parts[0], parts[1:]), correct=[0]))
    return pools


def multiplying_parameters(base: LlamaModel) -> int:
    """Parameters of a base model without its embedding table and the adapters in it."""
    every = sum(value.numel() for name, value in base.named_parameters() if "lora_" not in name)
    return int(every - base.get_input_embeddings().weight.numel())


def packed_tokens(pools: Sequence[EncodedPool]) -> int:
    """Tokens with each prefix once: the work that nobody can leave out."""
    return sum(pool.length for pool in pools)


def redundant_tokens(pools: Sequence[EncodedPool], route: RouteName) -> int:
    """Prefix tokens that a route computes again for a further candidate, padding aside.

    >>> pools = [EncodedPool("q", [7, 8, 9], [[1, 2], [3]])]
    >>> packed_tokens(pools), redundant_tokens(pools, "naive"), redundant_tokens(pools, "mask")
    (6, 3, 0)
    """
    if route != "naive":
        return 0
    return sum((len(pool.candidates) - 1) * len(pool.prefix) for pool in pools)
