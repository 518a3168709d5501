"""Packing: all candidates of a question in one row behind one copy of its prefix, and the routes over such rows.

    tokens     p p p p a a a b b          prefix, candidate 1, candidate 2
    segments   0 0 0 0 1 1 1 2 2          padding is -1
    positions  0 1 2 3 4 5 6 4 5          restart after the prefix, as if each candidate stood there alone

A token attends to the prefix and to its own segment, never to a sibling. For a causal model this equals scoring each
candidate behind its own copy of the prefix; for an encoder it is a prefix-LM mask (Raffel et al. 2020, section 3.2.3):
the prefix does not see the candidates, so it is encoded once. Packing of branches with restarted positions follows the
idea of tree attention (Miao et al. 2023, SpecInfer).

Legend of shape suffixes: B questions, N candidates, T packed tokens (prefix and all candidates), D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class EncodedPool:
    """One question as token ids: the shared prefix and the tokens of each candidate."""

    id: str
    prefix: list[int]
    candidates: list[list[int]]

    def __post_init__(self) -> None:
        if not self.prefix or not all(self.candidates):
            raise ValueError(f"{self.id}: the prefix and every candidate must hold a token")

    @property
    def length(self) -> int:
        """Tokens of the packed row."""
        return len(self.prefix) + sum(map(len, self.candidates))

    def alone(self) -> list[EncodedPool]:
        """The naive form: one pool per candidate, each with its own copy of the prefix."""
        return [replace(self, candidates=[candidate]) for candidate in self.candidates]


def mask_vectors(encoder: Any, pools: Sequence[EncodedPool], causal: bool, pooling: str) -> Tensor:
    """The route `mask`: one vector per candidate [all candidates, width] in float32, one packed row per question."""
    packed = pack(pools)
    pooled = pooled_places(packed["segments"], pooling)
    batch = {name: value.to(encoder.device) for name, value in packed.items()}
    hidden_BTD = encoder(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        attention_mask=attention_mask(batch["segments"], causal),
        use_cache=False,
        pooled=pooled.to(encoder.device),
    ).last_hidden_state
    return _pool(hidden_BTD, batch["segments"], batch["candidate_mask"], pooling)


def naive_vectors(
    encoder: Any, pools: Sequence[EncodedPool], causal: bool, pooling: str, *, prefix_mask: bool
) -> Tensor:
    """The route `naive`: the same vectors with a copy of the prefix before each candidate.

    `prefix_mask` keeps the prefix of an encoder from seeing the candidate, as the packed routes do. Without it the
    architecture attends as it does by itself, window and positions included.
    """
    batch = {name: value.to(encoder.device) for name, value in pack([one for p in pools for one in p.alone()]).items()}
    # Padding stands on the right, where no causal token sees it.
    options: dict[str, Any] = {"attention_mask": (batch["segments"] >= 0).long()}
    if prefix_mask:
        mask = None if causal else attention_mask(batch["segments"], causal)
        options = {"attention_mask": mask, "position_ids": batch["position_ids"]}
    hidden_BTD = encoder(input_ids=batch["input_ids"], use_cache=False, **options).last_hidden_state
    return _pool(hidden_BTD, batch["segments"], batch["candidate_mask"], pooling)


def _pool(hidden_BTD: Tensor, segments_BT: Tensor, candidate_mask_BN: Tensor, pooling: str) -> Tensor:
    with torch.autocast(device_type=hidden_BTD.device.type, enabled=False):
        hidden_BTD = hidden_BTD.to(torch.promote_types(hidden_BTD.dtype, torch.float32))
        weights_BNT = pooling_weights(segments_BT, candidate_mask_BN.shape[1], pooling, hidden_BTD.dtype)
        pooled_BND = weights_BNT @ hidden_BTD
    return pooled_BND[candidate_mask_BN]


def pack(pools: Sequence[EncodedPool]) -> dict[str, Tensor]:
    """Pack pools into rows of one batch; the value of the padding never matters, since it is masked.

    Returns `input_ids`, `position_ids` and `segments`, each [batch, tokens], and `candidate_mask` [batch, candidates],
    true where a candidate exists.

    >>> batch = pack([EncodedPool("q", [7, 8], [[1, 2], [3]])])
    >>> batch["input_ids"].tolist(), batch["segments"].tolist(), batch["position_ids"].tolist()
    ([[7, 8, 1, 2, 3]], [[0, 0, 1, 1, 2]], [[0, 1, 2, 3, 2]])
    """
    longest = max(pool.length for pool in pools)
    most = max(len(pool.candidates) for pool in pools)
    ids_BT = torch.zeros((len(pools), longest), dtype=torch.long)
    positions_BT = torch.zeros((len(pools), longest), dtype=torch.long)
    segments_BT = torch.full((len(pools), longest), -1)
    candidate_mask_BN = torch.zeros((len(pools), most), dtype=torch.bool)
    for row, pool in enumerate(pools):
        start = 0
        for segment, tokens in enumerate([pool.prefix, *pool.candidates]):
            stop = start + len(tokens)
            first = 0 if segment == 0 else len(pool.prefix)
            ids_BT[row, start:stop] = torch.tensor(tokens)
            positions_BT[row, start:stop] = torch.arange(first, first + len(tokens))
            segments_BT[row, start:stop] = segment
            start = stop
        candidate_mask_BN[row, : len(pool.candidates)] = True
    return {
        "input_ids": ids_BT,
        "position_ids": positions_BT,
        "segments": segments_BT,
        "candidate_mask": candidate_mask_BN,
    }


def attention_mask(segments_BT: Tensor, causal: bool) -> Tensor:
    """Boolean mask [batch, 1, tokens, tokens], true where a query (row) may attend to a key (column).

    Padding sees itself and the prefix, so that no row is empty (an empty row gives NaN).
    """
    query_BT1 = segments_BT.unsqueeze(2)
    key_B1T = segments_BT.unsqueeze(1)
    allowed_BTT = (key_B1T == 0) | (key_B1T == query_BT1)
    if causal:
        allowed_BTT = allowed_BTT.tril()
    return allowed_BTT.unsqueeze(1)


def pooled_places(segments_BT: Tensor, pooling: str) -> Tensor:
    """Places, counted through the whole batch, of the tokens that `pooling_weights` gives a weight.

    >>> segments = torch.tensor([[0, 1, 1, 2], [0, 1, -1, -1]])
    >>> pooled_places(segments, "mean").tolist(), pooled_places(segments, "last").tolist()
    ([1, 2, 3, 5], [2, 3, 5])
    """
    pooled_BT = segments_BT > 0
    if pooling == "last":
        pooled_BT[:, :-1] &= segments_BT[:, :-1] != segments_BT[:, 1:]
    return pooled_BT.flatten().nonzero().squeeze(1)


def pooling_weights(segments_BT: Tensor, candidates: int, pooling: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights [batch, candidates, tokens] with which hidden states are summed into one vector per candidate.

    `mean` gives every token of the candidate the same weight, `last` all of it to the candidate's last token, found
    from the packing and not from the pad id (pad and eos are one token in many tokenizers).
    """
    numbers_N1 = torch.arange(1, candidates + 1, device=segments_BT.device).unsqueeze(1)
    own_BNT = segments_BT.unsqueeze(1) == numbers_N1
    if pooling == "last":
        places_T = torch.arange(1, segments_BT.shape[1] + 1, device=segments_BT.device)
        ranked_BNT = own_BNT * places_T
        own_BNT = own_BNT & (ranked_BNT == ranked_BNT.amax(dim=2, keepdim=True))
    return own_BNT.to(dtype) / own_BNT.sum(dim=2, keepdim=True).clamp(min=1)
