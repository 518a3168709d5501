"""LoRA adapters (Hu et al. 2021, https://arxiv.org/abs/2106.09685) on a frozen base, with little memory traffic.

    y = W x + s B A x        W [out, in] is frozen, A [rank, in] and B [out, rank] are trained, s = alpha / rank

peft makes, stores and merges the adapters. Its forward writes B A x, that times s, and the sum as a tensor each, all as
large as y; where the adapters are float32 on a bfloat16 base it also copies x in float32, which the gradient of A then
keeps. Products with so few columns cost nothing beside those. Here B A x is added into W x where that lies.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners import lora
from torch import Tensor, nn
from torch.nn.functional import linear

from finrank.ranker.settings import LoraSettings


class AddingLinear(lora.Linear):
    """peft's adapter on a linear layer; what its product gives is added in place.

    Without autocast the adapters are rounded to the dtype of a bfloat16 base, as autocast rounds them in training.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[..., in] to [..., out]."""
        if self.disable_adapters or self.merged:
            return super().forward(x, *args, **kwargs)
        (name,) = self.active_adapters
        rows = x.flatten(0, -2)  # added in place, a view would cost a copy of its gradient
        sum_TO = self.base_layer(rows)
        dtype = sum_TO.dtype  # under autocast not that of the rows
        small_TR = linear(self.lora_dropout[name](rows).to(dtype), self.lora_A[name].weight.to(dtype))
        with torch.autocast(x.device.type, enabled=False):  # which has no rule for products in place
            sum_TO.addmm_(small_TR, self.lora_B[name].weight.to(dtype).t(), alpha=self.scaling[name])
        return sum_TO.view(*x.shape[:-1], sum_TO.shape[-1])


def with_adapters(base: nn.Module, settings: LoraSettings, task_type: str) -> PeftModel:
    """The base model with fresh adapters, which alone have gradients; the caller seeds torch.

    `task_type` is peft's ("FEATURE_EXTRACTION", "CAUSAL_LM"). A quantized base keeps peft's own forward.
    """
    config = LoraConfig(
        task_type=task_type,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
    )
    if getattr(base, "quantization_method", None) is None:
        config._register_custom_module({nn.Linear: AddingLinear})
    with warnings.catch_warnings():
        # peft 0.21 reads an attribute that transformers 5.23 renamed; delete this when peft has followed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(base, config)
