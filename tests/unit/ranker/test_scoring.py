"""Scoring on a GPU: which pools share a pass, and operations that do not grow with their number. On a CPU, by count."""

from __future__ import annotations

from typing import Any

import torch

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.attention.tuning import GPU
from finrank.ranker.scoring import cut_into_passes, score_pools
from tests.helpers.attention_models import make_model, random_pool, tampered
from tests.helpers.operations import Operations
from tests.helpers.tiny_models import SIZE


def operations(pools: list[EncodedPool], route: RouteName) -> int:
    model = make_model("llama", tuning=GPU)
    with Operations() as seen:
        score_pools(model, pools, route=route)
    return seen.count


def pools_of(count: int) -> list[EncodedPool]:
    return [random_pool(str(number), 20 + number % 7, *(3 + number % 5,) * 8) for number in range(count)]


def test_operations_of_a_pass_on_a_gpu_do_not_grow_with_its_pools() -> None:
    few, many = (operations(pools_of(count), "by_size") for count in (4, 64))
    assert few == many
    assert few <= 130 * SIZE["num_hidden_layers"] + 100
    assert operations(pools_of(64), "cached") > 10 * many  # loops over pools in each layer


def test_small_and_large_pools_take_turns_in_no_pass() -> None:
    """Sorted by length alone, small pools with long prefixes would alternate with large ones with short prefixes."""
    large, small = (
        (random_pool(f"large {n}", 5 + n, *[1] * 70) for n in range(4)),
        (random_pool(f"small {n}", 70 + n, 2, 3) for n in range(4)),
    )
    pools = [pool for pair in zip(large, small, strict=True) for pool in pair]
    model, passes = make_model("llama", tuning=GPU), list[str]()

    def note(name: str) -> Any:
        return lambda value: passes.append(name) or value

    with tampered(model, layout=note("cached"), attention_mask=note("mask")):
        scores = score_pools(model, pools, route="by_size")
    assert passes == ["cached", "mask"]
    for found, expected in zip(scores, score_pools(model, pools, route="naive"), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(expected), atol=1e-5, rtol=0)
    assert [len(each) for each in cut_into_passes(pools, 10**6, "by_size")] == [1] * 8
