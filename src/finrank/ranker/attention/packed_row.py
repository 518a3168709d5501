"""Packing: a question's candidates in one row behind one copy of its prefix, and the routes `mask` and `naive`.

    tokens     p p p p a a a b b          prefix, candidate 1, candidate 2
    segments   0 0 0 0 1 1 1 2 2          padding is -1
    positions  0 1 2 3 4 5 6 4 5          restart after the prefix, as if each candidate followed it alone

A token attends to the prefix and to its own segment, never to a sibling (tree attention: Miao et al. 2023, SpecInfer).
For a causal model this equals scoring each candidate behind its own prefix; an encoder's prefix does not see the
candidates (a prefix-LM mask: Raffel et al. 2020, section 3.2.3), so it is encoded once.

Legend of shape suffixes: B questions, N candidates, T packed tokens, R pooled tokens of the whole batch, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from finrank.ranker.attention.tuning import Tuning

Span = tuple[int, int]


@dataclass(frozen=True)
class EncodedPool:
    """One question as token ids: the shared prefix, and the tokens of each candidate that is scored.

    >>> pool = EncodedPool("q", [7, 8], [[1, 2], [3]], left_out={1: "no value"})
    >>> pool.scored, pool.length
    ([0, 2], 5)
    """

    id: str
    prefix: list[int]
    candidates: list[list[int]]
    left_out: dict[int, str] = field(default_factory=dict)
    """Candidates that are not scored, by their index in the pool, and why."""

    def __post_init__(self) -> None:
        if not self.prefix or not all(self.candidates):
            raise ValueError(f"{self.id}: the prefix and every candidate must hold a token")

    @property
    def scored(self) -> list[int]:
        """Indices in the pool of the candidates that are scored, in the order of `candidates`."""
        size = len(self.candidates) + len(self.left_out)
        return [index for index in range(size) if index not in self.left_out]

    @property
    def length(self) -> int:
        """Tokens of the packed row."""
        return len(self.prefix) + sum(map(len, self.candidates))

    def alone(self) -> list[EncodedPool]:
        """The naive form: one pool per candidate, each with its own copy of the prefix."""
        return [replace(self, candidates=[candidate]) for candidate in self.candidates]


@dataclass(frozen=True)
class Backbone:
    """Encoder as the routes run it."""

    encoder: Any
    """A transformers base model wrapped by peft."""
    causal: bool
    pooling: str
    """Candidate's vector: the "mean" of its last hidden states, or the "last" of them."""
    tuning: Tuning
    obstacle: str | None = None
    """Reason why this architecture can take the route `naive` alone; None when it can take all."""


class Packed(NamedTuple):
    """Pools as rows of one batch."""

    ids_BT: Tensor
    positions_BT: Tensor
    segments_BT: Tensor
    candidate_mask_BN: Tensor
    """True where a candidate exists."""
    spans: list[Span]
    """First token of each candidate and the one after its last, counted through the whole batch."""


def mask_vectors(backbone: Backbone, pools: Sequence[EncodedPool]) -> Tensor:
    """Route `mask`: vectors [all candidates, width] in float32, from one packed row per question."""
    packed = pack(pools, backbone.encoder.device)
    mask_B1TT = _added_mask(packed, backbone)
    pooled = torch.tensor(pooled_tokens(packed.spans, backbone.pooling), device=backbone.encoder.device)
    return _vectors(backbone, packed, attention_mask=mask_B1TT, position_ids=packed.positions_BT, pooled=pooled)


def naive_vectors(backbone: Backbone, pools: Sequence[EncodedPool]) -> Tensor:
    """Route `naive`: the same vectors, with a copy of the prefix before each candidate.

    The prefix of an encoder does not see the candidate, as on the packed routes. Only an architecture that cannot be
    packed attends as it does by itself.
    """
    packed = pack([alone for pool in pools for alone in pool.alone()], backbone.encoder.device)
    if backbone.obstacle is not None:
        return _vectors(backbone, packed, attention_mask=(packed.segments_BT >= 0).long())
    # Padding is on the right, where no causal token sees it.
    mask_B1TT = None if backbone.causal else _added_mask(packed, backbone)
    return _vectors(backbone, packed, attention_mask=mask_B1TT, position_ids=packed.positions_BT)


def _vectors(backbone: Backbone, packed: Packed, **options: Tensor | None) -> Tensor:
    hidden_BTD = backbone.encoder(input_ids=packed.ids_BT, use_cache=False, **options).last_hidden_state
    with torch.autocast(device_type=hidden_BTD.device.type, enabled=False):
        hidden_BTD = hidden_BTD.to(torch.promote_types(hidden_BTD.dtype, torch.float32))
        candidates = packed.candidate_mask_BN.shape[1]
        weights_BNT = pooling_weights(packed.segments_BT, candidates, backbone.pooling, hidden_BTD.dtype)
        pooled_BND: Tensor = weights_BNT @ hidden_BTD
    return pooled_BND[packed.candidate_mask_BN]


