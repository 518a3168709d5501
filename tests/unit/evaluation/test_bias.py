"""Scorers that pick places, and scorers that look at the order of candidates, are found; others are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from finrank.evaluation.bias import ORDER_SAMPLE, order_invariance, picked_positions, position_bias, reordered
from finrank.evaluation.metrics import pool_metrics
from finrank.records import RewardedPool

MakePool = Callable[..., RewardedPool]


@pytest.fixture
def pools(make_pool: MakePool) -> list[RewardedPool]:
    """200 pools of four on 100 pages, each place in turn correct."""
    return [
        make_pool([1.0, 2.0, 3.0, 4.0], [number % 4], page=f"page {number // 2}", identifier=f"q{number}")
        for number in range(200)
    ]


def bias_of(pools: list[RewardedPool], scores: Sequence[np.ndarray]) -> dict[str, object]:
    return position_bias(pools, scores, pool_metrics(pools, scores)["accuracy"], seed=0)


def test_a_scorer_of_places_is_right_where_its_place_is(pools: list[RewardedPool]) -> None:
    found = bias_of(pools, [np.eye(4)[2]] * 200)
    assert [(row["position"], row["n"], row["accuracy"]) for row in found["best_positions"]] == [
        (0, 50, 0.0), (1, 50, 0.0), (2, 50, 1.0), (3, 50, 0.0)
    ]  # fmt: skip
    assert found["picked"] == [0.0, 0.0, 1.0, 0.0]
    assert found["p_value"] < 1e-50


def test_right_and_constant_scorers_have_no_bias(pools: list[RewardedPool]) -> None:
    for scores in ([np.array(pool.rewards) for pool in pools], [np.zeros(4)] * 200):
        found = bias_of(pools, scores)
        assert found["picked"] == [0.25] * 4
        assert found["p_value"] == 1.0
    assert found["best_positions"][3]["accuracy"] == 0.25


def test_p_values_of_an_unbiased_scorer_are_uniform(pools: list[RewardedPool]) -> None:
    random = np.random.default_rng(1)
    p_values = []
    for _ in range(100):
        p_values.append(bias_of(pools[:60], list(random.random((60, 4))))["p_value"])
    assert 0.35 < np.mean(p_values) < 0.65
    assert np.mean(np.array(p_values) < 0.05) <= 0.12


def test_several_correct_candidates_share_their_pool(make_pool: MakePool) -> None:
    pools = [make_pool([1.0, 2.0, 1.0], [0, 2]), make_pool([1.0, 2.0, 3.0], [])]
    found = bias_of(pools, [np.array([1.0, 0.0, 0.0])] * 2)
    assert [(row["position"], row["n"], row["accuracy"], row["interval"]) for row in found["best_positions"]] == [
        (0, 0.5, 1.0, None), (2, 0.5, 1.0, None)
    ]  # fmt: skip
    assert found["p_value"] is None  # too few pools for a test


def test_reordering_keeps_what_belongs_together(make_pool: MakePool) -> None:
    pool = reordered(make_pool([1.0, 2.0, 3.0], [0]), [2, 0, 1])
    assert [candidate.answer for candidate in pool.candidates] == [3.0, 1.0, 2.0]
    assert pool.rewards == [0.2, 1.0, 0.2]
    assert pool.correct == [1]


def by_value(pools: Sequence[RewardedPool]) -> list[np.ndarray]:
    return [np.array([float(candidate.answer or 0.0) for candidate in pool.candidates]) for pool in pools]


def test_scores_of_single_candidates_do_not_depend_on_the_order(pools: list[RewardedPool]) -> None:
    found = order_invariance(pools, by_value(pools), by_value, seed=0)
    assert found == {"checked": ORDER_SAMPLE, "max_difference": 0.0}
    assert order_invariance(pools[:5], by_value(pools[:5]), by_value, seed=0)["checked"] == 5


def test_a_little_of_the_place_in_a_score_is_found(pools: list[RewardedPool]) -> None:
    def with_place(some: Sequence[RewardedPool]) -> list[np.ndarray]:
        return [own + 0.001 * np.arange(len(own)) for own in by_value(some)]

    found = order_invariance(pools, with_place(pools), with_place, seed=0)
    assert found["max_difference"] == pytest.approx(0.003)


def test_a_neighbour_in_a_score_is_found_though_the_reversed_order_keeps_neighbours(pools: list[RewardedPool]) -> None:
    def with_neighbours(some: Sequence[RewardedPool]) -> list[np.ndarray]:
        return [own + 0.001 * (np.roll(own, 1) + np.roll(own, -1)) for own in by_value(some)]

    assert order_invariance(pools, with_neighbours(pools), with_neighbours, seed=0)["max_difference"] > 0.0005


def test_positions_count_pools_of_every_size(make_pool: MakePool) -> None:
    pools = [make_pool([1.0, 2.0], [0]), make_pool([1.0, 2.0, 3.0], [0])]
    assert picked_positions(pools, [np.array([0.0, 1.0]), np.zeros(3)])["picks"] == [0.333333, 1.333333, 0.333333]
