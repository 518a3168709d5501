"""Attention over a shared prefix without a mask, and without padding: what the routes `split` and `cached` run on.

Several questions lie one behind the other in a single row of tokens, the stream:

    tokens     p p p a a b | q q c c c        two questions, three candidates
    positions  0 1 2 3 4 3 | 0 1 2 3 4        restart after each prefix

No mask over the whole row is made. Per question, the prefix attends to itself (causally or not), and the candidates
attend to the prefix in one matrix product and to their own tokens in a batched one; one softmax goes over both:

    softmax([ q·k_prefix^T | q·k_own^T ]) · [ v_prefix ; v_own ]

That is exactly the attention of each candidate behind its own copy of the prefix (Juravsky et al. 2024, Hydragen, for
decoding; here also for whole candidates, and differentiable). `cached` runs the prefix first, keeps the keys and values
of every layer, stops as soon as those of the last one are known, and then scores candidates in chunks.

Everything reaches the layers through transformers' AttentionInterface and one keyword argument, `layout`.

Legend of shape suffixes: H heads, K key heads, G heads per key head, T tokens, P prefix tokens, N candidates, C tokens
of the longest candidate, X keys that a token sees (prefix and own), E width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

ATTENTION = "finrank_shared_prefix"
# Candidate tokens whose scores against the prefix are held at once: 12 heads x 256 x 400 floats stay in a CPU's caches.
_GROUP_TOKENS = {"cpu": 256, "cuda": 8192}


@dataclass(frozen=True)
class Group:
    """Neighbouring candidates of one question, as places in the stream and as padded blocks.

    Candidates of 2 and 3 tokens, standing from place 7 on: `blocks` [[0, 1, 0], [2, 3, 4]] says which token of the
    group fills each place of a block (padding repeats the candidate's first), `real` [[1, 1, 0], [1, 1, 1]] which
    places hold a token, `unblock` [0, 1, 3, 4, 5] where each token stands in the flattened blocks.
    """

    start: int
    stop: int
    blocks_NC: Tensor
    real_NC: Tensor
    unblock_T: Tensor


@dataclass
class PrefixCache:
    """Keys and values [1, key heads, tokens, width] of the prefixes, by attention module."""

    layers: int
    """Attention layers of the model: the pass over the prefixes ends at the last one."""
    kept: dict[nn.Module, tuple[Tensor, Tensor]] = field(default_factory=dict)


class PrefixDone(Exception):
    """Raised in the last attention layer of the pass over the prefixes: its keys and values are all that is wanted."""


@dataclass(frozen=True)
class Layout:
    """Where prefixes and candidates stand in the stream of one forward pass.

    Of the three kinds of pass, one pass over everything has no cache; the pass over prefixes has no groups and fills
    the cache; the pass over candidates reads it, and `prefixes` are then places in the cache.
    """

    causal: bool
    prefixes: list[tuple[int, int]]
    groups: list[list[Group]]
    """Of each question, in the order of the stream."""
    cache: PrefixCache | None = None

    @property
    def reads_cache(self) -> bool:
        """Whether the prefixes stand in the cache and not in the stream."""
        return self.cache is not None and len(self.cache.kept) == self.cache.layers


def group_candidates(lengths: Sequence[int], start: int, device: torch.device) -> list[Group]:
    """Groups of candidates with these lengths that stand in the stream from `start` on, in order."""
    most = _GROUP_TOKENS.get(device.type, _GROUP_TOKENS["cuda"])
    groups: list[Group] = []
    first = 0
    while first < len(lengths):
        last, longest = first, 0
        while last < len(lengths):
            longest = max(longest, lengths[last])
            if last > first and longest * (last + 1 - first) > most:
                break
            last += 1
        groups.append(_group(lengths[first:last], start, device))
        start = groups[-1].stop
        first = last
    return groups


def _group(lengths: Sequence[int], start: int, device: torch.device) -> Group:
    longest = max(lengths)
    lengths_N1 = torch.tensor(lengths).unsqueeze(1)
    first_N1 = lengths_N1.cumsum(0) - lengths_N1
    places_C = torch.arange(longest)
    real_NC = places_C < lengths_N1
    return Group(
        start,
        start + int(lengths_N1.sum()),
        torch.where(real_NC, first_N1 + places_C, first_N1).to(device),
        real_NC.to(device),
        real_NC.flatten().nonzero().squeeze(1).to(device),
    )


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    layout: Layout | None = None,
    pooled: Tensor | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: SDPA under the given mask, or over a stream where a layout comes along.

    `query` [batch, heads, tokens, width], `key` and `value` with key heads; gives [batch, tokens, heads, width].
    """
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    layer: Any = module
    prefix_wanted = pooled is None or layer.layer_idx + 1 < layer.config.num_hidden_layers
    with torch.autocast(device_type=query.device.type, enabled=False):
        key, value = key.to(query.dtype), value.to(query.dtype)
        return _attend(module, query, key, value, layout, scaling, prefix_wanted), None


AttentionInterface.register(ATTENTION, shared_prefix_attention)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scaling: float | None,
    prefix_wanted: bool,
) -> Tensor:
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    prefix_key, prefix_value = key, value
    cached = layout.reads_cache
    if layout.cache is not None:
        if cached:
            prefix_key, prefix_value = layout.cache.kept[module]
        else:
            layout.cache.kept[module] = (key, value)
            if layout.reads_cache:
                raise PrefixDone
    pieces_HTE = []
    for (begin, end), groups in zip(layout.prefixes, layout.groups, strict=True):
        own_key, own_value = prefix_key[:, :, begin:end], prefix_value[:, :, begin:end]
        if not cached and not prefix_wanted:
            pieces_HTE.append(torch.zeros_like(query[0, :, begin:end]))
        elif not cached:
            pieces_HTE.append(_prefix_to_itself(query[:, :, begin:end], own_key, own_value, layout.causal, scaling))
        for group in groups:
            tokens = slice(group.start, group.stop)
            prefix, own = (own_key[0], own_value[0]), (key[0, :, tokens], value[0, :, tokens])
            attend = _lone_candidate if len(group.blocks_NC) == 1 else candidates_to_prefix_and_selves
            pieces_HTE.append(attend(query[0, :, tokens] * scaling, prefix, own, group, layout.causal))
    return torch.cat(pieces_HTE, dim=1).transpose(0, 1).unsqueeze(0)


