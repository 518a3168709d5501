"""Cutting work into forward passes of a bounded number of tokens, without changing any score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName


def cut_into_passes(pools: Sequence[EncodedPool], most: int, route: RouteName) -> list[list[EncodedPool]]:
    """Pools in passes of at most `most` tokens, in order; a pool over that is cut into several with the same prefix.

    One after the other, the passes hold exactly the candidates of `pools` in their order. `cached` bounds the memory of
    a large pool by itself, so there a pool stays whole. A single candidate over the limit has a pass of its own.

    >>> pool = EncodedPool("q", [7, 8], [[1, 2], [3], [4]])
    >>> [[len(part.candidates) for part in one] for one in cut_into_passes([pool, pool], 9, "split")]
    [[3], [3]]
    >>> [[len(part.candidates) for part in one] for one in cut_into_passes([pool, pool], 4, "split")]
    [[1], [2], [1], [2]]
    """
    passes: list[list[EncodedPool]] = []
    for pool in pools:
        for part in _parts(pool, most, route):
            if passes and cost([*passes[-1], part], route) <= most:
                passes[-1].append(part)
            else:
                passes.append([part])
    return passes


def cost(pools: Sequence[EncodedPool], route: RouteName) -> int:
    """Tokens that one pass over the pools computes, padding included."""
    if route == "naive":
        rows = sum(len(pool.candidates) for pool in pools)
        return rows * max(len(pool.prefix) + max(map(len, pool.candidates)) for pool in pools)
    if route == "mask":
        return len(pools) * max(pool.length for pool in pools)
    return sum(pool.length for pool in pools)


def _parts(pool: EncodedPool, most: int, route: RouteName) -> list[EncodedPool]:
    if route == "cached" or cost([pool], route) <= most:
        return [pool]
    parts: list[EncodedPool] = []
    for candidate in pool.candidates:
        if parts:
            longer = replace(parts[-1], candidates=[*parts[-1].candidates, candidate])
            if cost([longer], route) <= most:
                parts[-1] = longer
                continue
        parts.append(replace(pool, candidates=[candidate]))
    return parts
