"""Attention over a shared prefix without mask or padding: the kernel of the routes `split` and `cached`.

The prefix of a question attends to itself (causally or not). Its candidates attend to the prefix in one matrix product
and to their own tokens in a batched one, under one softmax:

    softmax([ q·k_prefix^T | q·k_own^T ]) · [ v_prefix ; v_own ]

That equals the attention of each candidate behind its own copy of the prefix (Juravsky et al. 2024, Hydragen, for
decoding; here also for whole candidates, and differentiable). A layout describes the stream of one forward pass; each
layer calls its `attend`.

Legend of shape suffixes: H heads, K key heads, G heads per key head, T tokens, P prefix tokens, N candidates, C tokens
of the longest candidate, X keys that a token sees (prefix and own), E width of a head. Queries, keys and values come
from transformers as [1, heads or key heads, tokens, width].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

ATTENTION = "finrank_shared_prefix"
QKV = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values of one layer."""


@dataclass(frozen=True)
class Group:
    """Neighbouring candidates of one question as padded blocks; the examples are for candidates of 2 and 3 tokens."""

    tokens: slice
    """Tokens of the group in the stream."""
    gather_index_NC: Tensor
    """[[0, 1, 0], [2, 3, 4]]: token of the group in each place of a block; padding repeats a candidate's first."""
    is_token_NC: Tensor
    """[[1, 1, 0], [1, 1, 1]]: places that are not padding."""
    scatter_index_T: Tensor
    """[0, 1, 3, 4, 5]: place of each token in the flattened blocks."""


def group_candidates(lengths: Sequence[int], start: int, limit: int, device: torch.device) -> list[Group]:
    """Groups of at most `limit` padded tokens, for candidates of these lengths that begin at `start` in the stream."""
    groups: list[Group] = []
    members: list[int] = []
    longest = 0
    for length in lengths:
        if members and max(longest, length) * (len(members) + 1) > limit:
            groups.append(_group(members, start, device))
            start, members, longest = groups[-1].tokens.stop, [], 0
        members.append(length)
        longest = max(longest, length)
    return [*groups, _group(members, start, device)]


def _group(lengths: Sequence[int], start: int, device: torch.device) -> Group:
    lengths_N1 = torch.tensor(lengths).unsqueeze(1)
    first_N1 = lengths_N1.cumsum(0) - lengths_N1
    steps_C = torch.arange(max(lengths))
    is_token_NC = steps_C < lengths_N1
    return Group(
        slice(start, start + sum(lengths)),
        torch.where(is_token_NC, first_N1 + steps_C, first_N1).to(device),
        is_token_NC.to(device),
        is_token_NC.flatten().nonzero().squeeze(1).to(device),
    )


@dataclass(frozen=True)
class PrefixPass:
    """Layout of prefixes alone, which keeps their keys and values."""

    causal: bool
    prefixes: list[slice]
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Keys and values [1, key heads, tokens, width] of each layer, once the pass has been through it."""

    def attend(self, layer: int, qkv: QKV, scaling: float, candidates_only: bool) -> Tensor:
        """The layer's output [1, tokens, heads, width]: zeros with `candidates_only`, since there are none."""
        self.kept[layer] = qkv[1:]
        return _joined(
            [_prefix_to_itself(qkv, prefix, self.causal, scaling, candidates_only) for prefix in self.prefixes]
        )


@dataclass(frozen=True)
class CandidatePass:
    """Layout of candidates behind their prefixes, which are in the same stream or went through an earlier pass."""

    causal: bool
    questions: list[tuple[slice, list[Group]]]
    """Prefix of each question, in the stream or in `kept`, and its candidates, in the order of the stream."""
    kept: dict[int, tuple[Tensor, Tensor]] | None = None
    """Keys and values of the earlier pass; None: the prefixes are in the stream."""

    def attend(self, layer: int, qkv: QKV, scaling: float, candidates_only: bool) -> Tensor:
        """The layer's output [1, tokens, heads, width]; with `candidates_only` the prefixes' rows are zero."""
        pieces_HTE: list[Tensor] = []
        for prefix, groups in self.questions:
            if self.kept is None:
                pieces_HTE.append(_prefix_to_itself(qkv, prefix, self.causal, scaling, candidates_only))
            prefixes = qkv[1:] if self.kept is None else self.kept[layer]
            pieces_HTE += _candidates(qkv, prefixes, prefix, groups, self.causal, scaling)
        return _joined(pieces_HTE)


def shared_prefix_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """transformers' attention function: `layout.attend` where a layout is passed, else SDPA under the mask.

    From [batch, heads or key heads, tokens, width] to [batch, tokens, heads, width].
    """
    layout, pooled = options.pop("layout", None), options.pop("pooled", None)
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    layer: int = module.layer_idx
    candidates_only = pooled is not None and layer + 1 == module.config.num_hidden_layers
    with torch.autocast(device_type=query.device.type, enabled=False):
        qkv = query, key.to(query.dtype), value.to(query.dtype)
        return layout.attend(layer, qkv, options["scaling"], candidates_only), None


