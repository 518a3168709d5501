"""The last layer's feed-forward block computes what is pooled and no more.

Nobody pools the prefix, nor, with `pooling: last`, any but one token of a candidate. Of those tokens the last layer
needs keys and values; its feed-forward block, two thirds of a layer's products and more, runs on the pooled ones alone.

    tokens   p p p a a b        `pooled` with pooling mean: [3, 4, 5], with last: [4, 5]

The packed routes hand the places of the pooled tokens through the model as a keyword argument, `pooled`, which hooks on
the last layer read. Without it (the route `naive`) the layer is as it was.

Legend of shape suffixes: B rows of the batch, T tokens of a row, R pooled tokens of the whole batch, D width.
"""

from __future__ import annotations

import threading
from typing import Any

from torch import Tensor, nn


def compute_only_pooled(base: Any) -> None:
    """Put the hooks on a transformers base model, BERT or of Llama's kind; layers stay as they are.

    Rows of the last hidden state that are not in `pooled` then mean nothing.
    """
    if base.config.model_type == "bert":
        layer = base.encoder.layer[-1]
        layer.attention.register_forward_hook(_gather_attention, with_kwargs=True)
        layer.register_forward_hook(_scatter_layer, with_kwargs=True)
        return
    layer = base.layers[-1]
    # Noted inside the layer, and not before it, so that recomputing a checkpoint notes it too.
    layer.self_attn.register_forward_pre_hook(_note, with_kwargs=True)
    layer.mlp.register_forward_pre_hook(_gather_block)
    layer.mlp.register_forward_hook(_scatter_block)


def gather(hidden_BTD: Tensor, pooled: Tensor) -> Tensor:
    """The pooled rows, [1, pooled tokens, width]; places count through the whole batch."""
    return hidden_BTD.flatten(0, 1)[pooled].unsqueeze(0)


def scatter(rows_1RD: Tensor, pooled: Tensor, batch: int, tokens: int) -> Tensor:
    """The rows at their places among zeros, [batch, tokens, width]."""
    empty_TD = rows_1RD.new_zeros(batch * tokens, rows_1RD.shape[-1])
    return empty_TD.index_copy(0, pooled, rows_1RD[0]).view(batch, tokens, -1)


def _gather_attention(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    pooled = kwargs.get("pooled")
    return output if pooled is None else (gather(output[0], pooled), *output[1:])


def _scatter_layer(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    pooled = kwargs.get("pooled")
    return output if pooled is None else scatter(output, pooled, *args[0].shape[:2])


# A block whose residual goes around it takes no keyword arguments: the attention just before notes them, per thread.
_noted = threading.local()


def _note(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
    _noted.pooled = kwargs.get("pooled")


def _gather_block(_: nn.Module, args: tuple[Tensor]) -> Any:
    if _noted.pooled is None:
        return None
    _noted.rows = args[0].shape[:2]
    return (gather(args[0], _noted.pooled),)


def _scatter_block(_: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output if _noted.pooled is None else scatter(output, _noted.pooled, *_noted.rows)
