"""The routes without padding: `split`, one pass over prefixes and candidates, and `cached`, prefixes before candidates.

`split` is differentiable and works under activation checkpointing. `cached` is for inference: the prefix pass ends at
the last layer's keys and values (nobody pools the prefix), and candidates follow in chunks, so that memory does not
grow with their number.

Legend of shape suffixes: T tokens of the stream, N candidates, C tokens of the longest candidate, D width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.shared_prefix import Group, Layout, PrefixCache, PrefixDone, group_candidates

# Up to so many tokens of prefixes and candidates one pass is taken: on a CPU it is faster than two
# (docs/experiments.md), a GPU has enough to do in one and saves the launches of the other.
_ONE_PASS_TOKENS = {"cpu": 800, "cuda": 4096}
# Candidate tokens per pass of `cached`.
_CHUNK_TOKENS = {"cpu": 1024, "cuda": 16384}


def split_vectors(encoder: Any, pools: Sequence[EncodedPool], causal: bool, pooling: str) -> Tensor:
    """One vector per candidate [all candidates, width] in float32, from one pass; pools one after the other."""
    device = encoder.device
    tokens: list[int] = []
    positions: list[int] = []
    prefixes, groups, spans = [], [], []
    for pool in pools:
        begin = len(tokens)
        tokens += pool.prefix
        positions += range(len(pool.prefix))
        prefixes.append((begin, len(tokens)))
        groups.append(group_candidates([len(candidate) for candidate in pool.candidates], len(tokens), device))
        spans += _add_candidates(pool, range(len(pool.candidates)), tokens, positions)
    hidden_TD = _encode(encoder, tokens, positions, Layout(causal, prefixes, groups), pooled_tokens(spans, pooling))
    return pool_spans(hidden_TD, spans, pooling)


def cached_vectors(encoder: Any, pools: Sequence[EncodedPool], causal: bool, pooling: str) -> Tensor:
    """The same for inference: in one pass where all is short, else in two kinds of pass."""
    kind = encoder.device.type
    if sum(pool.length for pool in pools) <= _ONE_PASS_TOKENS.get(kind, _ONE_PASS_TOKENS["cuda"]):
        return split_vectors(encoder, pools, causal, pooling)
    chunk = _CHUNK_TOKENS.get(kind, _CHUNK_TOKENS["cuda"])
    return two_pass_vectors(encoder, pools, causal, pooling, chunk_tokens=chunk)


def two_pass_vectors(
    encoder: Any, pools: Sequence[EncodedPool], causal: bool, pooling: str, *, chunk_tokens: int
) -> Tensor:
    """The same from two kinds of pass: all prefixes, then candidates in chunks of so many tokens.

    For inference: nothing of it is meant to have gradients.
    """
    device = encoder.device
    cache, prefixes = _encode_prefixes(encoder, pools, causal)
    vectors = []
    for chunk in _chunks(pools, chunk_tokens):
        tokens: list[int] = []
        positions: list[int] = []
        groups: list[list[Group]] = []
        spans = []
        for number, candidates in chunk:
            lengths = [len(pools[number].candidates[index]) for index in candidates]
            groups.append(group_candidates(lengths, len(tokens), device))
            spans += _add_candidates(pools[number], candidates, tokens, positions)
        layout = Layout(causal, [prefixes[number] for number, _ in chunk], groups, cache)
        hidden_TD = _encode(encoder, tokens, positions, layout, pooled_tokens(spans, pooling))
        vectors.append(pool_spans(hidden_TD, spans, pooling))
    return torch.cat(vectors)


def _encode_prefixes(
    encoder: Any, pools: Sequence[EncodedPool], causal: bool
) -> tuple[PrefixCache, list[tuple[int, int]]]:
    tokens: list[int] = []
    positions: list[int] = []
    prefixes = []
    for pool in pools:
        prefixes.append((len(tokens), len(tokens) + len(pool.prefix)))
        tokens += pool.prefix
        positions += range(len(pool.prefix))
    cache = PrefixCache(layers=encoder.config.num_hidden_layers)
    with contextlib.suppress(PrefixDone):
        _encode(encoder, tokens, positions, Layout(causal, prefixes, [[]] * len(pools), cache), [])
    return cache, prefixes


def _add_candidates(
    pool: EncodedPool, candidates: Sequence[int], tokens: list[int], positions: list[int]
) -> list[tuple[int, int]]:
    """Append candidates to the stream; gives the place of each."""
    spans = []
    after = len(pool.prefix)
    for index in candidates:
        own = pool.candidates[index]
        spans.append((len(tokens), len(tokens) + len(own)))
        tokens += own
        positions += range(after, after + len(own))
    return spans


def _chunks(pools: Sequence[EncodedPool], most: int) -> list[list[tuple[int, range]]]:
    """Candidates in passes of at most `most` tokens (a longer candidate stands alone): (pool, its candidates), …"""
    chunks: list[list[tuple[int, range]]] = [[]]
    used = 0
    for number, pool in enumerate(pools):
        first = 0
        for index, candidate in enumerate(pool.candidates):
            if used and used + len(candidate) > most:
                if index > first:
                    chunks[-1].append((number, range(first, index)))
                chunks.append([])
                first, used = index, 0
            used += len(candidate)
        chunks[-1].append((number, range(first, len(pool.candidates))))
    return chunks


def _encode(encoder: Any, tokens: list[int], positions: list[int], layout: Layout, pooled: Sequence[int]) -> Tensor:
    device = encoder.device
    some = 0 < len(pooled) < len(tokens)
    hidden_1TD: Tensor = encoder(
        input_ids=torch.tensor([tokens], device=device),
        position_ids=torch.tensor([positions], device=device),
        use_cache=False,
        layout=layout,
        pooled=torch.tensor(pooled, device=device) if some else None,
    ).last_hidden_state
    return hidden_1TD[0]


def pooled_tokens(spans: Sequence[tuple[int, int]], pooling: str) -> list[int]:
    """Places of the tokens that `pool_spans` reads.

    >>> pooled_tokens([(3, 5), (5, 6)], "mean"), pooled_tokens([(3, 5), (5, 6)], "last")
    ([3, 4, 5], [4, 5])
    """
    return [place for begin, end in spans for place in range(end - 1 if pooling == "last" else begin, end)]


def pool_spans(hidden_TD: Tensor, spans: Sequence[tuple[int, int]], pooling: str) -> Tensor:
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
    real_NC = (steps_C < lengths_N1).to(hidden_TD.device)
    places_NC = (begins_N1 + steps_C.minimum(lengths_N1 - 1)).to(hidden_TD.device)
    real_NC1 = real_NC.unsqueeze(2)
    return (hidden_TD[places_NC] * real_NC1).sum(dim=1) / real_NC1.sum(dim=1)
