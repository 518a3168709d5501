"""The routes without padding: `split`, one pass over prefixes and candidates, and `cached`, prefixes before candidates.

`split` is differentiable and works under activation checkpointing. `cached` is for inference: candidates follow their
prefixes in chunks, so that memory does not grow with their number.

Legend of shape suffixes: T tokens of the stream, N candidates, C tokens of the longest candidate, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from finrank.ranker.attention.packed_row import Backbone, EncodedPool, Span, pooled_tokens
from finrank.ranker.attention.shared_prefix import CandidatePass, Group, PrefixPass, group_candidates


def split_vectors(backbone: Backbone, pools: Sequence[EncodedPool]) -> Tensor:
    """Route `split`: vectors [all candidates, width] in float32, from one pass."""
    stream = _Stream(backbone)
    questions = [(stream.add_prefix(pool), stream.add_candidates(pool, range(len(pool.candidates)))) for pool in pools]
    return stream.vectors(CandidatePass(backbone.causal, questions))


def cached_vectors(backbone: Backbone, pools: Sequence[EncodedPool]) -> Tensor:
    """Route `cached`: the same for inference, in one pass where all is short, else prefixes first."""
    if sum(pool.length for pool in pools) <= backbone.tuning.one_pass_tokens:
        return split_vectors(backbone, pools)
    stream = _Stream(backbone)
    prefix_pass = PrefixPass(backbone.causal, [stream.add_prefix(pool) for pool in pools])
    stream.encode(prefix_pass)  # nothing is pooled: of the last layer little more than keys and values is computed
    vectors_ND = []
    for chunk in _chunks(pools, backbone.tuning.chunk_tokens):
        stream = _Stream(backbone)
        questions = [
            (prefix_pass.prefixes[number], stream.add_candidates(pools[number], candidates))
            for number, candidates in chunk.items()
        ]
        vectors_ND.append(stream.vectors(CandidatePass(backbone.causal, questions, prefix_pass.kept)))
    return torch.cat(vectors_ND)


@dataclass
class _Stream:
    """Tokens of one pass, their positions, and where its candidates are."""

    backbone: Backbone
    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def add_prefix(self, pool: EncodedPool) -> slice:
        """Append a prefix; returns its slice of the stream."""
        begin = len(self.tokens)
        self.tokens += pool.prefix
        self.positions += range(len(pool.prefix))
        return slice(begin, len(self.tokens))

    def add_candidates(self, pool: EncodedPool, indices: Sequence[int]) -> list[Group]:
        """Append candidates of a pool; returns them as groups."""
        start, first = len(self.tokens), len(pool.prefix)
        chosen = [pool.candidates[index] for index in indices]
        for candidate in chosen:
            self.spans.append((len(self.tokens), len(self.tokens) + len(candidate)))
            self.tokens += candidate
            self.positions += range(first, first + len(candidate))
        limit = self.backbone.tuning.group_tokens
        return group_candidates([len(candidate) for candidate in chosen], start, limit, self.backbone.encoder.device)

    def encode(self, layout: PrefixPass | CandidatePass) -> Tensor:
        """The last hidden states [tokens, width]; only those of pooled tokens mean anything."""
        device = self.backbone.encoder.device
        pooled = pooled_tokens(self.spans, self.backbone.pooling)
        hidden_1TD: Tensor = self.backbone.encoder(
            input_ids=torch.tensor([self.tokens], device=device),
            position_ids=torch.tensor([self.positions], device=device),
            use_cache=False,
            layout=layout,
            pooled=torch.tensor(pooled, dtype=torch.long, device=device) if len(pooled) < len(self.tokens) else None,
        ).last_hidden_state
        return hidden_1TD[0]

    def vectors(self, layout: CandidatePass) -> Tensor:
        """Vectors [candidates, width] in float32."""
        return pool_spans(self.encode(layout), self.spans, self.backbone.pooling)


def _chunks(pools: Sequence[EncodedPool], limit: int) -> list[dict[int, list[int]]]:
    """Passes of at most `limit` candidate tokens (a longer candidate has its own), each {pool: its candidates}."""
    chunks: list[dict[int, list[int]]] = [{}]
    used = 0
    for number, pool in enumerate(pools):
        for index, candidate in enumerate(pool.candidates):
            if used and used + len(candidate) > limit:
                chunks.append({})
                used = 0
            chunks[-1].setdefault(number, []).append(index)
            used += len(candidate)
    return chunks


def pool_spans(hidden_TD: Tensor, spans: Sequence[Span], pooling: str) -> Tensor:
    """Each span's mean or last hidden state, [spans, width] in float32.

    >>> pool_spans(torch.tensor([[1.0], [2.0], [6.0]]), [(0, 2), (2, 3)], "mean").tolist()
    [[1.5], [6.0]]
    """
    hidden_TD = hidden_TD.to(torch.promote_types(hidden_TD.dtype, torch.float32))
    if pooling == "last":
        return hidden_TD[torch.tensor([end - 1 for _, end in spans], device=hidden_TD.device)]
    begins_N1 = torch.tensor([[begin] for begin, _ in spans])
    lengths_N1 = torch.tensor([[end - begin] for begin, end in spans])
    steps_C = torch.arange(int(lengths_N1.max()))
    is_token_NC = (steps_C < lengths_N1).to(hidden_TD.device)
    index_NC = (begins_N1 + steps_C.minimum(lengths_N1 - 1)).to(hidden_TD.device)
    is_token_NC1 = is_token_NC.unsqueeze(2)
    return (hidden_TD[index_NC] * is_token_NC1).sum(dim=1) / is_token_NC1.sum(dim=1)
