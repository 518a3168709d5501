"""Stage 04: train the ranking model on rewarded pools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finrank.commands import options


def sft(
    config: options.Config,
    input_dir: options.InputDir = options.REWARDED,
    output_dir: options.OutputDir = options.OUTPUTS,
    *,
    base_model: options.BaseModel = None,
    overrides: options.Overrides = None,
    candidate_only: Annotated[
        bool,
        typer.Option("--candidate_only", help="Hide question, page and labels: measures what pools give away."),
    ] = False,
    init_model: Annotated[
        Path | None,
        typer.Option("--init_model", help="Start from this trained model's adapters and head (same base and LoRA)."),
    ] = None,
    quick_test: options.QuickTest = False,
    resume: options.Resume = False,
) -> Path:
    """Stage 04: train the ranking model.

    Writes OUTPUT_DIR/run_NNN/04_sft with best_model, final_model and training_manifest.json; NNN counts up. The model
    is measured on selection while it trains and on dev at the end.

    \b
    Example:
      finrank sft --config configs/models/minilm.yaml --quick_test
      finrank sft --config configs/models/minilm.yaml --set batch_size=2 --set trainer.num_train_epochs=1
    """
    from finrank.training.config import load_config
    from finrank.training.loop import train
    from finrank.training.run import Run
    from finrank.training.sft import SFT

    hidden = ["prompt.candidate_only=true"] if candidate_only else []
    settings = load_config(config, [*(overrides or []), *hidden], base_model)
    return train(SFT, Run(settings, input_dir, output_dir, init_model, quick_test=quick_test, resume=resume))
