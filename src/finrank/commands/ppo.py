"""Stage 05: reinforcement learning from the SFT model on rewarded pools."""

from __future__ import annotations

from pathlib import Path

from finrank.console import say
from finrank.training.config import load_config
from finrank.training.ppo import ppo
from finrank.training.run import STAGE_05_KEYS, explain_out_of_memory


def run(
    config_path: Path,
    input_dir: Path,
    output_dir: Path,
    *,
    sft_model: Path | None = None,
    base_model: str | None = None,
    overrides: list[str] | None = None,
    quick_test: bool = False,
    resume: bool = False,
) -> Path:
    """Train with a config file and print where the model is; gives the stage directory.

    Raises UserError for faults in config, data or weights, and where there is no SFT model to begin with.
    """
    config = load_config(config_path, overrides)
    with explain_out_of_memory(*STAGE_05_KEYS):
        stage = ppo.train(
            config,
            input_dir,
            output_dir,
            sft_model=sft_model,
            base_model=base_model,
            quick_test=quick_test,
            resume=resume,
        )
    say(f"best model:  {stage / 'best_model'}")
    say(f"final model: {stage / 'final_model'}")
    say(f"manifest:    {stage / 'training_manifest.json'}")
    return stage
