"""Scoring many pools with a model: batches of similar length, results in the order given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finrank.console import track
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.packing import EncodedPool

# Packed tokens (padding included) per forward pass: enough to fill two cores, small enough for their caches.
_TOKENS_PER_BATCH = 2048


def score_pools(
    model: CandidateRankingModel,
    pools: Sequence[EncodedPool],
    pad_id: int,
    *,
    route: str,
    description: str = "",
) -> list[np.ndarray]:
    """Scores [candidates] of each pool, in the order given; a progress bar is shown under `description`."""
    scores: list[np.ndarray] = [np.empty(0)] * len(pools)
    by_length = sorted(range(len(pools)), key=lambda index: pools[index].length)
    batches = _batches(by_length, pools)
    for batch in track(batches, description, total=len(batches)) if description else batches:
        for index, result in zip(batch, model.score([pools[i] for i in batch], pad_id, route), strict=True):
            scores[index] = result.numpy()
    return scores


def _batches(order: Sequence[int], pools: Sequence[EncodedPool]) -> list[list[int]]:
    batches: list[list[int]] = []
    for index in order:
        # Ascending lengths: the newest pool is the longest, so the padded size is its length times the count.
        if batches and pools[index].length * (len(batches[-1]) + 1) <= _TOKENS_PER_BATCH:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
