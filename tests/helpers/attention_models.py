"""Tiny ranking models and pools for the tests of the routes."""

from __future__ import annotations

import random
from typing import Literal

import torch

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.settings import HeadSettings, LoraSettings, RankerSettings
from tests.helpers.tiny_models import tiny_encoder

FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "bert"]
PACKED: list[RouteName] = ["mask", "split", "cached"]
DIFFERENTIABLE: list[RouteName] = ["mask", "split"]


def random_pool(name: str, prefix: int, *lengths: int) -> EncodedPool:
    """Random tokens, the same for the same arguments."""
    draw = random.Random(name)
    return EncodedPool(
        name, [draw.randrange(400) for _ in range(prefix)], [[draw.randrange(400) for _ in range(n)] for n in lengths]
    )


POOL = random_pool("ragged", 9, 3, 6, 1)
POOLS = [POOL, random_pool("two", 2, 2, 3), random_pool("one", 1, 5), random_pool("many", 30, *range(1, 18))]


def make_model(
    family: str, *, dtype: Literal["float32", "bfloat16"] = "float32", lora: bool = True, route: str = "auto"
) -> CandidateRankingModel:
    """A random model in evaluation mode; `lora` gives its adapters an effect, else they add nothing."""
    settings = RankerSettings.model_validate(
        {
            "base_model": f"tiny-{family}",
            "dtype": dtype,
            "attention_route": route,
            "lora": LoraSettings(rank=4, dropout=0.0),
            "score_head": HeadSettings(hidden_size=16, dropout=0.0),
        }
    )
    model = CandidateRankingModel.new(settings, tiny_encoder(family).to(getattr(torch, dtype)))
    if lora:  # LoRA starts with B = 0, where an adapter that is ignored would go unseen
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "lora_B" in name:
                    value.normal_(std=0.1)
    return model.eval()


def score_alone(model: CandidateRankingModel, pool: EncodedPool) -> torch.Tensor:
    """Scores [candidates], each candidate by itself behind its prefix, without any code of the routes."""
    scores = []
    prefix = len(pool.prefix)
    for candidate in pool.candidates:
        ids = torch.tensor([pool.prefix + candidate])
        mask = None
        if not model.causal:  # a prefix-LM mask: prefix rows do not see the candidate's columns
            mask = torch.ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool)
            mask[:, :, :prefix, prefix:] = False
        hidden = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state[0]
        pooled = hidden[-1] if model.causal else hidden[prefix:].mean(dim=0)
        scores.append(model.score_head(pooled)[0])
    return torch.stack(scores)


def scores_of(model: CandidateRankingModel, pools: list[EncodedPool], route: RouteName) -> torch.Tensor:
    """Scores of all candidates, without gradients."""
    with torch.no_grad():
        return model(pools, route)
