"""The commands that train a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finrank.commands.options import (
    OUTPUTS,
    REWARDED,
    BaseModel,
    Config,
    InputDir,
    OutputDir,
    Overrides,
    QuickTest,
    Resume,
)


def sft(
    config: Config,
    input_dir: InputDir = REWARDED,
    output_dir: OutputDir = OUTPUTS,
    base_model: BaseModel = None,
    overrides: Overrides = None,
    candidate_only: Annotated[
        bool,
        typer.Option("--candidate_only", help="Hide question, page and labels: measures what pools give away."),
    ] = False,
    init_model: Annotated[
        Path | None,
        typer.Option("--init_model", help="Start from this trained model's adapters and head (same base and LoRA)."),
    ] = None,
    quick_test: QuickTest = False,
    resume: Resume = False,
) -> None:
    """Stage 04: train the ranking model.

    Writes OUTPUT_DIR/run_NNN/04_sft with best_model, final_model and training_manifest.json; NNN counts up. The model
    is measured on selection while it trains and on dev at the end.

    \b
    Example:
      finrank sft --config configs/models/minilm.yaml --quick_test
      finrank sft --config configs/models/minilm.yaml --set batch_size=2 --set trainer.num_train_epochs=1
    """
    from finrank.commands import sft as stage

    stage.run(
        config,
        input_dir,
        output_dir,
        base_model=base_model,
        overrides=overrides,
        candidate_only=candidate_only,
        init_model=init_model,
        quick_test=quick_test,
        resume=resume,
    )


def ppo(
    config: Config,
    input_dir: InputDir = REWARDED,
    output_dir: OutputDir = OUTPUTS,
    sft_model: Annotated[
        Path | None,
        typer.Option(
            "--sft_model",
            help="The model to begin with: a run, a stage directory or a model folder (default: the newest run of "
            "OUTPUT_DIR that trained this config's model).",
        ),
    ] = None,
    base_model: BaseModel = None,
    overrides: Overrides = None,
    quick_test: QuickTest = False,
    resume: Resume = False,
) -> None:
    """Stage 05: reinforcement learning from stage 04's model.

    PPO over the candidates of each pool: the policy is the softmax of their scores.

    Writes 05_ppo with best_model, final_model and training_manifest.json beside 04_sft in the run of the SFT model.
    The section ppo of the config says how: docs/ppo.md, docs/configuration.md.

    \b
    Example:
      finrank ppo --config configs/models/minilm.yaml
      finrank ppo --config configs/models/minilm.yaml --set ppo.estimator=sampled --set ppo.kl_coefficient=0.1
    """
    from finrank.commands import ppo as stage

    stage.run(
        config,
        input_dir,
        output_dir,
        sft_model=sft_model,
        base_model=base_model,
        overrides=overrides,
        quick_test=quick_test,
        resume=resume,
    )


def generation(
    config: Config,
    input_dir: InputDir = REWARDED,
    output_dir: OutputDir = OUTPUTS,
    base_model: BaseModel = None,
    overrides: Overrides = None,
    quick_test: QuickTest = False,
    resume: Resume = False,
) -> None:
    """The baseline: train a model that writes the answer.

    Takes the configs of causal models (Llama, Qwen, ...) and the questions and gold programs of stage 03's output.
    Writes OUTPUT_DIR/run_NNN/04_sft_generation with best_model, final_model and training_manifest.json. The model is
    measured on selection while it trains and on dev at the end: perplexity, parse rate, execution rate, accuracy and
    reward of what it writes.

    \b
    Example:
      finrank generation --config configs/models/qwen3-0.6b.yaml --quick_test
      finrank generation --config configs/models/llama-3-8b.yaml --set generation.evaluation_questions=100
    """
    from finrank.commands import generation as stage

    stage.run(
        config,
        input_dir,
        output_dir,
        base_model=base_model,
        overrides=overrides,
        quick_test=quick_test,
        resume=resume,
    )
