"""Base models: finding their weights, loading encoder and tokenizer, and saying what to do when they cannot be had."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from finrank.console import warn
from finrank.errors import UserError
from finrank.ranker.locate import locate as locate
from finrank.ranker.settings import RankerSettings
from finrank.store import sha256

# Families that number positions from their padding id on.
_COUNT_FROM_PADDING = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer"})


def pinned(settings: RankerSettings) -> RankerSettings:
    """The settings with the hash of the base weights where they are a local file, so that a saved model knows them."""
    weights = Path(locate(settings.base_model)) / "model.safetensors"
    if settings.base_model_sha256 or not weights.is_file():
        return settings
    return settings.model_copy(update={"base_model_sha256": sha256(weights)})


def multiplies_bfloat16() -> bool:
    """Whether the device multiplies bfloat16 itself; where it does not, emulation is far slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def load_tokenizer(place: str) -> Any:
    """The tokenizer in a folder or hub id; UserError with what to do when it cannot be had."""
    try:
        return AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise _unavailable(place, error) from error


def load_encoder(settings: RankerSettings) -> torch.nn.Module:
    """The base model without any head, frozen; UserError with what to do when its weights cannot be had."""
    encoder, _ = _load(settings, AutoModel)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # BERT's pooler reads the first token only; unused weights would get adapters
    return encoder


def load_causal_lm(settings: RankerSettings) -> Any:
    """The base model with its language modelling head, frozen; UserError when it cannot be had or has no such head."""
    model, missing = _load(settings, AutoModelForCausalLM)
    if missing or not is_causal(model):
        raise UserError(
            f"{settings.base_model} is no causal language model with a head that writes: generation needs one, such as "
            "that of --config configs/models/qwen3-0.6b.yaml"
        )
    return model


def _load(settings: RankerSettings, architecture: Any) -> tuple[Any, set[str]]:
    """The frozen base model as this class of transformers has it, and the names of weights that were not there."""
    place = locate(settings.base_model, settings.base_model_sha256)
    if settings.base_model_sha256 and not (Path(place) / "model.safetensors").is_file():
        warn(f"{settings.base_model} is no local model.safetensors: base_model_sha256 is not checked")
    options: dict[str, Any] = {"dtype": getattr(torch, settings.dtype), "attn_implementation": "sdpa"}
    if settings.dtype == "bfloat16" and not multiplies_bfloat16():
        warn(
            f"{settings.base_model} is wanted in bfloat16, which this machine emulates, slowly: for a new model, set "
            "dtype=float32 (a saved one keeps the precision that it was trained in)"
        )
    if settings.quantization == "4bit":
        options["quantization_config"] = _four_bit()
    try:
        with _no_progress_bar():
            base, info = architecture.from_pretrained(place, output_loading_info=True, **options)
    except (OSError, ValueError) as error:
        raise _unavailable(settings.base_model, error) from error
    for module in base.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # of a frozen base; adapters and head have their own (see docs/experiments.md)
        if getattr(module, "attention_dropout", 0.0):
            module.attention_dropout = 0.0
    return base.requires_grad_(False), set(info["missing_keys"])


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """transformers draws a bar of its own for the weights, in every command."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def positions(config: Any) -> int | None:
    """Tokens that fit into one row of this architecture; None where there is no limit."""
    most: int | None = getattr(config, "max_position_embeddings", None)
    if most is not None and config.model_type in _COUNT_FROM_PADDING:
        most -= config.pad_token_id + 1
    return most


def is_causal(encoder: torch.nn.Module) -> bool:
    """Whether a token of this architecture sees only what stands before it (transformers marks it on the attention)."""
    return any(getattr(module, "is_causal", False) for module in encoder.modules())


def _four_bit() -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("quantization: 4bit needs bitsandbytes: pip install 'finrank[quantization]'")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _unavailable(base_model: str, error: Exception) -> UserError:
    if base_model.startswith(("/", ".")):
        return UserError(f"{base_model} holds no model that can be loaded: {str(error).strip().splitlines()[0]}")
    reason = str(error).strip().splitlines()[0]
    return UserError(
        f"The weights of {base_model} cannot be had: {reason}\n"
        "Do one of these:\n"
        f"    accept its licence on https://huggingface.co/{base_model} and set the token: export HF_TOKEN=...\n"
        "    give a local copy: --base_model /path/to/folder\n"
        "    start with the model that runs anywhere: --config configs/models/minilm.yaml"
    )
