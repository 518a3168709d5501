"""The last layer's feed-forward block sees the pooled tokens and no others; the layers before it see all."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

import finrank.ranker.attention.shared_prefix as shared_prefix
import finrank.ranker.attention.stream as stream
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.model import CandidateRankingModel
from tests.helpers.attention_models import DIFFERENTIABLE, FAMILIES, PACKED, POOLS, make_model, random_pool, scores_of
from tests.helpers.tiny_models import tiny_encoder

EVEN = [random_pool("even 1", 7, 3, 2), random_pool("even 2", 5, 1, 6)]  # 12 tokens each: no padding on any route
TOKENS, CANDIDATES, CANDIDATE_TOKENS = 24, 4, 12


def rows_by_layer(model: CandidateRankingModel, pools: list[EncodedPool], route: RouteName) -> list[int]:
    """Tokens that went through each layer's feed-forward block."""
    base = model.encoder.get_base_model()
    bert = base.config.model_type == "bert"
    rows: list[int] = []

    def count(_: nn.Module, args: Any) -> None:
        rows.append(args[0].shape[:-1].numel())

    for layer in base.encoder.layer if bert else base.layers:
        block = layer.intermediate.dense if bert else layer.mlp.up_proj
        block.register_forward_pre_hook(count)
    scores_of(model, pools, route)
    return rows


@pytest.mark.parametrize("route", DIFFERENTIABLE)
@pytest.mark.parametrize("family", FAMILIES)
def test_only_pooled_tokens_reach_the_last_block(family: str, route: RouteName) -> None:
    pooled = CANDIDATE_TOKENS if family == "bert" else CANDIDATES  # BERT pools a mean, the causal ones their last token
    assert rows_by_layer(make_model(family), EVEN, route) == [TOKENS, pooled]


def test_chunks_of_candidates_pool_their_last_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_ONE_PASS_TOKENS", {"cpu": 0, "cuda": 0})
    rows = rows_by_layer(make_model("llama"), EVEN, "cached")
    assert rows == [TOKENS - CANDIDATE_TOKENS, CANDIDATE_TOKENS, CANDIDATES]


def pooled_otherwise(family: str, pooling: str) -> CandidateRankingModel:
    """`make_model` without LoRA's effect, and with this pooling in its settings."""
    settings = make_model(family).settings.model_copy(update={"pooling": pooling})
    return CandidateRankingModel.new(settings, tiny_encoder(family)).eval()


def score_alone(model: CandidateRankingModel, pool: EncodedPool, pooling: str) -> list[float]:
    """Scores of each candidate by itself, without any code of the routes; the prefix does not see the candidate."""
    scores = []
    prefix = len(pool.prefix)
    for candidate in pool.candidates:
        ids = torch.tensor([pool.prefix + candidate])
        seen = torch.ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool)
        seen[:, :, :prefix, prefix:] = False
        hidden = model.encoder(input_ids=ids, attention_mask=seen.tril() if model.causal else seen).last_hidden_state[0]
        scores.append(model.score_head(hidden[-1] if pooling == "last" else hidden[prefix:].mean(dim=0)).item())
    return scores


OTHERWISE = [("llama", "mean"), ("bert", "last")]  # what `pooling: auto` does not choose


@pytest.mark.parametrize("route", [*PACKED, "naive"])
@pytest.mark.parametrize(("family", "pooling"), OTHERWISE)
def test_the_other_pooling_gives_the_scores_of_each_candidate_alone(
    family: str, pooling: str, route: RouteName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_ONE_PASS_TOKENS", {"cpu": 0, "cuda": 0})
    model = pooled_otherwise(family, pooling)
    with torch.no_grad():
        alone = torch.tensor([score for pool in POOLS for score in score_alone(model, pool, pooling)])
    torch.testing.assert_close(scores_of(model, POOLS, route), alone, atol=1e-5, rtol=0)
    auto = scores_of(pooled_otherwise(family, "auto"), POOLS, route)
    assert (auto - alone).abs().max() > 1e-2  # the pooling matters


@pytest.mark.parametrize(("family", "pooling"), OTHERWISE)
def test_only_tokens_of_the_other_pooling_reach_the_last_block(
    family: str, pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_ONE_PASS_TOKENS", {"cpu": 0, "cuda": 0})
    pooled = CANDIDATE_TOKENS if pooling == "mean" else CANDIDATES
    for route in DIFFERENTIABLE:
        assert rows_by_layer(pooled_otherwise(family, pooling), EVEN, route) == [TOKENS, pooled]
    cached = rows_by_layer(pooled_otherwise(family, pooling), EVEN, "cached")
    assert cached == [TOKENS - CANDIDATE_TOKENS, CANDIDATE_TOKENS, pooled]


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_the_naive_route_stays_the_architecture_itself(family: str) -> None:
    assert rows_by_layer(make_model(family), EVEN[:1], "naive") == [2 * 10, 2 * 10]


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_passes_with_and_without_it_do_not_disturb_each_other(family: str) -> None:
    model = make_model(family)
    expected = scores_of(model, POOLS, "naive")
    for route in ("split", "naive", "mask", "cached", "naive"):
        torch.testing.assert_close(scores_of(model, POOLS, route), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_threads_that_share_a_model_do_not_mix_their_pools(family: str) -> None:
    model = make_model(family)
    own = [[random_pool(f"thread {number}", 5 + 4 * number, *range(1, 3 + number))] for number in range(4)]
    expected = [scores_of(model, pools, "naive") for pools in own]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(own)) as threads:
            found = [threads.submit(scores_of, model, own[n % 4], "split") for n in range(200)]
            for number, scores in enumerate(found):
                torch.testing.assert_close(scores.result(), expected[number % 4], atol=1e-5, rtol=0)
    finally:
        sys.setswitchinterval(interval)


def test_the_last_layer_leaves_out_the_prefix_attending_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    attend = shared_prefix._prefix_to_itself

    def counted(*given: Any) -> torch.Tensor:
        calls.append(1)
        return attend(*given)

    monkeypatch.setattr(shared_prefix, "_prefix_to_itself", counted)
    scores_of(make_model("llama"), EVEN, "split")
    assert len(calls) == len(EVEN)  # of two layers, the first
