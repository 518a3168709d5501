"""Adapters: peft's function, with less memory kept, and merged, switched off and stored as peft's are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from peft.tuners import lora
from torch import Tensor, nn

from finrank.ranker.adapters import AddingLinear, with_adapters
from finrank.ranker.settings import LoraSettings
from tests.tiny import tiny_encoder

PLAIN = LoraSettings(rank=4, alpha=12, dropout=0.0)


class Two(nn.Module):
    """Two linear layers, one with a bias: the second one's input has a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(24, 40)
        self.second = nn.Linear(40, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


def adapted(settings: LoraSettings = PLAIN, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The two layers with adapters that have an effect; adapters of a bfloat16 base are float32."""
    torch.manual_seed(0)
    base = Two().to(dtype).requires_grad_(False)
    every = settings.model_copy(update={"target_modules": ["first", "second"]})
    model = with_adapters(base, every, "FEATURE_EXTRACTION").get_base_model()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_()
    return model


@contextmanager
def as_peft_has_it() -> Iterator[None]:
    with mock.patch.object(AddingLinear, "forward", lora.Linear.forward):
        yield


def output_and_gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, the input's gradient and those of all adapters."""
    torch.manual_seed(1)  # of dropout
    x = x.clone().requires_grad_()
    output = model(x)
    (output.float() ** 2).sum().backward()
    found = [output.detach(), x.grad, *(value.grad for value in model.parameters() if value.requires_grad)]
    model.zero_grad()
    return found


def error(values: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest difference relative to a tensor's norm."""
    pairs = zip(values, wanted, strict=True)
    return max(((one.double() - other.double()).norm() / other.double().norm()).item() for one, other in pairs)


@pytest.mark.parametrize("shape", [(7, 24), (3, 5, 24), (2, 3, 2, 24), (1, 1, 24)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_function_is_that_of_peft(shape: tuple[int, ...], dropout: float) -> None:
    model = adapted(PLAIN.model_copy(update={"dropout": dropout})).train()
    x = torch.randn(shape, dtype=torch.float64)
    ours = output_and_gradients(model, x)
    with as_peft_has_it():
        theirs = output_and_gradients(model, x)
    assert ours[0].shape == (*shape[:-1], 16)
    assert len(ours) == 2 + 4
    assert error(ours, theirs) < 1e-14


def test_another_scale_is_seen() -> None:
    model = adapted()
    x = torch.randn(7, 24, dtype=torch.float64)
    with as_peft_has_it():
        theirs = output_and_gradients(model, x)
    model.second.scaling["default"] *= 1.001
    assert error(output_and_gradients(model, x), theirs) > 1e-5


@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_is_no_further_off_than_with_float32_adapters(autocast: bool) -> None:
    model = adapted(dtype=torch.bfloat16)
    assert model.first.lora_A["default"].weight.dtype == torch.float32
    x = torch.randn(64, 24, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        ours = output_and_gradients(model, x)
        with as_peft_has_it():
            theirs = output_and_gradients(model, x)
    exact = output_and_gradients(model.double(), x.double())
    assert ours[0].dtype == torch.bfloat16
    assert [value.dtype for value in ours] == [value.dtype for value in theirs]
    assert 1e-4 < error(ours, exact) < 2 * error(theirs, exact)


def test_no_copies_of_the_inputs_are_kept_for_the_backward_pass() -> None:
    model = adapted(dtype=torch.bfloat16)
    x = torch.randn(500, 24, dtype=torch.bfloat16)
    inputs = 500 * (24 + 40) * 2  # bytes; tanh keeps its output, which is the second one's input
    ours = bytes_kept(model, x)
    with as_peft_has_it():
        theirs = bytes_kept(model, x)
    rest = 500 * (4 + 4) * 2 + 2 * (24 + 40 + 40 + 16) * 4 * 2  # products of rank 4, weights in both orders
    assert ours <= inputs + rest
    assert theirs >= inputs + 500 * 40 * 2  # a copy of the second input beside it


def bytes_kept(model: nn.Module, x: Tensor) -> int:
    """What a forward pass under bfloat16 autocast keeps, each storage once."""
    kept: dict[int, Tensor] = {}

    def note(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value
        return value

    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda value: value),
        torch.autocast("cpu", torch.bfloat16),
    ):
        output = model(x)
    assert output.requires_grad
    frozen = {value.untyped_storage().data_ptr() for value in model.parameters() if not value.requires_grad}
    return sum(value.untyped_storage().nbytes() for place, value in kept.items() if place not in frozen)


def test_switched_off_and_merged_they_are_as_in_peft() -> None:
    model = adapted()
    x = torch.randn(7, 24, dtype=torch.float64)
    with torch.no_grad():
        with_them = model(x)
        for layer in (model.first, model.second):
            layer.enable_adapters(False)
        without = model(x)
        for layer in (model.first, model.second):
            layer.enable_adapters(True)
            layer.merge()
        merged = model(x)
        for layer in (model.first, model.second):
            layer.unmerge()
        again = model(x)
    assert error([merged, again], [with_them, with_them]) < 1e-14
    assert error([without], [with_them]) > 0.1


def test_every_linear_layer_gets_one_and_a_quantized_base_keeps_those_of_peft() -> None:
    ours = with_adapters(tiny_encoder("llama"), PLAIN, "FEATURE_EXTRACTION")
    found = {type(layer) for layer in ours.modules() if isinstance(layer, lora.Linear)}
    assert found == {AddingLinear}
    base = tiny_encoder("llama")
    base.quantization_method = "bitsandbytes"
    theirs = with_adapters(base, PLAIN, "FEATURE_EXTRACTION")
    assert {type(layer) for layer in theirs.modules() if isinstance(layer, lora.Linear)} == {lora.Linear}
