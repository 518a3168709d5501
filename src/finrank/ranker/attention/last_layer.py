"""Hooks by which the last layer's feed-forward block, most of a layer's products, computes the pooled tokens alone.

The other tokens' last hidden states are never read. The packed routes pass the indices of the pooled tokens, counted
through the whole batch, as the argument `pooled`; without it (route `naive`) the layer is unchanged:

    tokens   p p p a a b        `pooled` with pooling mean: [3, 4, 5], with last: [4, 5]
"""

from __future__ import annotations

import threading
from typing import Any

from torch import Tensor, nn

# `pooled` and the shape [batch, tokens] of the thread's pass: Llama's feed-forward block takes no keyword arguments.
_noted = threading.local()


def compute_only_pooled(base: Any) -> None:
    """Put the hooks on a base model, BERT or of Llama's kind; only `pooled` rows of its output then mean anything."""
    if base.config.model_type == "bert":
        layer = base.encoder.layer[-1]
        attention, end = layer.attention, layer
        attention.register_forward_hook(_gather_output)
    else:
        layer = base.layers[-1]
        attention, end = layer.self_attn, layer.mlp
        layer.mlp.register_forward_pre_hook(_gather_input)
    # Inside the layer and not before it, so that recomputing a checkpoint notes `pooled` again.
    attention.register_forward_pre_hook(_note, with_kwargs=True)
    end.register_forward_hook(_scatter)


def _note(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
    hidden_BTD = args[0] if args else kwargs["hidden_states"]
    _noted.pooled, _noted.shape = kwargs.get("pooled"), hidden_BTD.shape[:2]


def _gather(hidden_BTD: Tensor) -> Tensor:
    return hidden_BTD if _noted.pooled is None else hidden_BTD.flatten(0, 1)[_noted.pooled].unsqueeze(0)


def _gather_input(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    return (_gather(args[0]),)


def _gather_output(_: nn.Module, args: Any, output: tuple[Any, ...]) -> tuple[Any, ...]:
    return (_gather(output[0]), *output[1:])


def _scatter(_: nn.Module, args: Any, rows_1RD: Tensor) -> Tensor:
    """The rows at their indices among zeros, [batch, tokens, width]."""
    if _noted.pooled is None:
        return rows_1RD
    batch, tokens = _noted.shape
    empty_TD = rows_1RD.new_zeros(batch * tokens, rows_1RD.shape[-1])
    return empty_TD.index_copy(0, _noted.pooled, rows_1RD[0]).view(batch, tokens, -1)
