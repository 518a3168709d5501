"""`finrank proposer`: train the first stage, which proposes candidates from question and page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finrank.commands import options


def proposer(
    config: Annotated[
        Path, typer.Option("--config", help="Training config: proposer, the shipped one, or a YAML file.")
    ] = Path("proposer"),
    input_dir: options.InputDir = options.REWARDED,
    output_dir: options.OutputDir = options.OUTPUTS,
    *,
    base_model: options.BaseModel = None,
    overrides: options.Overrides = None,
    quick_test: options.QuickTest = False,
    resume: options.Resume = False,
) -> Path:
    """Train the first stage, which proposes candidates.

    Takes the questions and gold programs of stage 03's output. Writes OUTPUT_DIR/run_NNN/04_proposer with best_model,
    final_model and training_manifest.json; `finrank propose` and `finrank solve` use it. To propose for train
    questions too, train two, each on one half of the pages (proposer.left_out_half=0 and =1).

    \b
    Example:
      finrank proposer
      finrank proposer --set proposer.left_out_half=0
    """
    from finrank.proposer.proposer_training import PROPOSING
    from finrank.training.config import load_config
    from finrank.training.loop import train
    from finrank.training.run import Run

    settings = load_config(config, overrides, base_model)
    return train(PROPOSING, Run(settings, input_dir, output_dir, quick_test=quick_test, resume=resume))
