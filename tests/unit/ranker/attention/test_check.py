"""The check at load at real depths: rounding is not taken for a mistake, nor a mistake for rounding."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel

from finrank.ranker.attention import check
from finrank.ranker.attention.routes import VECTORS, Route
from finrank.ranker.attention.tuning import CPU
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.settings import HeadSettings, LoraSettings, RankerSettings
from tests.helpers.attention_models import BREAKS, PACKED, TWO_PASSES, give_effect, tampered
from tests.helpers.tiny_models import CONFIGS

DEPTHS = [2, 8, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (32, 80))]
# Weights as architectures draw them, and ten times as large: the first hide mistakes best, the others round most.
SMALL, LARGE = 0.02, 0.2


def deep_model(family: str, depth: int, dtype: Any, std: float) -> CandidateRankingModel:
    config = deepcopy(CONFIGS[family])
    config.num_hidden_layers, config.initializer_range = depth, std
    if getattr(config, "layer_types", None):
        config.layer_types = ["full_attention"] * depth
    torch.manual_seed(0)
    encoder = AutoModel.from_config(config, attn_implementation="sdpa").to(getattr(torch, dtype))
    sizes = {"lora": LoraSettings(rank=4), "score_head": HeadSettings(hidden_size=16)}
    model = CandidateRankingModel.new(RankerSettings(base_model="tiny", dtype=dtype, **sizes), encoder)
    give_effect(model, std / 2)
    model.tuning = TWO_PASSES
    return model.eval()


@pytest.mark.parametrize("std", [SMALL, LARGE])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_right_routes_pass_at_any_depth(family: str, depth: int, dtype: str, std: float) -> None:
    model = deep_model(family, depth, dtype, std)
    assert [model.check(Route(route, "")).name for route in PACKED] == PACKED


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_routes_that_are_broken_are_refused_at_any_depth(depth: int, dtype: str) -> None:
    models = {family: deep_model(family, depth, dtype, SMALL) for family in ("llama", "bert")}
    unseen = []
    for broken, (route, argument, edit) in BREAKS.items():
        # The causal mask by itself hides the padding at a block's end.
        model = models["bert" if "padding" in broken else "llama"]
        with tampered(model, **{argument: edit}):
            unseen += [broken] if model.check(Route(route, "")).name == route else []
    assert unseen == []


def test_rounding_at_32_layers_is_over_the_bound_for_a_model_that_hardly_rounds() -> None:
    """As measured with 8B parameters on a GPU; the check passes because it measures what naive scoring rounds."""
    model = deep_model("llama", 32, "bfloat16", LARGE)
    with torch.inference_mode():
        naive, split = (check._vectors(route, model.backbone) for route in ("naive", "split"))
    assert check._furthest(split, naive) > CPU.bfloat16_tolerance
    assert model.check(Route("split", "")).name == "split"


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_a_route_that_fails_in_half_precision_alone_is_refused(value: float, monkeypatch: Any) -> None:
    model = deep_model("llama", 2, "bfloat16", SMALL)
    right = VECTORS["split"]

    def in_half(backbone: Any, pools: Any) -> Tensor:
        raised = torch.zeros(1, dtype=torch.bfloat16).add(0).dtype == torch.float32  # inside the comparison in float32
        return right(backbone, pools) * (1.0 if raised else value)

    monkeypatch.setitem(VECTORS, "split", in_half)
    assert model.check(Route("split", "")).name == "naive"


@pytest.mark.parametrize(("broken", "sees"), [("mask", "attention_mask"), ("cached", "layout")])
def test_both_sides_of_by_size_are_checked(broken: str, sees: str) -> None:
    model = deep_model("llama", 2, "float32", SMALL)
    assert model.check(Route("by_size", "")).name == "by_size"
    edit = next(change for route, argument, change in BREAKS.values() if (route, argument) == (broken, sees))
    with tampered(model, **{sees: edit}):
        assert model.check(Route("by_size", "")).name == "naive"


def test_tf32_is_off_during_the_check_and_allowed_again_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    products, seen = torch.backends.cuda.matmul, []
    monkeypatch.setattr(check, "_differences", lambda *_: seen.append(products.fp32_precision) or [])
    before = products.fp32_precision
    products.fp32_precision = "tf32"
    try:
        deep_model("llama", 2, "float32", SMALL).check(Route("mask", ""))
        assert (seen, products.fp32_precision) == (["ieee"], "tf32")
    finally:
        products.fp32_precision = before


class CastingLinear(nn.Linear):
    """A layer that casts to half precision by itself, as quantized ones do."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.to(torch.bfloat16)
        return nn.functional.linear(half, self.weight.to(torch.bfloat16)).to(x.dtype)


def test_casts_to_half_precision_do_not_round_in_the_comparison_in_float32() -> None:
    layer, x = CastingLinear(8, 4, bias=False), torch.randn(3, 8)
    with torch.inference_mode(), check._InFloat32():
        exact = layer(x)
    assert exact.equal(nn.functional.linear(x, layer.weight))
    assert not layer(x).equal(exact)
    half = nn.Embedding(5, 4, dtype=torch.bfloat16)
    with torch.inference_mode(), check._InFloat32():
        assert half(torch.tensor([1, 2])).dtype == torch.float32
    assert half.weight.dtype == torch.bfloat16
