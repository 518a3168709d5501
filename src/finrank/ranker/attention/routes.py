"""The attention routes, and which one is taken: by the config, or by device, architecture and sizes of pools.

    naive    every candidate with its own copy of the prefix: the reference, and all that some architectures can do
    mask     one packed row per question under a mask
    split    one stream without padding; candidates attend to the prefix's keys and to their own
    cached   the same for inference: the prefix first, then candidates in chunks
    by_size  `mask` for small pools, `cached` for large ones: for inference on a GPU, where `split` and `cached` launch
             some 25 kernels per question and layer, and `mask` the same few for all questions of a pass

All return the same scores up to rounding (`check.py`).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from finrank.errors import UserError
from finrank.ranker.attention.packed_row import Backbone, EncodedPool, mask_vectors, naive_vectors
from finrank.ranker.attention.stream import cached_vectors, split_vectors
from finrank.ranker.attention.tuning import CPU, GPU, Tuning

RouteName = Literal["naive", "mask", "split", "cached", "by_size"]


def of_size(pool: EncodedPool, route: RouteName, tuning: Tuning = GPU) -> RouteName:
    """The route that `by_size` takes for a pool; any other route is itself."""
    if route != "by_size":
        return route
    return "cached" if len(pool.candidates) > tuning.mask_candidates else "mask"


def by_size_vectors(backbone: Backbone, pools: Sequence[EncodedPool]) -> Tensor:
    """Route `by_size`: `cached` for a pass with a large pool, else `mask`."""
    large = any(of_size(pool, "by_size", backbone.tuning) == "cached" for pool in pools)
    return cached_vectors(backbone, pools) if large else mask_vectors(backbone, pools)


VECTORS: dict[RouteName, Callable[[Backbone, Sequence[EncodedPool]], Tensor]] = {
    "naive": naive_vectors,
    "mask": mask_vectors,
    "split": split_vectors,
    "cached": cached_vectors,
    "by_size": by_size_vectors,
}
"""Functions that compute vectors [all candidates, width] in float32."""
# Architectures whose packed scores the tests compare with naive ones.
_PACKABLE = frozenset({"bert", "llama", "mistral", "qwen2", "qwen3"})


@dataclass(frozen=True)
class Route:
    """A route and the reason for taking it."""

    name: RouteName
    reason: str


@dataclass(frozen=True)
class TrainingRows:
    """Sizes of the pools of a training set, on which its route depends."""

    candidates: int = 8
    """Candidates of the largest pool."""
    tokens: int = CPU.mask_tokens
    """Median tokens of a packed row."""

    @classmethod
    def of(cls, pools: Sequence[EncodedPool]) -> TrainingRows:
        """The sizes of these pools."""
        tokens = round(statistics.median(pool.length for pool in pools))
        return cls(max(len(pool.candidates) for pool in pools), tokens)


def why_not_packed(config: Any, max_length: int) -> str | None:
    """Why candidates of this architecture (a transformers config) cannot share one prefix; None when they can."""
    kinds = set(getattr(config, "layer_types", None) or [])
    if kinds & {"linear_attention", "mamba", "recurrent"}:
        return f"{config.model_type} has layers of linear attention, which keep one running state for the whole row"
    if config.model_type not in _PACKABLE:
        return f"packing is not tested with the architecture {config.model_type}"
    window = getattr(config, "sliding_window", None)
    slides = "sliding_attention" in kinds or (not kinds and window is not None)
    if slides and window is not None and window < max_length:
        return f"{config.model_type} has a sliding window of {window} tokens, less than prompt.max_length {max_length}"
    return None


def choose_route(
    wanted: Literal["auto"] | RouteName, backbone: Backbone, training: TrainingRows | None = None
) -> Route:
    """The route for the config's `attention_route`, for inference or for training on pools of these sizes."""
    tuning, device = backbone.tuning, backbone.encoder.device.type
    if backbone.obstacle is not None:
        if wanted not in ("auto", "naive"):
            raise UserError(f"attention_route: {wanted}, but {backbone.obstacle}: set it to auto or naive")
        return Route("naive", backbone.obstacle)
    if wanted == "cached" and training is not None:
        return Route("split", "the config says cached, which is for inference: split is its form for training")
    if wanted != "auto":
        return Route(wanted, "the config says so")
    limit = tuning.mask_candidates
    if training is None and device == "cpu":
        return Route("cached", "the prefix is encoded once, and memory does not grow with the candidates")
    if training is None:
        return Route("by_size", f"one kernel per layer on {device} up to {limit} candidates, cached for larger pools")
    if device == "cpu":
        if training.tokens <= tuning.mask_tokens:
            return Route("mask", f"the faster one in training on a CPU for rows of up to {tuning.mask_tokens} tokens")
        return Route("split", f"the faster one in training on a CPU for rows of more than {tuning.mask_tokens} tokens")
    if training.candidates > limit:
        return Route("split", f"a mask over rows of more than {limit} candidates costs more than it saves")
    return Route("mask", f"one kernel per layer on {device}, up to {limit} candidates")