def _prefix_to_itself(query: Tensor, key: Tensor, value: Tensor, causal: bool, scaling: float) -> Tensor:
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(query, key, value, is_causal=causal, scale=scaling, enable_gqa=grouped).squeeze(
        0
    )


def _lone_candidate(
    query_HTE: Tensor,
    prefix: tuple[Tensor, Tensor],
    own: tuple[Tensor, Tensor],
    group: Group,
    causal: bool,
) -> Tensor:
    """`candidates_to_prefix_and_selves` for a group of one, which has no sibling: one kernel over all its keys."""
    key, value = (torch.cat(pair, dim=1).unsqueeze(0) for pair in zip(prefix, own, strict=True))
    tokens, keys = query_HTE.shape[1], key.shape[2]
    seen_TX = torch.ones(tokens, keys, dtype=torch.bool, device=key.device).tril(keys - tokens) if causal else None
    grouped = len(query_HTE) != key.shape[1]
    return scaled_dot_product_attention(
        query_HTE.unsqueeze(0), key, value, attn_mask=seen_TX, scale=1.0, enable_gqa=grouped
    ).squeeze(0)


def candidates_to_prefix_and_selves(
    query_HTE: Tensor,
    prefix: tuple[Tensor, Tensor],
    own: tuple[Tensor, Tensor],
    group: Group,
    causal: bool,
) -> Tensor:
    """Attention [heads, tokens, width] of a group's tokens over the prefix and each candidate's own tokens.

    `query_HTE` is scaled already; `prefix` holds keys and values [key heads, prefix tokens, width], `own` those of the
    group [key heads, tokens, width]. Heads that share a key head are handled as further queries of it.
    """
    heads, tokens, width = query_HTE.shape
    (key_KPE, value_KPE), (key_KTE, value_KTE) = prefix, own
    key_heads, prefix_tokens, _ = key_KPE.shape
    candidates, longest = group.blocks_NC.shape
    blocks = group.blocks_NC.flatten()

    to_prefix = query_HTE.reshape(key_heads, -1, width) @ key_KPE.transpose(1, 2)
    query_KGNCE = query_HTE[:, blocks].reshape(key_heads, -1, candidates, longest, width)
    key_KNCE = key_KTE[:, blocks].view(key_heads, 1, candidates, longest, width)
    value_KNCE = value_KTE[:, blocks].view(key_heads, 1, candidates, longest, width)
    allowed_NCC = group.real_NC.unsqueeze(1).expand(-1, longest, -1)
    if causal:
        allowed_NCC = allowed_NCC.tril()
    to_self = (query_KGNCE @ key_KNCE.transpose(-1, -2)).masked_fill(~allowed_NCC, float("-inf"))

    to_self_HTC = to_self.reshape(heads, candidates * longest, longest)[:, group.unblock_T]
    scores_HTX = torch.cat([to_prefix.view(heads, tokens, prefix_tokens), to_self_HTC], dim=-1)
    weights_HTX = scores_HTX.softmax(dim=-1, dtype=torch.promote_types(torch.float32, scores_HTX.dtype))
    weights_HTX = weights_HTX.to(value_KPE.dtype)

    from_prefix = weights_HTX[..., :prefix_tokens].reshape(key_heads, -1, prefix_tokens) @ value_KPE
    own_weights = weights_HTX[..., prefix_tokens:][:, blocks].reshape(key_heads, -1, candidates, longest, longest)
    from_self_HTE = (own_weights @ value_KNCE).reshape(heads, candidates * longest, width)[:, group.unblock_T]
    return from_prefix.view(heads, tokens, width) + from_self_HTE
