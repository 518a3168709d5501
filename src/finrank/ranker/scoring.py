"""Scoring many pools with a model: passes of similar length, results in the order given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from finrank.console import track
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.encoding import encode
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.passes import cut_into_passes
from finrank.ranker.saving import LoadedModel
from finrank.records import Pool

# Tokens (padding included) per forward pass: enough to fill the device, few enough for a CPU's caches.
_TOKENS_PER_PASS = {"cpu": 2048, "cuda": 32768}


def score_pools(
    model: CandidateRankingModel,
    pools: Sequence[EncodedPool],
    *,
    route: RouteName,
    description: str = "",
) -> list[np.ndarray]:
    """Scores [candidates] of each pool in float32, in the order given; for inference.

    A progress bar is shown under `description`.
    """
    scores: list[list[np.ndarray]] = [[] for _ in pools]
    by_length = sorted(range(len(pools)), key=lambda index: pools[index].length)
    most = _TOKENS_PER_PASS.get(model.device.type, _TOKENS_PER_PASS["cuda"])
    passes = cut_into_passes([pools[index] for index in by_length], most, route)
    places = iter(by_length)
    place, missing = -1, 0
    for parts in track(passes, description, total=len(passes)) if description else passes:
        found = score_pass(model, parts, route)
        for part, own in zip(parts, found, strict=True):
            if not missing:
                place = next(places)
                missing = len(pools[place].candidates)
            scores[place].append(own)
            missing -= len(part.candidates)
    return [np.concatenate(own) for own in scores]


def score_records(loaded: LoadedModel, pools: Sequence[Pool], description: str) -> list[np.ndarray]:
    """Encode and score pools of records: scores [candidates] of each in float32, in the order given."""
    settings = loaded.model.settings.prompt
    encoded = [
        encode(pool, pool.candidates, loaded.tokenizer, settings) for pool in track(pools, "encoding", total=len(pools))
    ]
    return score_pools(loaded.model, encoded, route=loaded.route, description=description)


def score_pass(model: CandidateRankingModel, pools: Sequence[EncodedPool], route: RouteName) -> list[np.ndarray]:
    """Scores [candidates] of each pool from one forward pass without gradients or dropout."""
    was_training = model.training
    if was_training:  # walking through all modules costs milliseconds
        model.eval()
    with torch.inference_mode():
        # The class's own forward: in training, accelerate replaces the instance's by one under bfloat16 autocast.
        scores_N = type(model).forward(model, pools, route).cpu()
    if was_training:
        model.train()
    return [own.numpy() for own in scores_N.split([len(pool.candidates) for pool in pools])]
