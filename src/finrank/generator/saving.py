"""Saving and loading a generator: every part or none, as `ranker/saving.py` does for rankers.

A model directory holds adapter and tokenizer files, and `generator_config.json`: settings (with the name of the frozen
base, and the hash of its weights if they are one local file), prompt version, sha256 of each part.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel

from finrank.errors import UserError
from finrank.generator.settings import GeneratorSettings
from finrank.generator.text import PROMPT_VERSION
from finrank.ranker.saving import ADAPTER, TOKENIZER, read_whole, save_adapter
from finrank.store import sha256, write_json

STAGE = "04_sft_generation"
CONFIG = "generator_config.json"
_PARTS = (*ADAPTER, *TOKENIZER)


def save_generator(model: PeftModel, tokenizer: Any, settings: GeneratorSettings, directory: Path) -> None:
    """Write every part of the generator into `directory`, the config with the parts' hashes last."""
    save_adapter(model, directory)
    tokenizer.save_pretrained(directory)
    parts = {name: sha256(directory / name) for name in _PARTS}
    stored = settings.model_dump(mode="json")
    write_json(directory / CONFIG, {**stored, "prompt_version": PROMPT_VERSION, "parts": parts})


def find_generator(directory: Path) -> Path:
    """The model folder in a run, a stage directory or itself; UserError when there is none."""
    for folder in (directory, directory / "best_model", directory / STAGE / "best_model"):
        if (folder / CONFIG).is_file():
            return folder
    raise UserError(
        f"No generator in {directory}: name a run (outputs/run_001), a stage directory "
        f"(outputs/run_001/{STAGE}) or a model folder with {CONFIG}; train one with: "
        "python 04_sft_train_generation.py --config configs/models/qwen3-0.6b.yaml"
    )


def read_settings(directory: Path) -> GeneratorSettings:
    """The settings of a saved generator, after checking that all of its parts are there and belong together."""
    return read_whole(directory, CONFIG, _PARTS, PROMPT_VERSION, GeneratorSettings)
