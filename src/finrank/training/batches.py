"""Pools as training reads them: encoded once, candidates shuffled anew in each epoch, batches of similar length."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.scoring import cost, cut_into_passes
from finrank.seeds import seeded_random


@dataclass(frozen=True)
class TrainingPool:
    """An encoded pool, the positions of its correct candidates, and the order of its candidates.

    Positions and orders are among the encoded candidates; those that the pool leaves out are in neither.
    """

    pool: EncodedPool
    correct: list[int]
    order: list[int] | None = None  # position k holds the encoded candidate order[k]; None: as encoded

    @classmethod
    def of(cls, pool: EncodedPool, correct: Collection[int]) -> TrainingPool:
        """An encoded pool and the indices in the pool, left out or not, of its correct candidates.

        >>> TrainingPool.of(EncodedPool("q", [7, 8], [[1, 2], [3]], left_out={0: "no value"}), [0, 2]).correct
        [1]
        """
        return cls(pool, [position for position, index in enumerate(pool.scored) if index in correct])


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
    """Indices in an order of (seed, epoch) alone: random, with pools of similar length in a batch (less padding)."""

    _BATCHES_PER_BUCKET = 16

    def __init__(self, dataset: PoolDataset, batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size

    def set_epoch(self, epoch: int) -> None:
        self.dataset.epoch = epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        random_order = seeded_random(self.dataset.seed, self.dataset.epoch, "order")
        order = list(range(len(self)))
        random_order.shuffle(order)
        size = self.batch_size * self._BATCHES_PER_BUCKET
        buckets = [order[start : start + size] for start in range(0, len(order), size)]
        batches = [batch for bucket in buckets for batch in batches_by_length(self.dataset, bucket, self.batch_size)]
        # A short batch stays last: in the middle it would shift every batch after it.
        short = [batches.pop()] if len(order) % self.batch_size else []
        random_order.shuffle(batches)
        return itertools.chain(*batches, *short)


class EvenShares(Dataset[Any]):
    """A dataset for several processes, with an order of which each takes as many batches as the others.

    accelerate would complete the last ones with items of the first, which would count twice. Here the index -1 stands
    for an item `without_loss`.
    """

    def __init__(self, dataset: Any, without_loss: Callable[[Any], Any]) -> None:
        self.dataset = dataset
        self.order: EvenOrder | None = None
        self._without_loss = without_loss

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index] if index >= 0 else self._without_loss(self.dataset[index])

    def set_epoch(self, epoch: int) -> None:
        """accelerate reaches the order through the dataset alone where it skips batches, as after a resume."""
        if self.order:
            self.order.set_epoch(epoch)


class EvenOrder(Sampler[int]):
    """The indices of a sampler, then -1 until `size` divides their number.

    >>> list(EvenOrder([2, 0, 1], size=2))
    [2, 0, 1, -1]
    """

    def __init__(self, sampler: Any, size: int) -> None:
        self.sampler = sampler
        self._missing = -len(sampler) % size

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler) + self._missing

    def __iter__(self) -> Iterator[int]:
        return itertools.chain(self.sampler, itertools.repeat(-1, self._missing))


def batches_by_length(data: PoolDataset, indices: Sequence[int], size: int) -> list[list[int]]:
    """The indices of pools in batches, the longest pools first."""
    by_length = sorted(indices, key=lambda index: -data.pools[index].pool.length)
    return [by_length[start : start + size] for start in range(0, len(by_length), size)]


def without_loss(item: TrainingPool) -> TrainingPool:
    """The pool without correct candidates, which the listwise loss leaves out."""
    return replace(item, correct=[])


def collate(items: Sequence[TrainingPool]) -> dict[str, Any]:
    """A batch: pools (each route lays out their tokens), orders, and `correct`, boolean [questions, candidates].

    >>> batch = collate([TrainingPool(EncodedPool("q", [7, 8], [[1, 2], [3]]), correct=[1])])
    >>> batch["correct"].tolist()
    [[False, True]]
    """
    correct_BN = torch.zeros(len(items), max(len(item.pool.candidates) for item in items), dtype=torch.bool)
    for row, item in enumerate(items):
        correct_BN[row, item.correct] = True
    return {"pools": [item.pool for item in items], "orders": [item.order for item in items], "correct": correct_BN}


def batch_plan(data: PoolDataset, order: Iterable[int], batch_size: int, tokens_per_pass: int, route: RouteName) -> str:
    """Tokens and padding of an epoch's batches on this route, and how many of them take several passes, as text."""
    pools = [data.pools[index].pool for index in order]
    batches = [pools[start : start + batch_size] for start in range(0, len(pools), batch_size)]
    passes = [cut_into_passes(batch, tokens_per_pass, route) for batch in batches]
    computed = sum(cost(one_pass, route) for batch in passes for one_pass in batch)
    rows = [row for pool in pools for row in (pool.alone() if route == "naive" else [pool])]
    padding = 1 - sum(row.length for row in rows) / computed
    cut = sum(len(batch) > 1 for batch in passes)
    several = f"; {cut} of {len(batches)} batches in several passes (tokens_per_pass)" if cut else ""
    return f"{computed / len(batches):,.0f} tokens per batch on average, {padding:.1%} of them padding{several}"
