"""Stage 04, the earlier approach: train a model that writes answers instead of choosing them."""

from __future__ import annotations

from pathlib import Path

from finrank.console import say
from finrank.generator import sft
from finrank.training.config import load_config
from finrank.training.run import GENERATION_KEYS, explain_out_of_memory


def run(
    config_path: Path,
    input_dir: Path,
    output_dir: Path,
    *,
    base_model: str | None = None,
    overrides: list[str] | None = None,
    quick_test: bool = False,
    resume: bool = False,
) -> Path:
    """Train with a config file and print where the model is; gives the stage directory.

    Raises UserError for faults in config, data or weights.
    """
    config = load_config(config_path, overrides, base_model)
    with explain_out_of_memory(*GENERATION_KEYS):
        stage = sft.train(config, input_dir, output_dir, quick_test=quick_test, resume=resume)
    say(f"best model:  {stage / 'best_model'}")
    say(f"final model: {stage / 'final_model'}")
    say(f"manifest:    {stage / 'training_manifest.json'}")
    return stage
