"""Base models: loading their weights, frozen, and the LoRA adapters that are trained on them.

LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685):

    y = W x + s B A x        W [out, in] is frozen, A [rank, in] and B [out, rank] are trained, s = alpha / rank

peft makes, stores and merges the adapters. Its forward writes B A x, that times s, and the sum as tensors as large as
y, and copies x in float32 where the base is bfloat16. Reading and writing costs most in products with so few columns,
so `AddingLinear` adds B A x into W x in place, and `AddedProduct` the two gradients of x.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners import lora
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import linear
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig
from transformers.utils import find_adapter_config_file
from transformers.utils import logging as transformers_logging

from finrank.console import warn
from finrank.errors import UserError, is_out_of_memory
from finrank.ranker.settings import LoraSettings, RankerSettings, locate, weights_file
from finrank.ranker.tokenizer import unavailable
from finrank.store import sha256

# Families that number positions from their padding id on.
_COUNT_FROM_PADDING = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer"})


def pinned(settings: RankerSettings) -> RankerSettings:
    """The settings with the sha256 of the base weights where they are a local file."""
    weights = weights_file(settings.base_model)
    if settings.base_model_sha256 or not weights.is_file():
        return settings
    return settings.model_copy(update={"base_model_sha256": sha256(weights)})


def multiplies_bfloat16() -> bool:
    """True if the device multiplies bfloat16 natively; emulation is far slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def load_encoder(settings: RankerSettings) -> torch.nn.Module:
    """The frozen base model without a head; UserError with what to do when its weights are unavailable."""
    encoder, _ = _load(settings, AutoModel)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # BERT's pooler reads the first token only; unused weights would get adapters
    return encoder


def linear_score(encoder: Any, settings: RankerSettings) -> Tensor | None:
    """The weights [1, width] of the linear head of a base model that is a causal cross-encoder; None of any other."""
    names = encoder.config.architectures or []
    if not any(name.endswith("ForSequenceClassification") for name in names):
        return None
    classifier, missing = _load(settings, AutoModelForSequenceClassification)
    score = getattr(classifier, "score", None)
    if isinstance(score, nn.Linear) and score.bias is None and score.out_features == 1 and not missing:
        return score.weight
    return None


def load_causal_lm(settings: RankerSettings) -> Any:
    """The frozen base model with its language modelling head; UserError when one of them is unavailable."""
    model, missing = _load(settings, AutoModelForCausalLM)
    if missing or not is_causal(model):
        raise UserError(
            f"{settings.base_model} is not a causal language model with a head that writes: generation needs one, such "
            "as that of --config configs/models/qwen3-0.6b.yaml"
        )
    return model


def _load(settings: RankerSettings, architecture: Any) -> tuple[Any, set[str]]:
    """The frozen base model as this class of transformers, and the names of weights that were missing."""
    location = locate(settings.base_model, settings.base_model_sha256)
    if settings.base_model_sha256 and not weights_file(settings.base_model).is_file():
        warn(f"{settings.base_model} is not a local model.safetensors: base_model_sha256 is not checked")
    options: dict[str, Any] = {"dtype": getattr(torch, settings.dtype), "attn_implementation": "sdpa"}
    if settings.dtype == "bfloat16" and not multiplies_bfloat16():
        warn(
            f"{settings.base_model} is wanted in bfloat16, which this machine emulates, slowly: for a new model, set "
            "dtype=float32 (a saved one keeps the precision that it was trained in)"
        )
    if settings.quantization == "4bit":
        if importlib.util.find_spec("bitsandbytes") is None:
            raise UserError("quantization: 4bit needs bitsandbytes: pip install 'finrank[quantization]'")
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # for the weights, in every command
    try:
        if find_adapter_config_file(location) is not None:  # whose base transformers would fetch, whatever it is
            raise ValueError("it is an adapter, not a base model: name the one it is for")
        base, info = architecture.from_pretrained(
            # No pickle, even where transformers would unpickle with care.
            location,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
            **options,
        )
    except Exception as error:  # whatever a damaged file makes of its reader
        if is_out_of_memory(error):
            raise
        if "file named model.safetensors" in str(error):
            error = OSError("it has no model.safetensors, and weights in pickles are not read: convert them")
        raise unavailable(settings.base_model, error) from error
    finally:
        if bar:
            transformers_logging.enable_progress_bar()
    check_finite(base.state_dict(), settings.base_model)
    base.name_or_path = settings.base_model  # which peft stores with the adapter: a path here would mean nothing there
    for module in base.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # of a frozen base; adapters and head have their own (see docs/experiments.md)
        if getattr(module, "attention_dropout", 0.0):
            module.attention_dropout = 0.0
    return base.requires_grad_(False), set(info["missing_keys"])


def layers_of(encoder: nn.Module) -> nn.ModuleList:
    """The layers of a base model, wrapped by peft or not."""
    return max((module for module in encoder.modules() if isinstance(module, nn.ModuleList)), key=len)


@contextmanager
def first_and_last_layer(encoder: nn.Module) -> Iterator[None]:
    """Inside, the encoder has only these two of its layers."""
    layers = layers_of(encoder)
    every = list(layers)
    del layers[1:-1]
    try:
        yield
    finally:
        del layers[1:]
        layers.extend(every[1:])


