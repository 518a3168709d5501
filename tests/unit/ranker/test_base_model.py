"""Base weights and their warnings; adapters: peft's function with less memory, merged, stored, loaded as peft's are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from peft import PeftModel
from peft.tuners import lora
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModel

import finrank.ranker.base_model as base_model
from finrank.ranker.base_model import AddingLinear, load_encoder, with_adapters
from finrank.ranker.settings import LoraSettings, RankerSettings
from tests.helpers.attention_models import footprint, give_effect
from tests.helpers.operations import Operations
from tests.helpers.tiny_models import save_tiny_base, tiny_encoder

PLAIN = LoraSettings(rank=4, alpha=12)
# Of two linear layers, whose second one's input has a gradient.
TWO = PLAIN.model_copy(update={"target_modules": ["0", "2"]})


@pytest.mark.parametrize("native", [False, True])
def test_emulated_bfloat16_is_warned_of(
    native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(base_model, "multiplies_bfloat16", lambda: native)
    base = save_tiny_base(tmp_path / "base", "bert")
    assert load_encoder(RankerSettings(base_model=str(base), dtype="bfloat16")).dtype == torch.bfloat16
    assert ("which this machine emulates" in capsys.readouterr().err) is not native


def test_a_pin_that_cannot_be_checked_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, shards = save_tiny_base(tmp_path / "base", "bert"), tmp_path / "shards"
    AutoModel.from_pretrained(base).save_pretrained(shards, max_shard_size="20KB")
    assert not (shards / "model.safetensors").exists()
    load_encoder(RankerSettings(base_model=str(shards)))
    assert "not checked" not in capsys.readouterr().err
    load_encoder(RankerSettings(base_model=str(shards), base_model_sha256="0" * 64))
    assert "base_model_sha256 is not checked" in " ".join(capsys.readouterr().err.split())


def adapted(dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> Any:
    """Two linear layers with adapters that have an effect; adapters of a bfloat16 base are float32."""
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(24, 40), nn.Tanh(), nn.Linear(40, 16, bias=False)).to(dtype).requires_grad_(False)
    model = with_adapters(base, TWO.model_copy(update={"dropout": dropout}), "FEATURE_EXTRACTION").get_base_model()
    give_effect(model, std=1.0)
    return model


def as_peft_has_it() -> Any:
    return mock.patch.object(AddingLinear, "forward", lora.Linear.forward)


def output_and_gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    torch.manual_seed(1)  # of dropout
    x = x.clone().requires_grad_()
    output = model(x)
    (output.float() ** 2).sum().backward()
    found = [output.detach(), x.grad, *(value.grad for value in model.parameters() if value.requires_grad)]
    model.zero_grad()
    return found


def errors(values: list[Tensor], expected: list[Tensor]) -> Tensor:
    """Difference of each tensor relative to its norm."""
    pairs = zip(values, expected, strict=True)
    return torch.stack([(value.double() - other.double()).norm() / other.double().norm() for value, other in pairs])


@pytest.mark.parametrize("shape", [(7, 24), (3, 5, 24), (2, 3, 2, 24), (1, 1, 24)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_function_is_that_of_peft(shape: tuple[int, ...], dropout: float) -> None:
    model = adapted(dropout).train()
    x = torch.randn(shape, dtype=torch.float64)
    ours = output_and_gradients(model, x)
    with as_peft_has_it():
        theirs = output_and_gradients(model, x)
    assert ours[0].shape == (*shape[:-1], 16)
    assert len(ours) == 2 + 4
    assert (errors(ours, theirs) < 1e-14).all()
    model[2].scaling["default"] *= 1.001  # would be seen
    assert (errors(output_and_gradients(model, x), theirs) > 1e-5).any()


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize(
    ("dtype", "autocast"), [(torch.float32, True), (torch.bfloat16, True), (torch.bfloat16, False)]
)
def test_lower_precision_is_at_most_twice_as_far_off_as_with_peft(
    dtype: torch.dtype, autocast: bool, checkpointing: bool
) -> None:
    """The first case is how the default model is trained; in the last, peft computes the adapters in float32."""
    model = adapted(dtype=dtype)
    assert model[0].lora_A["default"].weight.dtype == torch.float32
    x = torch.randn(64, 24, dtype=dtype)
    plain = model.forward

    def forward(x: Tensor) -> Tensor:  # it alone is under autocast, and runs again in the backward pass
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return checkpoint(plain, x, use_reentrant=False) if checkpointing else plain(x)

    with mock.patch.object(model, "forward", forward):
        ours = output_and_gradients(model, x)
        with as_peft_has_it():
            theirs = output_and_gradients(model, x)
    exact = output_and_gradients(model.double(), x.double())
    assert ours[0].dtype == torch.bfloat16
    assert [value.dtype for value in ours] == [value.dtype for value in theirs]
    assert (errors(ours, exact) > 1e-4).all()
    rounding = torch.finfo(torch.bfloat16).eps
    assert (errors(ours, exact) < (2 * errors(theirs, exact) if autocast else 2 * rounding)).all()


def test_no_copies_of_the_inputs_are_kept_for_the_backward_pass() -> None:
    model = adapted(dtype=torch.bfloat16)
    x = torch.randn(500, 24, dtype=torch.bfloat16)
    inputs = 500 * (24 + 40) * 2  # bytes; tanh keeps its output, which is the second one's input
    with torch.autocast("cpu", torch.bfloat16):
        ours = footprint(model, lambda: model(x))
        with as_peft_has_it():
            theirs = footprint(model, lambda: model(x))
    rest = 500 * (4 + 4) * 2 + 2 * (24 + 40 + 40 + 16) * 4 * 2  # products of rank 4, weights in both orders
    assert ours <= inputs + rest
    assert theirs >= inputs + 500 * 40 * 2  # and a copy of the second input


def test_switched_off_and_merged_they_are_as_in_peft() -> None:
    model = adapted()
    layers = (model[0], model[2])
    x = torch.randn(7, 24, dtype=torch.float64)
    with torch.no_grad():
        with_them = model(x)
        for layer in layers:
            layer.merge()
        merged = model(x)
        for layer in layers:
            layer.unmerge()
            layer.enable_adapters(False)
        without = model(x)
        assert torch.equal(without, model[2].base_layer(torch.tanh(model[0].base_layer(x))))
    assert errors([merged], [with_them]) < 1e-14
    assert errors([without], [with_them]) > 0.1


def test_what_is_saved_is_loaded_by_peft_alone(tmp_path: Path) -> None:
    model = with_adapters(tiny_encoder("llama").double(), PLAIN, "FEATURE_EXTRACTION")
    give_effect(model, std=1.0)
    model.save_pretrained(tmp_path)
    theirs = PeftModel.from_pretrained(tiny_encoder("llama").double(), tmp_path)
    assert adapters_of(theirs) == {lora.Linear}
    ids = torch.arange(12).view(2, 6)
    with torch.no_grad():
        outputs = [each(input_ids=ids).last_hidden_state for each in (model, theirs)]
        with theirs.disable_adapter():
            without = theirs(input_ids=ids).last_hidden_state
    assert errors([outputs[0]], [outputs[1]]) < 1e-12
    assert errors([without], [outputs[1]]) > 0.01


def test_adapters_cost_their_products_and_no_passes_over_memory_beside_them() -> None:
    """Forward W x, A x and B A x, backward five products: on a GPU the number of kernels bounds small steps."""
    model = adapted(dtype=torch.bfloat16).train()
    x = torch.randn(6, 24, dtype=torch.bfloat16)

    def kernels() -> Counter[str]:
        with Operations() as seen:
            output_and_gradients(model, x)
        return Counter("product" if "mm" in name else name for name in seen.kernels.elements())

    ours = kernels()
    with as_peft_has_it():
        theirs = kernels()
    assert ours["product"] == 2 * (3 + 5)
    assert ours - theirs == Counter()
    assert theirs - ours == Counter(mul=4, add=4, _to_copy=2)  # by s, sums of both products and of both gradients of x


def test_every_linear_layer_gets_one_and_quantized_layers_get_those_of_peft() -> None:
    base = tiny_encoder("llama")
    linear = sum(isinstance(layer, nn.Linear) for layer in base.modules())
    model = with_adapters(base, PLAIN, "FEATURE_EXTRACTION")
    assert adapters_of(model) == {AddingLinear}
    assert sum(isinstance(layer, AddingLinear) for layer in model.modules()) == linear

    class Quantized(nn.Linear):
        """As of bitsandbytes: a linear layer by its class."""

    quantized = nn.Sequential(nn.Linear(24, 40), nn.Tanh(), Quantized(40, 16))
    assert adapters_of(with_adapters(quantized, TWO, "FEATURE_EXTRACTION")) == {lora.Linear}


def adapters_of(model: nn.Module) -> set[type]:
    return {type(layer) for layer in model.modules() if isinstance(layer, lora.Linear)}
