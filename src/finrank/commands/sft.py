"""Stage 04: train the ranking model on rewarded pools."""

from __future__ import annotations

from pathlib import Path

from finrank.console import say
from finrank.training import sft
from finrank.training.config import load_config
from finrank.training.run import explain_out_of_memory


def run(
    config_path: Path,
    input_dir: Path,
    output_dir: Path,
    *,
    base_model: str | None = None,
    overrides: list[str] | None = None,
    candidate_only: bool = False,
    init_model: Path | None = None,
    quick_test: bool = False,
    resume: bool = False,
) -> Path:
    """Train with a config file and print where the model is; gives the stage directory.

    `candidate_only` hides question, page and labels: its accuracy is what the pools give away by themselves.
    `init_model` is a trained model to start from instead of fresh adapters and head.
    Raises UserError for faults in config, data or weights.
    """
    hidden = ["prompt.candidate_only=true"] if candidate_only else []
    config = load_config(config_path, [*(overrides or []), *hidden], base_model)
    with explain_out_of_memory():
        stage = sft.train(config, input_dir, output_dir, init_model=init_model, quick_test=quick_test, resume=resume)
    say(f"best model:  {stage / 'best_model'}")
    say(f"final model: {stage / 'final_model'}")
    say(f"manifest:    {stage / 'training_manifest.json'}")
    return stage
