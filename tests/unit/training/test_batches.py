"""Shuffling and batching: seeded, complete, the same after a resume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.training.batches import LengthBucketSampler, PoolDataset, TrainingPool, batch_plan, collate
from finrank.training.config import PPOSettings
from finrank.training.ppo.rollouts import RolloutSampler


def dataset(count: int = 103, candidates: int = 8, seed: int = 0) -> PoolDataset:
    pools = [
        TrainingPool(EncodedPool(f"q{i}", [1] * (i * 7 % 50 + 2), [[c, c + 100] for c in range(candidates)]), [2])
        for i in range(count)
    ]
    return PoolDataset(pools, seed)


def test_the_correct_candidate_stays_correct_and_moves_uniformly() -> None:
    data = dataset()
    positions: Counter[int] = Counter()
    for epoch in range(20):
        data.epoch = epoch
        for index in range(len(data)):
            item = data[index]
            (position,) = item.correct
            assert item.pool.candidates[position] == [2, 102]
            positions[position] += 1
    expected = 20 * len(data) / 8
    chi_square = sum((positions[position] - expected) ** 2 / expected for position in range(8))
    assert chi_square < 24.3  # 7 degrees of freedom, p = 0.001


def test_order_depends_on_seed_epoch_and_id_alone() -> None:
    first, second, other = dataset(), dataset(), dataset(seed=1)
    assert [first[i].correct for i in range(103)] == [second[i].correct for i in range(103)]
    assert [first[i].correct for i in range(103)] != [other[i].correct for i in range(103)]
    second.epoch = 1
    assert [first[i].correct for i in range(103)] != [second[i].correct for i in range(103)]
    reversed_data = PoolDataset(first.pools[::-1], seed=0)
    assert reversed_data[0].correct == first[102].correct


def test_the_sampler_visits_everything_once_in_an_order_of_its_epoch() -> None:
    data = dataset()
    sampler = LengthBucketSampler(data, batch_size=4)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert data.epoch == epoch
    assert sorted(orders[0]) == list(range(103))
    assert orders[0] == orders[2] != orders[1]


def test_a_batch_holds_pools_and_their_correct_candidates() -> None:
    pools = [EncodedPool("a", [1], [[2], [3], [4]]), EncodedPool("b", [1], [[5]])]
    batch = collate([TrainingPool(pool, [0]) for pool in pools])
    assert [pool.id for pool in batch["pools"]] == ["a", "b"]
    assert batch["correct"].tolist() == [[True, False, False], [True, False, False]]


def test_the_batch_plan_counts_tokens_padding_and_passes() -> None:
    pools = [EncodedPool("a", [1] * 6, [[1], [1, 1]]), EncodedPool("b", [1, 1], [[1]])]
    two = PoolDataset([TrainingPool(pool, [0]) for pool in pools], 0)
    assert batch_plan(two, [0, 1], 2, 100, "split") == "12 tokens per batch on average, 0.0% of them padding"
    assert batch_plan(two, [0, 1], 2, 100, "mask") == "18 tokens per batch on average, 33.3% of them padding"
    assert batch_plan(two, [0, 1], 2, 100, "naive") == "24 tokens per batch on average, 25.0% of them padding"
    cut = "; 1 of 1 batches in several passes (tokens_per_pass)"
    assert batch_plan(two, [0, 1], 2, 9, "split") == f"12 tokens per batch on average, 0.0% of them padding{cut}"
    # In passes of their own no row is padded: 9 and 3 tokens, not twice 9.
    assert batch_plan(two, [0, 1], 2, 9, "mask") == f"12 tokens per batch on average, 0.0% of them padding{cut}"


@pytest.mark.parametrize("route", ["mask", "naive"])
def test_batches_of_similar_length_have_little_padding(route: RouteName) -> None:
    data = dataset(400)

    def padding(order: Iterable[int]) -> float:
        return float(batch_plan(data, order, 4, 16384, route).split("average, ")[1].split("%")[0])

    for sampler in (LengthBucketSampler(data, 4), RolloutSampler(data, PPOSettings(batch_size=4))):
        assert 0 < padding(sampler) < 10 < padding(range(400))


def test_what_a_pool_leaves_out_has_no_position() -> None:
    pool = EncodedPool("q", [1], [[10], [20], [30]], left_out={0: "no value", 3: "no value", 4: "too long"})
    item = TrainingPool.of(pool, [1, 3, 5])  # of six candidates, the encoded ones are 1, 2 and 5
    assert item.correct == [0, 2]
    (shuffled,) = PoolDataset([item], 0)
    assert sorted(shuffled.order or []) == [0, 1, 2]
    assert [shuffled.pool.candidates[position] for position in shuffled.correct] == [
        tokens for tokens in shuffled.pool.candidates if tokens != [20]
    ]