AttentionInterface.register(ATTENTION, shared_prefix_attention)


def _joined(pieces_HTE: list[Tensor]) -> Tensor:
    return torch.cat(pieces_HTE, dim=1).transpose(0, 1).unsqueeze(0)


def _prefix_to_itself(qkv: QKV, prefix: slice, causal: bool, scaling: float, only_zeros: bool) -> Tensor:
    query, key, value = (tensor[:, :, prefix] for tensor in qkv)
    if only_zeros:
        return torch.zeros_like(query[0])
    shares_keys = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(
        query, key, value, is_causal=causal, scale=scaling, enable_gqa=shares_keys
    ).squeeze(0)


def _candidates(
    qkv: QKV, prefixes: tuple[Tensor, Tensor], prefix: slice, groups: list[Group], causal: bool, scaling: float
) -> Iterator[Tensor]:
    """The output [heads, tokens, width] of each group behind a prefix, a slice of the keys and values `prefixes`."""
    prefix_pair = prefixes[0][0, :, prefix], prefixes[1][0, :, prefix]
    for group in groups:
        query_HTE, key_KTE, value_KTE = (tensor[0, :, group.tokens] for tensor in qkv)
        attend = _lone_candidate if len(group.is_token_NC) == 1 else candidates_to_prefix_and_selves
        yield attend(query_HTE * scaling, prefix_pair, (key_KTE, value_KTE), group, causal)


def _lone_candidate(
    query_HTE: Tensor, prefix: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor], group: Group, causal: bool
) -> Tensor:
    """`candidates_to_prefix_and_selves` for a group of one, by one kernel over all its keys."""
    key, value = (torch.cat(pair, dim=1).unsqueeze(0) for pair in zip(prefix, own, strict=True))
    tokens, keys = query_HTE.shape[1], key.shape[2]
    seen_TX = torch.ones(tokens, keys, dtype=torch.bool, device=key.device).tril(keys - tokens) if causal else None
    shares_keys = len(query_HTE) != key.shape[1]
    return scaled_dot_product_attention(
        query_HTE.unsqueeze(0), key, value, attn_mask=seen_TX, scale=1.0, enable_gqa=shares_keys
    ).squeeze(0)


def candidates_to_prefix_and_selves(
    query_HTE: Tensor, prefix: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor], group: Group, causal: bool
) -> Tensor:
    """Attention [heads, tokens, width] of a group's tokens over the prefix and each candidate's own tokens.

    `query_HTE` is already scaled; `prefix` and `own` are keys and values [key heads, tokens, width]. Heads that share a
    key head are handled as further queries of it.
    """
    heads, tokens, width = query_HTE.shape
    (key_KPE, value_KPE), (key_KTE, value_KTE) = prefix, own
    key_heads, prefix_tokens, _ = key_KPE.shape
    candidates, longest = group.is_token_NC.shape
    gather_index = group.gather_index_NC.flatten()

    to_prefix = query_HTE.reshape(key_heads, -1, width) @ key_KPE.transpose(1, 2)
    query_KGNCE = query_HTE[:, gather_index].reshape(key_heads, -1, candidates, longest, width)
    key_KNCE = key_KTE[:, gather_index].view(key_heads, 1, candidates, longest, width)
    value_KNCE = value_KTE[:, gather_index].view(key_heads, 1, candidates, longest, width)
    allowed_NCC = group.is_token_NC.unsqueeze(1).expand(-1, longest, -1)
    if causal:
        allowed_NCC = allowed_NCC.tril()
    to_self = (query_KGNCE @ key_KNCE.transpose(-1, -2)).masked_fill(~allowed_NCC, float("-inf"))

    to_self_HTC = to_self.reshape(heads, candidates * longest, longest)[:, group.scatter_index_T]
    scores_HTX = torch.cat([to_prefix.view(heads, tokens, prefix_tokens), to_self_HTC], dim=-1)
    weights_HTX = scores_HTX.softmax(dim=-1, dtype=torch.promote_types(torch.float32, scores_HTX.dtype))
    weights_HTX = weights_HTX.to(value_KPE.dtype)

    from_prefix = weights_HTX[..., :prefix_tokens].reshape(key_heads, -1, prefix_tokens) @ value_KPE
    own_weights = weights_HTX[..., prefix_tokens:][:, gather_index].reshape(key_heads, -1, candidates, longest, longest)
    from_self_HTE = (own_weights @ value_KNCE).reshape(heads, candidates * longest, width)[:, group.scatter_index_T]
    return from_prefix.view(heads, tokens, width) + from_self_HTE
