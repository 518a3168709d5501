"""The last layer computes what is pooled and no more.

Nobody pools the prefix, nor, with `pooling: last`, any but one token of a candidate. Of those tokens the last layer
needs keys and values; its feed-forward block, two thirds of a layer's products and more, runs on the pooled ones alone.

    tokens   p p p a a b        `pooled` with pooling mean: [3, 4, 5], with last: [4, 5]

The packed routes hand the places of the pooled tokens through the model as a keyword argument, `pooled`, which hooks on
the last layer read. Without it (the route `naive`) the layer is as it was.
"""

from __future__ import annotations

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
    block = _Block()
    # Noted inside the layer, and not before it, so that recomputing a checkpoint notes it too.
    layer.self_attn.register_forward_pre_hook(block.note, with_kwargs=True)
    layer.mlp.register_forward_pre_hook(block.gather)
    layer.mlp.register_forward_hook(block.scatter)


def gather(hidden_BTD: Tensor, pooled: Tensor) -> Tensor:
    """The pooled rows, [1, pooled tokens, width]; places count through the whole batch."""
    return hidden_BTD.flatten(0, 1)[pooled].unsqueeze(0)


def scatter(rows_1PD: Tensor, pooled: Tensor, batch: int, tokens: int) -> Tensor:
    """The rows at their places among zeros, [batch, tokens, width]."""
    empty_SD = rows_1PD.new_zeros(batch * tokens, rows_1PD.shape[-1])
    return empty_SD.index_copy(0, pooled, rows_1PD[0]).view(batch, tokens, -1)


def _gather_attention(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    pooled = kwargs.get("pooled")
    return output if pooled is None else (gather(output[0], pooled), *output[1:])


def _scatter_layer(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    pooled = kwargs.get("pooled")
    return output if pooled is None else scatter(output, pooled, *args[0].shape[:2])


class _Block:
    """The feed-forward block of a layer whose residual goes around it: pooled rows in, zeros elsewhere out."""

    def __init__(self) -> None:
        self.pooled: Tensor | None = None
        self.rows = (0, 0)

    def note(self, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self.pooled = kwargs.get("pooled")

    def gather(self, _: nn.Module, args: tuple[Tensor]) -> Any:
        if self.pooled is None:
            return None
        self.rows = (args[0].shape[0], args[0].shape[1])
        return (gather(args[0], self.pooled),)

    def scatter(self, _: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output if self.pooled is None else scatter(output, self.pooled, *self.rows)