def pack(pools: Sequence[EncodedPool], device: torch.device | None = None) -> Packed:
    """Pack pools into rows of one batch, padded with id 0.

    >>> batch = pack([EncodedPool("q", [7, 8], [[1, 2], [3]])])
    >>> batch.ids_BT.tolist(), batch.segments_BT.tolist(), batch.positions_BT.tolist(), batch.spans
    ([[7, 8, 1, 2, 3]], [[0, 0, 1, 1, 2]], [[0, 1, 2, 3, 2]], [(2, 4), (4, 5)])
    """
    length = max(pool.length for pool in pools)
    ids, positions, segments = list[list[int]](), list[list[int]](), list[list[int]]()
    spans = []
    for row, pool in enumerate(pools):
        padding, prefix = length - pool.length, len(pool.prefix)
        ids.append([*pool.prefix, *chain.from_iterable(pool.candidates), *[0] * padding])
        positions.append([*range(prefix)])
        segments.append([0] * prefix)
        for segment, tokens in enumerate(pool.candidates, start=1):
            start = row * length + len(segments[-1])
            spans.append((start, start + len(tokens)))
            positions[-1] += range(prefix, prefix + len(tokens))
            segments[-1] += [segment] * len(tokens)
        positions[-1] += [0] * padding
        segments[-1] += [-1] * padding
    # Lists and one copy to the device: many small tensors would cost a GPU more than the forward pass.
    ids_BT, positions_BT, segments_BT = torch.tensor([ids, positions, segments]).to(device).unbind()
    counts_B1 = torch.tensor([[len(pool.candidates)] for pool in pools])
    candidate_mask_BN = (torch.arange(int(counts_B1.max())) < counts_B1).to(device)
    return Packed(ids_BT, positions_BT, segments_BT, candidate_mask_BN, spans)


def attention_mask(segments_BT: Tensor, causal: bool) -> Tensor:
    """Boolean mask [batch, 1, tokens, tokens], true where a query (row) may attend to a key (column).

    Padding sees itself and the prefix: an empty row would cause NaN.
    """
    key_B1T = segments_BT.unsqueeze(1)
    allowed_BTT = (key_B1T == 0) | (key_B1T == segments_BT.unsqueeze(2))
    if causal:
        allowed_BTT = allowed_BTT.tril()
    return allowed_BTT.unsqueeze(1)


def additive(mask_B1TT: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask as what is added to the scores, 0 or minus infinity, which attention would make in each layer.

    Rows begin at multiples of 8 numbers in memory: kernels on a GPU would copy others, in each layer too.

    >>> additive(torch.tensor([[[[True, False]]]]), torch.float32)
    tensor([[[[0., -inf]]]])
    """
    *shape, keys = mask_B1TT.shape
    added_B1TT = mask_B1TT.new_zeros(*shape, -(-keys // 8) * 8, dtype=dtype)[..., :keys]
    return added_B1TT.masked_fill_(~mask_B1TT, float("-inf"))


def _added_mask(packed: Packed, backbone: Backbone) -> Tensor:
    """The mask of packed rows in the precision of the scores."""
    device = backbone.encoder.device.type
    in_autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if in_autocast else backbone.encoder.dtype
    return additive(attention_mask(packed.segments_BT, backbone.causal), dtype)


def pooled_tokens(spans: Sequence[Span], pooling: str) -> list[int]:
    """Indices of the tokens whose hidden states are pooled.

    >>> pooled_tokens([(3, 5), (5, 6)], "mean"), pooled_tokens([(3, 5), (5, 6)], "last")
    ([3, 4, 5], [4, 5])
    """
    return [index for begin, end in spans for index in range(end - 1 if pooling == "last" else begin, end)]


def pooling_weights(segments_BT: Tensor, candidates: int, pooling: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights [batch, candidates, tokens] with which hidden states are summed into one vector per candidate.

    The last token is found from the packing and not from the pad id: pad and eos are one token in many tokenizers.
    """
    numbers_N1 = torch.arange(1, candidates + 1, device=segments_BT.device).unsqueeze(1)
    own_BNT = segments_BT.unsqueeze(1) == numbers_N1
    if pooling == "last":
        steps_T = torch.arange(1, segments_BT.shape[1] + 1, device=segments_BT.device)
        ranked_BNT = own_BNT * steps_T
        own_BNT = own_BNT & (ranked_BNT == ranked_BNT.amax(dim=2, keepdim=True))
    return own_BNT.to(dtype) / own_BNT.sum(dim=2, keepdim=True).clamp(min=1)
