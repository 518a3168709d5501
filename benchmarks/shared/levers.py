"""Ways to make a layer cheaper, each put on a model for a while: kernels that fuse what a layer reads and writes.

liger     RMSNorm, rotary embedding and SwiGLU by Liger Kernel (pip install liger-kernel; a GPU)
compile   torch.compile of each layer, once for all lengths
budget    the same, but keeping half of the activations: the backward pass computes the cheapest others again
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._dynamo import config as dynamo_config
from torch._functorch import config as autograd_config
from torch._inductor.compile_fx import compile_fx
from transformers.models.llama import modeling_llama

from finrank.ranker.base_model import layers_of
from finrank.ranker.model import CandidateRankingModel

BUDGET = 0.5  # of the activations of a layer
VARIANTS = 64  # compiled forms of a layer (the first, the last, in evaluation, ...); beyond torch's 8 it runs as it is

_compiled: dict[tuple[str, nn.Module], Any] = {}


def with_liger(model: CandidateRankingModel) -> None:
    """Liger's kernels in place of the methods of transformers' Llama."""
    from liger_kernel.transformers import apply_liger_kernel_to_llama

    whole = {"rope": True, "rms_norm": True, "swiglu": True}
    losses = {"cross_entropy": False, "fused_linear_cross_entropy": False}
    apply_liger_kernel_to_llama(**whole, **losses, model=model.encoder.get_base_model())


def with_compiled_layers(model: CandidateRankingModel, name: str, backend: Any) -> None:
    """Layers compiled for any length; those of an earlier call of this name are taken again."""
    dynamo_config.recompile_limit = VARIANTS
    for layer in layers_of(model.encoder):
        if (name, layer) not in _compiled:
            layer.compile(dynamic=True, backend=backend)
            _compiled[name, layer] = layer._compiled_call_impl
        layer._compiled_call_impl = _compiled[name, layer]


def within_budget(graph: Any, inputs: Any) -> Any:
    """torch.compile's own backend, where a layer keeps `BUDGET` of its activations."""
    with autograd_config.patch(activation_memory_budget=BUDGET):
        return compile_fx(graph, inputs)


# Without a GPU, where a compiler would take minutes, layers are traced and run as they are.
LEVERS: dict[str, Callable[[CandidateRankingModel], None]] = {
    "liger": with_liger,
    "compile": lambda model: with_compiled_layers(model, "compile", "inductor" if _on_gpu(model) else "eager"),
    "budget": lambda model: with_compiled_layers(model, "budget", within_budget if _on_gpu(model) else "aot_eager"),
}


def _on_gpu(model: CandidateRankingModel) -> bool:
    return model.device.type == "cuda"


def why_not(lever: str, model: CandidateRankingModel) -> str | None:
    """What a lever lacks on this machine; None where it works."""
    if lever == "liger" and not _on_gpu(model):
        return "Liger Kernel needs a GPU"
    if lever == "liger" and importlib.util.find_spec("liger_kernel") is None:
        return "pip install liger-kernel"
    return None


@contextmanager
def using(model: CandidateRankingModel, lever: str | None) -> Iterator[None]:
    """Inside, the model has the lever (None: nothing); after it, it is as before."""
    if lever is None:
        yield
        return
    attributes = [(module, dict(vars(module))) for module in model.modules()]
    functions = dict(vars(modeling_llama))
    try:
        LEVERS[lever](model)
        yield
    finally:
        for module, before in attributes:
            vars(module).clear()
            vars(module).update(before)
        vars(modeling_llama).update(functions)


def gradients(model: CandidateRankingModel, lever: str | None, scores: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The gradient of a loss of the scores with respect to all that is trained, as one vector, without dropout."""
    model.zero_grad()
    model.eval()
    with using(model, lever):
        scores().log_softmax(dim=1)[:, 0].sum().backward()
    model.train()
    found = [value.grad.flatten() for value in model.parameters() if value.grad is not None]
    model.zero_grad()
    return torch.cat([grad.float() for grad in found])
