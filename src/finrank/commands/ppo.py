"""Stage 05: reinforcement learning from the SFT model on rewarded pools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finrank.commands import options


def ppo(
    config: options.Config,
    input_dir: options.InputDir = options.REWARDED,
    output_dir: options.OutputDir = options.OUTPUTS,
    *,
    sft_model: Annotated[
        Path | None,
        typer.Option(
            "--sft_model",
            help="The model to begin with: a run, a stage directory or a model folder (default: the newest run of "
            "OUTPUT_DIR that trained this config's model).",
        ),
    ] = None,
    base_model: options.BaseModel = None,
    overrides: options.Overrides = None,
    quick_test: options.QuickTest = False,
    resume: options.Resume = False,
) -> Path:
    """Stage 05: reinforcement learning from stage 04's model.

    PPO over the candidates of each pool: the policy is the softmax of their scores.

    Writes 05_ppo with best_model, final_model and training_manifest.json into the run of the SFT model, next to 04_sft.
    The section ppo of the config says how: docs/ppo.md, docs/configuration.md.

    \b
    Example:
      finrank ppo --config configs/models/minilm.yaml
      finrank ppo --config configs/models/minilm.yaml --set ppo.estimator=sampled --set ppo.kl_coefficient=0.1
    """
    from finrank.training.config import load_config
    from finrank.training.loop import train
    from finrank.training.ppo.ppo import PPO
    from finrank.training.run import Run

    settings = load_config(config, overrides)
    return train(PPO, Run(settings, input_dir, output_dir, sft_model, base_model, quick_test, resume))
