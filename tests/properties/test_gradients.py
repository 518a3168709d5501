"""Gradients of every trainable route against the naive one, in float64: with adapters, checkpointing, and in passes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import finrank.training.trainer as trainer
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.model import CandidateRankingModel, pad_scores
from finrank.training.losses import listwise_loss
from finrank.training.trainer import scores_in_passes
from tests.helpers.attention_models import DIFFERENTIABLE, FAMILIES, POOLS, footprint, make_model, tampered, with_prefix


class Norm64(nn.Module):
    """RMSNorm in the width of its input: the families' own goes through float32."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.weight = norm.weight
        self.epsilon = norm.variance_epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.epsilon)


def double_model(family: str, *, lora: bool = True, checkpointing: bool = False) -> CandidateRankingModel:
    """A model in float64 throughout, in training mode (nothing in it drops out)."""
    model = make_model(family, lora=lora).double()
    for module in list(model.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, child in list(module.named_children()):
            if type(child).__name__.endswith("RMSNorm"):
                setattr(module, name, Norm64(child))
    if checkpointing:
        model.activation_checkpointing_enable()
    return model.train()


def gradients(model: CandidateRankingModel, route: RouteName, limit: int = 10**6) -> dict[str, Tensor]:
    """Gradients of the listwise loss of `POOLS`, in passes of at most `limit` tokens."""
    model.zero_grad()
    scores_BN = scores_in_passes(model, POOLS, route, limit)
    correct_BN = torch.zeros_like(scores_BN, dtype=torch.bool)
    correct_BN[range(len(POOLS)), [1, 0, 0, 7]] = True
    listwise_loss(scores_BN, correct_BN).backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of a tensor, in units of its norm (the last bias has gradient zero but for rounding)."""
    assert one.keys() == other.keys()
    assert any("lora_A" in name for name in one)
    return max(
        ((value - other[name]).norm() / other[name].norm().clamp(min=1e-6)).item() for name, value in one.items()
    )


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("route", DIFFERENTIABLE)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_those_of_the_naive_route(
    family: str, route: RouteName, lora: bool, checkpointing: bool
) -> None:
    expected = gradients(double_model(family, lora=lora), "naive")
    model = double_model(family, lora=lora, checkpointing=checkpointing)
    assert furthest(gradients(model, route), expected) <= 1e-9


@pytest.mark.parametrize("route", ["naive", *DIFFERENTIABLE])
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_a_batch_in_several_passes_has_the_gradients_of_the_whole(family: str, route: RouteName) -> None:
    model = double_model(family)
    assert furthest(gradients(model, route, limit=45), gradients(model, route)) <= 1e-9


def test_passes_keep_the_activations_of_one_pass_at_a_time() -> None:
    model = make_model("bert").train()
    one = footprint(model, lambda: scores_in_passes(model, POOLS, "split", 10**6))
    several = footprint(model, lambda: scores_in_passes(model, POOLS, "split", 45))
    assert several < one / 5


def test_passes_that_run_again_hand_their_device_to_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a tensor on it, checkpoint does not keep a GPU's random state: dropout would differ the second time."""
    devices = []

    def watched(function: Callable[..., Tensor], *given: object, **options: object) -> Tensor:
        devices.append([value.device for value in given if isinstance(value, Tensor)])
        return function(*given)

    monkeypatch.setattr(trainer, "checkpoint", watched)
    model = make_model("bert")
    scores_in_passes(model, POOLS, "split", 45)
    assert len(devices) > 1
    assert all(own == [model.device] for own in devices)


def test_a_gradient_through_the_prefix_that_is_cut_off_is_seen() -> None:
    expected = gradients(double_model("llama"), "naive")
    model = double_model("llama")
    with tampered(model, layout=with_prefix(Tensor.detach)):
        assert furthest(gradients(model, "split"), expected) > 1e-3


def test_scores_are_padded_where_pools_are_of_unequal_size() -> None:
    assert pad_scores(torch.arange(5.0), POOLS[:2]).tolist() == [[0, 1, 2], [3, 4, -math.inf]]
