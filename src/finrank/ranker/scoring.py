"""Scoring pools with a model, in forward passes of a bounded number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from accelerate.utils import gather_object

from finrank.console import track
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName, of_size
from finrank.ranker.encoding import encode_or_leave_out
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import LoadedModel
from finrank.records import Pool


def score_records(loaded: LoadedModel, pools: Sequence[Pool], description: str) -> list[np.ndarray]:
    """Encode and score pools of records, as `score_pools` does."""
    settings = loaded.model.settings.prompt
    encoded = [
        encode_or_leave_out(pool, pool.candidates, loaded.tokenizer, settings)[0]
        for pool in track(pools, "encoding", total=len(pools))
    ]
    return score_pools(loaded.model, encoded, route=loaded.route, description=description)


def score_pools(
    model: CandidateRankingModel, pools: Sequence[EncodedPool], *, route: RouteName, description: str = ""
) -> list[np.ndarray]:
    """Scores [all candidates] of each pool in logits, float32, for inference, with a progress bar under `description`.

    Those of candidates that are left out are minus infinity.
    """
    scorable = [index for index, pool in enumerate(pools) if pool.candidates]
    # Similar ones share a pass.
    by_length = sorted(scorable, key=lambda index: (of_size(pools[index], route), pools[index].length))
    passes = cut_into_passes([pools[index] for index in by_length], model.backbone.tuning.tokens_per_pass, route)
    passes = as_many_as_others(passes, model)
    parts: list[np.ndarray] = [np.empty(0, np.float32)]
    for one_pass in track(passes, description, total=len(passes)) if description else passes:
        parts += score_pass(model, one_pass, route)
    ends = np.cumsum([len(pools[index].candidates) for index in by_length])
    scores = dict(zip(by_length, np.split(np.concatenate(parts), ends), strict=False))
    return [_of_all(pool, scores.get(index, parts[0])) for index, pool in enumerate(pools)]


def _of_all(pool: EncodedPool, scores_N: np.ndarray) -> np.ndarray:
    """Scores [all candidates] from those of the encoded ones: minus infinity for a candidate that is left out."""
    if not pool.left_out:
        return scores_N
    scores = np.full(len(pool.candidates) + len(pool.left_out), -np.inf, dtype=scores_N.dtype)
    scores[pool.scored] = scores_N
    return scores


def score_pass(model: CandidateRankingModel, pools: Sequence[EncodedPool], route: RouteName) -> list[np.ndarray]:
    """Scores [candidates] of each pool from one forward pass without gradients or dropout."""
    was_training = model.training
    if was_training:  # walking through all modules costs milliseconds
        model.eval()
    # Weights that are gathered in inference mode could not be trained through.
    with torch.no_grad() if model.sharded else torch.inference_mode():
        scores_N = model(pools, route).cpu().numpy()
    if was_training:
        model.train()
    return np.split(scores_N, np.cumsum([len(pool.candidates) for pool in pools])[:-1])


def cut_into_passes(pools: Sequence[EncodedPool], limit: int, route: RouteName) -> list[list[EncodedPool]]:
    """Pools in passes of at most `limit` tokens, in order; a longer pool is cut into several with the same prefix.

    `cached` bounds the memory of a large pool by itself, so there a pool stays whole; `by_size` starts a pass where it
    changes from `mask` to `cached`. A candidate over the limit has a pass to itself.

    >>> pool = EncodedPool("q", [7, 8], [[1, 2], [3], [4]])
    >>> [[len(part.candidates) for part in parts] for parts in cut_into_passes([pool, pool], 9, "split")]
    [[3], [3]]
    >>> [[len(part.candidates) for part in parts] for parts in cut_into_passes([pool, pool], 4, "split")]
    [[1], [2], [1], [2]]
    """
    passes: list[list[EncodedPool]] = []
    before: RouteName | None = None
    for pool in pools:
        its_route = of_size(pool, route)
        for part in _parts(pool, limit, its_route):
            if its_route == before and cost([*passes[-1], part], its_route) <= limit:
                passes[-1].append(part)
            else:
                passes.append([part])
            before = its_route
    return passes


def as_many_as_others(passes: list[list[EncodedPool]], model: CandidateRankingModel) -> list[list[EncodedPool]]:
    """The passes, followed, where the processes share the base, by those of a token that make their number equal."""
    if not model.sharded:
        return passes
    most: int = max(gather_object([len(passes)]))
    return passes + [[EncodedPool("", [0], [[0]])]] * (most - len(passes))


def cost(pools: Sequence[EncodedPool], route: RouteName) -> int:
    """Tokens that one pass over the pools computes, padding included."""
    if route == "naive":
        rows = sum(len(pool.candidates) for pool in pools)
        return rows * max(len(pool.prefix) + max(map(len, pool.candidates)) for pool in pools)
    if route == "mask":
        return len(pools) * max(pool.length for pool in pools)
    return sum(pool.length for pool in pools)


def _parts(pool: EncodedPool, limit: int, route: RouteName) -> list[EncodedPool]:
    if route == "cached" or cost([pool], route) <= limit:
        return [pool]
    first, *rest = pool.alone()
    parts = [first]
    for alone in rest:
        longer = replace(pool, candidates=[*parts[-1].candidates, *alone.candidates])
        if cost([longer], route) <= limit:
            parts[-1] = longer
        else:
            parts.append(alone)
    return parts
