"""Pools as training reads them: encoded once, candidates shuffled anew in each epoch, batches of similar length."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.passes import cost, cut_into_passes
from finrank.seeds import seeded_random

# Tokens that a batch on a GPU should hold at the least; not measured.
_GPU_TOKENS = 4096


@dataclass(frozen=True)
class TrainingPool:
    """An encoded pool, the indices of its correct candidates, and where each candidate stands in the stored pool."""

    pool: EncodedPool
    correct: list[int]
    order: list[int] | None = None
    """Position k holds the stored candidate order[k]; None: as stored."""


class PoolDataset(Dataset[TrainingPool]):
    """Pools with their candidates shuffled by a hash of (seed, epoch, id): the same in every run and after a resume."""

    def __init__(self, pools: Sequence[TrainingPool], seed: int) -> None:
        self.pools = pools
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.pools)

    def __getitem__(self, index: int) -> TrainingPool:
        item = self.pools[index]
        order = list(range(len(item.pool.candidates)))
        seeded_random(self.seed, self.epoch, item.pool.id).shuffle(order)
        shuffled = replace(item.pool, candidates=[item.pool.candidates[old] for old in order])
        return TrainingPool(shuffled, [new for new, old in enumerate(order) if old in item.correct], order)


class LengthBucketSampler(Sampler[int]):
    """Indices in random order, arranged so that neighbours in a batch have similar lengths (less padding).

    The order depends on the dataset's (seed, epoch) alone.
    """

    _BATCHES_PER_BUCKET = 16

    def __init__(self, dataset: PoolDataset, batch_size: int) -> None:
        self.dataset = dataset
        self.lengths = [item.pool.length for item in dataset.pools]
        self.batch_size = batch_size

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of an epoch, also after a resume; moves the dataset's shuffle along."""
        self.dataset.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random_order = seeded_random(self.dataset.seed, self.dataset.epoch, "order")
        order = list(range(len(self.lengths)))
        random_order.shuffle(order)
        size = self.batch_size * self._BATCHES_PER_BUCKET
        batches: list[list[int]] = []
        for start in range(0, len(order), size):
            bucket = sorted(order[start : start + size], key=lambda index: -self.lengths[index])
            batches += [bucket[at : at + self.batch_size] for at in range(0, len(bucket), self.batch_size)]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        random_order.shuffle(full)
        # A short batch stays last: in the middle it would shift every batch after it.
        full += [batch for batch in batches if len(batch) < self.batch_size]
        return iter([index for batch in full for index in batch])


def collate(items: Sequence[TrainingPool]) -> dict[str, Any]:
    """A batch: the pools as they are (each route lays out its own tokens), their orders, and which are correct.

    `correct` is boolean [questions, candidates].

    >>> batch = collate([TrainingPool(EncodedPool("q", [7, 8], [[1, 2], [3]]), correct=[1])])
    >>> batch["correct"].tolist()
    [[False, True]]
    """
    correct_BN = torch.zeros(len(items), max(len(item.pool.candidates) for item in items), dtype=torch.bool)
    for row, item in enumerate(items):
        correct_BN[row, item.correct] = True
    return {"pools": [item.pool for item in items], "orders": [item.order for item in items], "correct": correct_BN}


def batch_plan(data: PoolDataset, order: Iterable[int], batch_size: int, most: int, route: RouteName) -> str:
    """What an epoch's batches cost on this route: tokens, padding, and how many take several passes of `most` tokens.

    `order` is the sampler that training uses.
    """
    indices = list(order)
    batches = [[data.pools[index].pool for index in some] for some in _in_batches(indices, batch_size)]
    passes = [cut_into_passes(batch, most, route) for batch in batches]
    computed = sum(cost(one, route) for batch in passes for one in batch)
    padding = 1 - sum(_without_padding(batch, route) for batch in batches) / computed
    cut = sum(len(batch) > 1 for batch in passes)
    several = f"; {cut} of {len(batches)} batches in several passes (tokens_per_pass)" if cut else ""
    return f"{computed / len(batches):,.0f} tokens per batch on average, {padding:.1%} of them padding{several}"


def batches_to_join(data: PoolDataset, batch_size: int, accumulation: int, most: int, route: RouteName) -> int:
    """How many accumulated batches a GPU should compute as one: the fewest that keep it busy within `most` tokens.

    Where none do, as many as fit; an optimizer step's gradient is the mean over as many questions either way.

    >>> pools = [TrainingPool(EncodedPool(f"q{n}", [1] * 500, [[1] * 12]), [0]) for n in range(32)]  # 512 tokens each
    >>> batches_to_join(PoolDataset(pools, 0), 4, accumulation=6, most=16384, route="mask")
    2
    """
    one = batch_size * _tokens(data, route)
    fitting = [number for number in range(2, accumulation + 1) if accumulation % number == 0 and number * one <= most]
    return next((number for number in (1, *fitting) if number * one >= _GPU_TOKENS), [1, *fitting][-1])


def too_small_for_a_gpu(data: PoolDataset, batch_size: int, most: int, route: RouteName) -> str | None:
    """What to say where a batch holds fewer tokens than keep a GPU busy; None where it holds enough, or `most`."""
    tokens = batch_size * _tokens(data, route)
    if tokens >= min(_GPU_TOKENS, most):
        return None
    return (
        f"a batch of {batch_size} questions is {tokens:,.0f} tokens, too few to keep a GPU busy: "
        f"{math.ceil(batch_size * _GPU_TOKENS / tokens)} would, but a step then learns from more questions"
    )


def _tokens(data: PoolDataset, route: RouteName) -> float:
    """Tokens that a question costs on this route, on average and without padding for others."""
    return sum(cost([item.pool], route) for item in data.pools) / len(data)


def _in_batches(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _without_padding(pools: Sequence[EncodedPool], route: RouteName) -> int:
    return sum(one.length for pool in pools for one in (pool.alone() if route == "naive" else [pool]))
