"""Saving and loading a proposer: every part or none, as `ranker/saving.py` does for rankers.

A model folder holds `proposer.safetensors` (all weights but the frozen word embeddings, which are the base model's),
the tokenizer's files, and `proposer_config.json`: settings, version of the text, sha256 of each part. The ready-made
model is stored in eight bits, a quarter of the size: each row of a matrix as whole numbers up to 127 and a scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save_file
from torch import Tensor

from finrank.errors import UserError
from finrank.proposer.network import ProposerNetwork
from finrank.ranker.base_model import check_finite
from finrank.ranker.saving import READY_MADE, TOKENIZER, check_fit, check_tokens, read_weights, read_whole
from finrank.ranker.settings import RankerSettings, name_base_of
from finrank.ranker.tokenizer import load_tokenizer
from finrank.store import sha256, write_json

PROPOSER_STAGE = "04_proposer"
PROPOSER_CONFIG = "proposer_config.json"
WEIGHTS = "proposer.safetensors"
TEXT_VERSION = 1  # of what the network reads and writes: raised when either changes
_SCALE = ".scale"
_PARTS = (WEIGHTS, *TOKENIZER)


class ProposerSettings(BaseModel):
    """What is stored with a proposer's weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_model: str = Field(description="a hub id, a local folder, or package:NAME/FOLDER inside an installed package")
    base_model_sha256: str | None = Field(default=None, description="pins the base model's model.safetensors")
    max_length: int = Field(default=384, ge=16, description="tokens of question and page")
    left_out_half: Literal[0, 1] | None = Field(
        default=None, description="the half of the train pages that it never saw; null: it saw all"
    )


@dataclass(frozen=True)
class LoadedProposer:
    """A network ready to propose, with its tokenizer and settings."""

    network: ProposerNetwork
    tokenizer: Any
    settings: ProposerSettings


def find_proposer(directory: Path) -> Path:
    """The model folder in a run, a stage directory or itself, or a ready-made one by name; UserError without one."""
    ready_made = {config.parent.name: config.parent for config in sorted(READY_MADE.glob(f"*/{PROPOSER_CONFIG}"))}
    if str(directory) in ready_made and not directory.exists():
        return ready_made[str(directory)]
    for folder in (directory, directory / "best_model", directory / PROPOSER_STAGE / "best_model"):
        if (folder / PROPOSER_CONFIG).is_file():
            return folder
    raise UserError(
        f"No proposer in {directory}: give a run (outputs/run_001), a stage directory (outputs/run_001/"
        f"{PROPOSER_STAGE}), a model folder with {PROPOSER_CONFIG}, or the name of a ready-made one "
        f"({', '.join(ready_made) or 'none here'}); train one with: finrank proposer --config proposer"
    )


def save_proposer(
    network: ProposerNetwork,
    tokenizer: Any,
    settings: ProposerSettings,
    directory: Path,
    *,
    eight_bit: bool = False,
) -> None:
    """Write every part into `directory`, made if missing, the config last."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in _trained(network).items()}
    save_file(_in_eight_bit(weights) if eight_bit else weights, directory / WEIGHTS)
    tokenizer.save_pretrained(directory)
    parts = {name: sha256(directory / name) for name in _PARTS}
    stored = settings.model_dump(mode="json")
    write_json(directory / PROPOSER_CONFIG, {**stored, "prompt_version": TEXT_VERSION, "parts": parts})


def load_proposer(directory: Path, base_model: str | None = None, device: str | None = None) -> LoadedProposer:
    """Load a saved proposer; UserError for a folder with a part missing, exchanged or of another base model."""
    directory = find_proposer(directory)
    settings = read_whole(directory, PROPOSER_CONFIG, _PARTS, TEXT_VERSION, ProposerSettings)
    pin = None if base_model else settings.base_model_sha256
    if base_model is None:
        name_base_of(directory, settings.base_model)
    tokenizer = load_tokenizer(str(directory))
    base = RankerSettings(base_model=base_model or settings.base_model, base_model_sha256=pin)
    network = ProposerNetwork.new(base)
    check_tokens(tokenizer, network.encoder, directory, base.base_model)
    load_weights(network, directory)
    network.requires_grad_(False)
    network.eval()
    network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return LoadedProposer(network, tokenizer, settings)


def load_weights(network: ProposerNetwork, directory: Path) -> None:
    """Replace the trained weights by those saved in `directory`; UserError unless each fits by name and shape."""
    saved = _from_eight_bit(read_weights(directory / WEIGHTS))
    check_fit(saved, _trained(network), directory / WEIGHTS)
    check_finite(saved, directory / WEIGHTS)  # again: a scale may be too large
    network.load_state_dict(saved, strict=False)  # the word embeddings alone are not among them


def _trained(network: ProposerNetwork) -> dict[str, Tensor]:
    """The weights but those that stay as the base model has them."""
    frozen = {
        name for name, value in network.named_parameters() if value is network.encoder.get_input_embeddings().weight
    }
    return {name: value for name, value in network.state_dict().items() if name not in frozen}


def _in_eight_bit(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8 with a scale per row; the rest unchanged."""
    stored = {}
    for name, value in weights.items():
        if value.ndim == 2:
            scale = value.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
            stored[name + _SCALE] = scale
            value = (value / scale).round().to(torch.int8)
        stored[name] = value
    return stored


def _from_eight_bit(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    scales = {name.removesuffix(_SCALE): stored.pop(name) for name in list(stored) if name.endswith(_SCALE)}
    return {name: value * scales[name] if name in scales else value for name, value in stored.items()}
