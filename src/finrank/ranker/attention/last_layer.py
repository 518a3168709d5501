"""Hooks by which the last layer's feed-forward block computes the pooled tokens alone.

Nothing reads the prefix's last hidden states, nor, with `pooling: last`, those of any but one token per candidate. The
last layer needs keys and values of these tokens, but its feed-forward block, at least two thirds of a layer's products,
runs on pooled tokens only. The packed routes pass their indices, counted through the whole batch, as the keyword
argument `pooled`:

    tokens   p p p a a b        `pooled` with pooling mean: [3, 4, 5], with last: [4, 5]

Without `pooled` (route `naive`) the layer is unchanged.

Legend of shape suffixes: B rows of the batch, T tokens of a row, R pooled tokens of the whole batch, D width.
"""

from __future__ import annotations

import threading
from typing import Any

from torch import Tensor, nn


def compute_only_pooled(base: Any) -> None:
    """Put the hooks on a transformers base model, BERT or of Llama's kind.

    Rows of the last hidden state that are not in `pooled` are meaningless from then on.
    """
    if base.config.model_type == "bert":
        layer = base.encoder.layer[-1]
        layer.attention.register_forward_hook(_gather_attention, with_kwargs=True)
        layer.register_forward_hook(_scatter_layer, with_kwargs=True)
        return
    layer = base.layers[-1]
    # Inside the layer and not before it, so that recomputing a checkpoint notes `pooled` again.
    layer.self_attn.register_forward_pre_hook(_note, with_kwargs=True)
    layer.mlp.register_forward_pre_hook(_gather_block)
    layer.mlp.register_forward_hook(_scatter_block)


def _gather(hidden_BTD: Tensor, pooled_R: Tensor) -> Tensor:
    return hidden_BTD.flatten(0, 1)[pooled_R].unsqueeze(0)


def _scatter(rows_1RD: Tensor, pooled_R: Tensor, batch: int, tokens: int) -> Tensor:
    empty_TD = rows_1RD.new_zeros(batch * tokens, rows_1RD.shape[-1])
    return empty_TD.index_copy(0, pooled_R, rows_1RD[0]).view(batch, tokens, -1)


def _gather_attention(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    pooled_R = kwargs.get("pooled")
    return output if pooled_R is None else (_gather(output[0], pooled_R), *output[1:])


def _scatter_layer(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    pooled_R = kwargs.get("pooled")
    return output if pooled_R is None else _scatter(output, pooled_R, *args[0].shape[:2])


# Llama's feed-forward block takes no keyword arguments: the attention before it notes them, per thread.
_noted = threading.local()


def _note(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
    _noted.pooled = kwargs.get("pooled")


def _gather_block(_: nn.Module, args: tuple[Tensor]) -> Any:
    if _noted.pooled is None:
        return None
    _noted.rows = args[0].shape[:2]
    return (_gather(args[0], _noted.pooled),)


def _scatter_block(_: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output if _noted.pooled is None else _scatter(output, _noted.pooled, *_noted.rows)
