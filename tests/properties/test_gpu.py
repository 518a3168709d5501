"""On a GPU: scores as of the naive route on the CPU, dropout in passes that run again, gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import finrank.training.trainer as trainer
from finrank.ranker.attention.routes import Route, RouteName
from finrank.ranker.scoring import cut_into_passes, score_pools
from tests.helpers.attention_models import DIFFERENTIABLE, PACKED, POOLS, make_model, random_pool, tampered
from tests.properties.test_gradients import double_model, furthest, gradients

DEVICE = torch.device("cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is false"),
]


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Products in float32 and not TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("route", [*PACKED, "naive", "by_size"])
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_every_route_gives_the_scores_of_the_naive_one_on_the_cpu(family: str, route: RouteName) -> None:
    pools = [random_pool("hundreds", 12, *(2 + n % 7 for n in range(150))), *POOLS]
    expected = score_pools(make_model(family), pools, route="naive")
    on_gpu = score_pools(make_model(family).to(DEVICE), pools, route=route)
    for scores, other in zip(on_gpu, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(scores), torch.from_numpy(other), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_the_check_at_load_passes_and_a_broken_route_is_seen(family: str, dtype: Any) -> None:
    model = make_model(family, dtype=dtype, tuning=None).to(DEVICE)
    assert model.checked_route().name == "by_size"
    assert [model.check(Route(route, "")).name for route in PACKED] == PACKED
    with tampered(model, position_ids=lambda positions: positions[:, :1] + torch.arange(positions.shape[1]).to(DEVICE)):
        assert [model.check(Route(route, "")).name for route in PACKED] == ["naive"] * 3


@pytest.mark.parametrize("route", ["naive", *DIFFERENTIABLE])
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_passes_that_run_again_drop_out_what_they_did_at_first(
    family: str, route: RouteName, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = double_model(family).to(DEVICE)
    for module in model.modules():  # the head's, and BERT's
        if isinstance(module, nn.Dropout):
            module.p = 0.5

    def seeded(run: Callable[..., Tensor]) -> dict[str, Tensor]:
        monkeypatch.setattr(trainer, "checkpoint", run)
        torch.manual_seed(3)
        return gradients(model, route, limit=45)

    kept = seeded(lambda function, *given, use_reentrant: function(*given))
    assert len(cut_into_passes(POOLS, 45, route)) > 2
    assert furthest(seeded(checkpoint), kept) <= 1e-9
    assert furthest(seeded(partial(checkpoint, preserve_rng_state=False)), kept) > 1e-2  # another mask would be seen


@pytest.mark.parametrize("checkpointing", [False, True])  # then hooks run in the thread of the device's backward pass
@pytest.mark.parametrize("route", DIFFERENTIABLE)
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_gradients_equal_those_of_the_naive_route(family: str, route: RouteName, checkpointing: bool) -> None:
    expected = gradients(double_model(family).to(DEVICE), "naive")
    assert all(value.device.type == DEVICE.type for value in expected.values())
    model = double_model(family, checkpointing=checkpointing).to(DEVICE)
    assert furthest(gradients(model, route), expected) <= 1e-9
