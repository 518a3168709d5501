"""LoRA adapters (Hu et al. 2021, https://arxiv.org/abs/2106.09685) on a frozen base, with little memory traffic.

    y = W x + s B A x        W [out, in] is frozen, A [rank, in] and B [out, rank] are trained, s = alpha / rank

peft makes, stores and merges the adapters. Its forward writes B A x, that times s, and the sum as a tensor each, all as
large as y; where the adapters are float32 on a bfloat16 base it also copies x in float32, and keeps a copy for the
gradient of A. Products with so few columns are few operations: what costs is reading and writing. Here B A x is added
into W x where that lies.
"""

from __future__ import annotations

import warnings
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners import lora
from torch import Tensor, nn
from torch.nn.functional import linear

from finrank.ranker.settings import LoraSettings


class AddingLinear(lora.Linear):
    """peft's adapter on a linear layer; what its product gives is added in place.

    The adapters are rounded to the dtype of the layer's output where that is lower, as autocast rounds them.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[..., in] to [..., out]."""
        if args or kwargs or self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return super().forward(x, *args, **kwargs)
        (name,) = self.active_adapters
        rows = x.flatten(0, -2)  # added in place, a view would cost a copy of its gradient
        sum_TO = self.base_layer(rows)
        dtype = sum_TO.dtype  # under autocast not that of the rows
        small_TR = linear(self.lora_dropout[name](rows).to(dtype), self.lora_A[name].weight.to(dtype))
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
    # Quantized layers are subclasses, with a forward of peft's for each kind.
    if all(type(layer) is nn.Linear for layer in base.modules() if isinstance(layer, nn.Linear)):
        config._register_custom_module({nn.Linear: AddingLinear})
    with warnings.catch_warnings():
        # peft 0.21 reads an attribute that transformers 5.23 renamed; delete this when peft has followed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(base, config)
