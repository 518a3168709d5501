"""Tiny ranking models and pools for the tests of the attention routes, and ways to break a route on purpose."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.attention.shared_prefix import QKV, CandidatePass, Group, group_candidates
from finrank.ranker.attention.tuning import CPU, Tuning
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.settings import HeadSettings, LoraSettings, RankerSettings
from tests.helpers.tiny_models import tiny_encoder

FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "bert"]
# Each family with `pooling: auto`, and the two poolings that it never chooses.
POOLINGS = [*((family, "auto") for family in FAMILIES), ("llama", "mean"), ("bert", "last")]
PACKED: list[RouteName] = ["mask", "split", "cached"]
DIFFERENTIABLE: list[RouteName] = ["mask", "split"]
# `cached` takes its two passes for short pools too, or they would go unseen in tests.
TWO_PASSES = replace(CPU, one_pass_tokens=0)


def random_pool(name: str, prefix: int, *lengths: int) -> EncodedPool:
    """Random tokens, the same for the same arguments."""
    draw = random.Random(name)
    return EncodedPool(
        name, [draw.randrange(400) for _ in range(prefix)], [[draw.randrange(400) for _ in range(n)] for n in lengths]
    )


POOL = random_pool("ragged", 9, 3, 6, 1)
POOLS = [POOL, random_pool("two", 2, 2, 3), random_pool("one", 1, 5), random_pool("many", 30, *range(1, 18))]


def make_model(
    family: str,
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    lora: bool = True,
    tuning: Tuning | None = TWO_PASSES,
    **settings: Any,
) -> CandidateRankingModel:
    """A random model in evaluation mode; its adapters add nothing without `lora`."""
    sizes = {"lora": LoraSettings(rank=4), "score_head": HeadSettings(hidden_size=16, dropout=0.0)}
    definition = RankerSettings(base_model=f"tiny-{family}", dtype=dtype, **sizes, **settings)
    model = CandidateRankingModel.new(definition, tiny_encoder(family).to(getattr(torch, dtype)))
    model.tuning = tuning
    if lora:
        give_effect(model)
    return model.eval()


def give_effect(model: torch.nn.Module, std: float = 0.1) -> None:
    """LoRA starts with B = 0, where an adapter that is ignored would go unseen."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=std)


def score_alone(model: CandidateRankingModel, pool: EncodedPool, *, native: bool = False) -> Tensor:
    """Scores [candidates], each behind its own prefix, without any code of the routes.

    The prefix does not see the candidate, or, with `native`, as the architecture has it.
    """
    scores, prefix = [], len(pool.prefix)
    with torch.no_grad():
        for candidate in pool.candidates:
            ids = torch.tensor([pool.prefix + candidate])
            mask = torch.ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool)
            mask[:, :, :prefix, prefix:] = False
            mask = torch.ones_like(ids) if native else mask.tril() if model.causal else mask
            hidden = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state[0]
            scores.append(model.score_head(hidden[-1] if model.pooling == "last" else hidden[prefix:].mean(dim=0))[0])
    return torch.stack(scores)


def scores_of(model: CandidateRankingModel, pools: list[EncodedPool], route: RouteName) -> Tensor:
    with torch.no_grad():
        return model(pools, route)


def footprint(model: torch.nn.Module, run: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass, each storage once, without the frozen weights."""
    kept: dict[int, Tensor] = {}

    def note(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        assert run().requires_grad
    frozen = {value.untyped_storage().data_ptr() for value in model.parameters() if not value.requires_grad}
    return sum(value.untyped_storage().nbytes() for pointer, value in kept.items() if pointer not in frozen)


@contextmanager
def tampered(model: CandidateRankingModel, **edits: Callable[[Any], Any]) -> Iterator[None]:
    """Packed routes call the encoder with edited keyword arguments: `layout=…`, `pooled=…`, and so on."""

    def edit(_: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        packed = "pooled" in kwargs  # the naive route, to which the others are compared, stays as it is
        edited = {name: edits[name](kwargs[name]) for name in edits if packed and kwargs.get(name) is not None}
        return args, {**kwargs, **edited}

    with model.encoder.register_forward_pre_hook(edit, with_kwargs=True):
        yield


def regrouped(change: Callable[[slice, Group], tuple[slice, Group]]) -> Callable[[Any], Any]:
    """An edit of a layout: other groups, or other prefixes for them; a pass over prefixes alone stays as it is."""

    def edit(layout: Any) -> Any:
        if not hasattr(layout, "questions"):
            return layout
        changed = [[change(prefix, group) for group in groups] for prefix, groups in layout.questions]
        return replace(layout, questions=[(each[0][0], [group for _, group in each]) for each in changed])

    return edit


@dataclass(frozen=True, kw_only=True)
class EditedPass(CandidatePass):
    """A pass in which `edit` changes the keys and values of the prefixes."""

    edit: Callable[[Tensor], Tensor]

    def attend(self, layer: int, qkv: QKV, scaling: float, candidates_only: bool) -> Tensor:
        query, *pair = qkv
        in_prefix = torch.zeros(1, 1, query.shape[2], 1, dtype=torch.bool)
        for prefix, _ in self.questions:
            in_prefix[:, :, prefix] = True
        key, value = (torch.where(in_prefix, self.edit(tensor), tensor) for tensor in pair)
        return super().attend(layer, (query, key, value), scaling, candidates_only)


def with_prefix(edit: Callable[[Tensor], Tensor], when: Callable[[Any], bool] = lambda _: True) -> Callable[[Any], Any]:
    """An edit of a layout: `edit` is applied to the prefixes' keys and values, in whole passes where `when` is true."""
    return lambda layout: EditedPass(layout.causal, layout.questions, edit=edit) if when(layout) else layout


def running(positions: Tensor) -> Tensor:
    return positions[:, :1] + torch.arange(positions.shape[1])


def in_one_block(prefix: slice, group: Group) -> tuple[slice, Group]:
    tokens = group.tokens.stop - group.tokens.start
    return prefix, group_candidates([tokens], group.tokens.start, tokens, torch.device("cpu"))[0]


CUT_PREFIX = regrouped(lambda prefix, group: (slice(prefix.start, prefix.stop - 1), group))
# Ways to break a route: the keyword argument of the encoder, and its change.
BREAKS: dict[str, tuple[RouteName, str, Callable[[Any], Any]]] = {
    "siblings not masked": ("mask", "attention_mask", lambda mask: torch.ones_like(mask).tril()),
    "positions not restarted": ("mask", "position_ids", running),
    "stream positions not restarted": ("split", "position_ids", running),
    "cached positions not restarted": ("cached", "position_ids", running),
    "candidates in one block": ("split", "layout", regrouped(in_one_block)),
    "cached candidates in one block": ("cached", "layout", regrouped(in_one_block)),
    "padding of blocks seen": (
        "split", "layout", regrouped(lambda prefix, g: (prefix, replace(g, is_token_NC=torch.ones_like(g.is_token_NC))))
    ),
    "prefix left out": ("split", "layout", with_prefix(torch.zeros_like)),
    "cached prefix cut": ("cached", "layout", CUT_PREFIX),
    "pooled token not computed": ("mask", "pooled", lambda pooled: pooled[1:]),
    "pooled token of the stream not computed": ("split", "pooled", lambda pooled: pooled[:-1]),
}  # fmt: skip
