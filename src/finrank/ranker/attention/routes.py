"""Which attention route a model takes: chosen from device, architecture and sizes of pools, and checked.

    naive    every candidate with its own prefix: the reference, and the fallback for what cannot be packed
    mask     one packed row per question under a boolean mask
    split    one stream without padding; candidates against the prefix's keys, and against their own
    cached   the same for inference: the prefix first, then candidates in chunks

All give the same scores up to rounding. `check_route` holds the chosen one against `naive` on a small input.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from finrank.console import warn
from finrank.errors import UserError
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.stream import two_pass_vectors

if TYPE_CHECKING:
    from finrank.ranker.model import CandidateRankingModel

RouteName = Literal["naive", "mask", "split", "cached"]
_Way = Callable[[Sequence[EncodedPool]], Tensor]

# Architectures whose packed scores are held against naive ones in the tests.
_PACKABLE = frozenset({"bert", "llama", "mistral", "qwen2", "qwen3"})
# On a GPU the mask has (tokens of the packed row)^2 entries; beyond this many candidates they outweigh the rest.
_MASK_CANDIDATES = 64
# On a CPU training is faster with a mask up to about this many tokens in a packed row, and takes less memory; beyond,
# attention over whole rows costs more than cutting them apart (docs/experiments.md).
_MASK_TOKENS = 512
# Packed and naive vectors of one input may differ by this much of their length before the packed route is given up:
# rounding alone gives about 1e-6 and 2e-2, a route broken on purpose 0.2 and more.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 8e-2}


@dataclass(frozen=True)
class Route:
    """A route and why it was taken."""

    name: RouteName
    reason: str


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
    model: CandidateRankingModel, *, training: bool = False, candidates: int = 8, tokens: int = _MASK_TOKENS
) -> Route:
    """The route for this model on its device.

    In training `candidates` is the size of the largest pools, `tokens` the median length of a packed row.
    The config's `attention_route` decides where it names one. Raises UserError when it names one that this architecture
    cannot take.
    """
    wanted, device = model.settings.attention_route, model.device.type
    if model.why_not_packed:
        if wanted not in ("auto", "naive"):
            raise UserError(f"attention_route: {wanted}, but {model.why_not_packed}: set it to auto or naive")
        return Route("naive", model.why_not_packed)
    if wanted == "cached" and training:
        return Route("split", "the config says cached, which is for inference: split is its form for training")
    if wanted != "auto":
        return Route(wanted, "the config says so")
    if not training:
        return Route("cached", "the prefix is encoded once, and memory does not grow with the candidates")
    if device == "cpu":
        if tokens <= _MASK_TOKENS:
            return Route("mask", f"the faster one in training on a CPU for rows of up to {_MASK_TOKENS} tokens")
        return Route("split", f"the faster one in training on a CPU for rows of more than {_MASK_TOKENS} tokens")
    if candidates > _MASK_CANDIDATES:
        return Route("split", f"a mask over rows of more than {_MASK_CANDIDATES} candidates costs more than it saves")
    return Route("mask", f"one kernel per layer on {device}, up to {_MASK_CANDIDATES} candidates")


def checked_route(
    model: CandidateRankingModel, *, training: bool = False, candidates: int = 8, tokens: int = _MASK_TOKENS
) -> Route:
    """`choose_route`, after comparing its vectors with the naive route's; warns and gives naive where they differ.

    Raises UserError as `choose_route` does.
    """
    route = choose_route(model, training=training, candidates=candidates, tokens=tokens)
    if model.why_not_packed and model.settings.attention_route == "auto":
        warn(f"{model.why_not_packed}: every candidate is encoded with its own prefix, which is slower, and right")
    return check_route(model, route)


def training_routes(model: CandidateRankingModel, pools: Sequence[EncodedPool]) -> tuple[Route, RouteName]:
    """The checked route of training steps over these pools, and that of the scoring between."""
    most = max(len(pool.candidates) for pool in pools)
    tokens = round(statistics.median(pool.length for pool in pools))
    route = checked_route(model, training=True, candidates=most, tokens=tokens)
    scoring: RouteName = "naive" if route.name == "naive" else check_route(model, choose_route(model)).name
    return route, scoring


def check_route(model: CandidateRankingModel, route: Route) -> Route:
    """Compare a route's vectors with naive ones on a small input; gives the route to use.

    A difference (an attention implementation that ignores the mask, the layout or the positions) gives `naive`, with a
    warning: slower, and right. Vectors are compared and not scores: a fresh head makes all scores nearly equal.
    """
    if route.name == "naive":
        return route
    vocabulary = model.encoder.config.vocab_size
    ids = [(7 * token + 11) % vocabulary for token in range(300)]
    short = EncodedPool("short", ids[5:12], [ids[30:41], ids[40:42]])
    long = EncodedPool("long", ids[:20], [ids[start : start + 26 + start % 7] for start in range(0, 240, 20)])
    ways = [_by_route(model, route.name)]
    if route.name == "cached":  # by itself it takes two passes only where all is long
        ways.append(lambda pools: two_pass_vectors(model.encoder, pools, model.causal, model.pooling, chunk_tokens=64))
    differences = _differences(model, ([long, short], [short], short.alone()[:1]), ways)
    tolerance = _TOLERANCE["bfloat16" if model.settings.quantization else model.settings.dtype]
    if all(difference <= tolerance for difference in differences):  # none of them is nan
        return route
    difference = max(differences, key=lambda value: (math.isnan(value), value))
    warn(
        f"vectors of the route {route.name} differ from naive ones by {difference:.2g} of their size on a small input "
        f"with this architecture ({type(model.encoder.get_base_model()).__name__}): falling back to the naive route, "
        "which is slower"
    )
    return Route("naive", f"{route.name} gave other vectors on the check at load")


def _by_route(model: CandidateRankingModel, route: RouteName) -> _Way:
    return lambda pools: model.candidate_vectors(pools, route)


def _differences(
    model: CandidateRankingModel, inputs: Sequence[Sequence[EncodedPool]], ways: Sequence[_Way]
) -> list[float]:
    """For each input and way, how far a candidate's vector is from the naive one at most, as a share of its length."""
    was_training = model.training
    model.eval()
    found = []
    with torch.inference_mode():
        for pools in inputs:
            naive_ND = _by_route(model, "naive")(pools)
            for way in ways:
                found.append(((way(pools) - naive_ND).norm(dim=1) / naive_ND.norm(dim=1)).max().item())
    model.train(was_training)
    return found
