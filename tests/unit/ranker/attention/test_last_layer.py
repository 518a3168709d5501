"""The last layer's feed-forward block sees the pooled tokens alone; the layers before it see all."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

from finrank.ranker.attention.routes import RouteName
from finrank.ranker.attention.shared_prefix import CandidatePass, PrefixPass, group_candidates
from finrank.ranker.model import CandidateRankingModel
from tests.helpers.attention_models import DIFFERENTIABLE, POOLINGS, make_model, random_pool, scores_of

EVEN = [random_pool("even 1", 7, 3, 2), random_pool("even 2", 5, 1, 6)]  # 12 tokens each: no padding on any route
ROUTES: list[RouteName] = ["split", "naive", "mask", "cached", "split"]
TOKENS, CANDIDATES, CANDIDATE_TOKENS = 24, 4, 12


def rows_by_layer(model: CandidateRankingModel, route: RouteName) -> list[int]:
    """Tokens of `EVEN` that went through each layer's feed-forward block."""
    base = model.encoder.get_base_model()
    bert = base.config.model_type == "bert"
    rows: list[int] = []

    def count(_: nn.Module, args: Any) -> None:
        rows.append(args[0].shape[:-1].numel())

    for layer in base.encoder.layer if bert else base.layers:
        block = layer.intermediate.dense if bert else layer.mlp.up_proj
        block.register_forward_pre_hook(count)
    scores_of(model, EVEN, route)
    return rows


@pytest.mark.parametrize(("family", "pooling"), POOLINGS)
def test_only_pooled_tokens_reach_the_last_block(family: str, pooling: str) -> None:
    for route in DIFFERENTIABLE:
        model = make_model(family, pooling=pooling)
        assert pooling in ("auto", model.pooling)
        pooled = CANDIDATE_TOKENS if model.pooling == "mean" else CANDIDATES
        assert rows_by_layer(model, route) == [TOKENS, pooled]
    naive = rows_by_layer(make_model(family, pooling=pooling), "naive")
    assert naive == [4 * 11] * 2  # four rows, as long as the longest
    # Two passes: of the prefixes' last layer nothing is pooled.
    cached = rows_by_layer(make_model(family, pooling=pooling), "cached")
    assert cached == [TOKENS - CANDIDATE_TOKENS, 0, CANDIDATE_TOKENS, pooled]


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_passes_in_threads_that_share_a_model_do_not_disturb_each_other(family: str) -> None:
    model = make_model(family)
    pools = [[random_pool(f"thread {number}", 5 + 4 * number, *range(1, 3 + number))] for number in range(4)]
    expected = [scores_of(model, each, "naive") for each in pools]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(pools)) as threads:
            found = [threads.submit(scores_of, model, pools[n % 4], ROUTES[n % 5]) for n in range(200)]
            for n, scores in enumerate(found):
                torch.testing.assert_close(scores.result(), expected[n % 4], atol=1e-5, rtol=0)
    finally:
        sys.setswitchinterval(interval)


def test_the_last_layer_leaves_out_the_prefix_attending_to_itself() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 9, 8) for heads in (4, 2, 2))
    groups = group_candidates([2, 3], start=4, limit=100, device=torch.device("cpu"))
    whole = CandidatePass(True, [(slice(0, 4), groups)])
    every, candidates = (whole.attend(1, (query, key, value), 0.3, only) for only in (False, True))
    assert torch.equal(every[:, 4:], candidates[:, 4:])
    assert every[:, :4].any(dim=-1).all()
    assert not candidates[:, :4].any()
    prefixes = PrefixPass(True, [slice(0, 9)])
    assert not prefixes.attend(1, (query, key, value), 0.3, True).any()
    assert prefixes.kept == {1: (key, value)}