def shard_layers(encoder: PeftModel, device: torch.device) -> None:
    """Keep this process's part alone of the frozen weights, on its device (FSDP2); adapters stay whole.

    A layer's weights are gathered from all processes when it is called, and dropped after it: all processes must run
    the encoder equally often.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in [*layers_of(encoder), encoder]:
        trained = {value for value in module.parameters() if value.requires_grad}
        fully_shard(module, mesh=mesh, ignored_params=trained, reshard_after_forward=True)


def check_finite(tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """UserError where a tensor holds a number that is not finite: every score could be nan."""
    for name, value in tensors.items():
        if value.is_floating_point() and value.numel() and not torch.stack(torch.aminmax(value)).isfinite().all():
            raise UserError(f"{source} is damaged: {name} holds numbers that are not finite")


def check_positions(config: Any, settings: RankerSettings) -> None:
    """UserError if prompt.max_length is over the positions of an architecture (a transformers config)."""
    limit: int | None = getattr(config, "max_position_embeddings", None)
    if limit is not None and config.model_type in _COUNT_FROM_PADDING:
        limit -= config.pad_token_id + 1
    if limit is not None and settings.prompt.max_length > limit:
        raise UserError(
            f"prompt.max_length {settings.prompt.max_length} is over the {limit} positions of {settings.base_model}: "
            "lower it in the config"
        )


def is_causal(encoder: torch.nn.Module) -> bool:
    """True if a token of this architecture sees only tokens before it (transformers marks it on the attention)."""
    return any(getattr(module, "is_causal", False) for module in encoder.modules())


class AddingLinear(lora.Linear):
    """peft's adapter on a linear layer, with its product added in place, in the dtype of the layer's output."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[..., in] to [..., out]."""
        if args or kwargs or self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return super().forward(x, *args, **kwargs)
        (name,) = self.active_adapters
        rows = x.flatten(0, -2)  # added in place, a view would cost a copy of its gradient
        dropout, a_RI, b_OR = self.lora_dropout[name], self.lora_A[name].weight, self.lora_B[name].weight
        if self.training and getattr(dropout, "p", 0.0):
            sum_TO = self.base_layer(rows)
            dtype = sum_TO.dtype  # under autocast not that of the rows
            small_TR = linear(dropout(rows).to(dtype), a_RI.to(dtype))
            sum_TO.addmm_(small_TR, b_OR.to(dtype).t(), alpha=self.scaling[name])
        else:
            sum_TO = AddedProduct.apply(rows, self.base_layer, a_RI, b_OR, self.scaling[name])
        return sum_TO.view(*x.shape[:-1], sum_TO.shape[-1])


class AddedProduct(torch.autograd.Function):
    """A frozen layer and its adapter, W x + bias + s B A x, with gradients in as few passes over memory as they need.

    autograd would multiply the gradients of B and of A x by s in passes of their own, and add up those of x in another.
    """

    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, base: nn.Linear, a_RI: Tensor, b_OR: Tensor, scaling: float) -> Tensor:
        """[tokens, in] to [tokens, out]."""
        sum_TO: Tensor = base(x_TI)
        dtype = sum_TO.dtype  # under autocast not that of the rows
        x, weight, a, b = (value.to(dtype) for value in (x_TI, base.weight, a_RI, b_OR))
        small_TR = linear(x, a)
        ctx.save_for_backward(x, weight, a, b, small_TR)
        ctx.scaling = scaling
        ctx.dtypes = x_TI.dtype, a_RI.dtype, b_OR.dtype
        return sum_TO.addmm_(small_TR, b.t(), alpha=scaling)

    @staticmethod
    def backward(ctx: Any, grad_TO: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b, small_TR = ctx.saved_tensors
        of_x, of_a, of_b = ctx.dtypes
        # beta=0: the new tensors are written, not read.
        small_grad_TR = torch.empty_like(small_TR).addmm_(grad_TO, b, beta=0, alpha=ctx.scaling)
        b_grad_OR = torch.empty_like(b).addmm_(grad_TO.t(), small_TR, beta=0, alpha=ctx.scaling)
        x_grad = (grad_TO @ weight).addmm_(small_grad_TR, a).to(of_x) if ctx.needs_input_grad[0] else None
        return x_grad, None, (small_grad_TR.t() @ x).to(of_a), b_grad_OR.to(of_b), None


def with_adapters(base: nn.Module, settings: LoraSettings, task_type: str) -> PeftModel:
    """The base model with fresh adapters, which alone are trained; `task_type` is peft's. The caller seeds torch."""
    config = LoraConfig(
        task_type=task_type,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
    )
    # Quantized layers are subclasses, for each of which peft has its own forward.
    if all(type(layer) is nn.Linear for layer in base.modules() if isinstance(layer, nn.Linear)):
        config._register_custom_module({nn.Linear: AddingLinear})
    with warnings.catch_warnings():
        # peft 0.21 reads an attribute that transformers 5.23 renamed; delete this when peft has followed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        try:
            model = get_peft_model(base, config)
        except ValueError as error:
            raise UserError(f"lora: {str(error).strip().splitlines()[0]}") from error
    # peft keeps names in a set, whose order would differ between two saved copies of a model.
    model.peft_config["default"].target_modules = sorted(model.peft_config["default"].target_modules)
    return model
