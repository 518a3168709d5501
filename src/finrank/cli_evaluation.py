"""The commands that measure: models, predictions of other systems, and pools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finrank.commands.options import (
    MINILM,
    REWARDED,
    BaseModel,
    Control,
    EvaluationSeed,
    FiguresJson,
    RewardedPools,
    SaveConfidence,
    Split,
    WantedAccuracy,
)


def evaluate(
    model: Annotated[
        Path, typer.Option("--model", help="A run (outputs/run_001), a stage directory or a model folder.")
    ],
    data: RewardedPools = REWARDED,
    split: Split = "dev",
    json_path: FiguresJson = None,
    candidate_only: Control = None,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="A second model, compared on the same pools by a paired test.")
    ] = None,
    html_path: Annotated[
        Path | None, typer.Option("--html", help="Write the report as one HTML file, to this path.")
    ] = None,
    predictions_out: Annotated[
        Path | None,
        typer.Option(
            "--predictions_out",
            help="Write the picked programs as the official FinQA evaluator reads them, to this file.",
        ),
    ] = None,
    wanted_accuracy: WantedAccuracy = 0.9,
    save_confidence: SaveConfidence = True,
    base_model: BaseModel = None,
    seed: EvaluationSeed = 0,
) -> None:
    """Evaluate a trained model beside its baselines.

    Prints accuracy, reward ratio and average reward with 95 % intervals, biases, breakdowns, the surest mistakes, and
    what is wrong in plain words. On dev and selection it also writes confidence.json (temperature, threshold) and the
    model card into the model folder.

    \b
    Example:
      finrank evaluate --model outputs/run_001 --split dev --json dev.json --html dev.html
    """
    from finrank.commands import evaluate as stage

    stage.run(
        model,
        data,
        split=split,
        json_path=json_path,
        html_path=html_path,
        predictions_path=predictions_out,
        candidate_only_dir=candidate_only,
        compare_dir=compare,
        wanted_accuracy=wanted_accuracy,
        save_confidence=save_confidence,
        base_model=base_model,
        seed=seed,
    )


def report(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="A run (outputs/run_001), a stage directory or a model folder.")
    ],
    data: RewardedPools = REWARDED,
    split: Split = "dev",
    html_path: Annotated[
        Path | None, typer.Option("--html", help="File to write (default: report.html in the run).")
    ] = None,
    json_path: FiguresJson = None,
    candidate_only: Control = None,
    wanted_accuracy: WantedAccuracy = 0.9,
    save_confidence: SaveConfidence = True,
    base_model: BaseModel = None,
    seed: EvaluationSeed = 0,
) -> None:
    """Evaluate a model; write an HTML report and model card.

    The same as evaluate with --html report.html in the run's folder.

    \b
    Example:
      finrank report outputs/run_001
    """
    from finrank.commands import report as stage

    stage.run(
        run_dir,
        data,
        split=split,
        html_path=html_path,
        json_path=json_path,
        candidate_only_dir=candidate_only,
        wanted_accuracy=wanted_accuracy,
        save_confidence=save_confidence,
        base_model=base_model,
        seed=seed,
    )


def audit(
    input_dir: Annotated[
        Path, typer.Option("--input_dir", help="Pools with rewards or without (output of stage 02 or 03).")
    ] = REWARDED,
    split: Split = "dev",
    json_path: FiguresJson = None,
    candidate_only: Annotated[
        str,
        typer.Option(
            "--candidate_only",
            help="train: train a model that sees neither question nor page for an epoch (minutes); skip; or the "
            "folder of one trained before.",
        ),
    ] = "train",
    config: Annotated[
        Path, typer.Option("--config", help="Training config of that model (--candidate_only train).")
    ] = MINILM,
    seed: Annotated[int, typer.Option("--seed", help="Seed of folds, training and bootstrap.")] = 0,
) -> None:
    """What pools give away to attackers that cannot read.

    Prints how often attackers that see neither question nor page find the gold program, and the cues they use.

    \b
    Example:
      finrank audit --input_dir datasets/finqa_with_rewards --split dev --candidate_only skip
    """
    from finrank.commands import audit as stage

    stage.run(
        input_dir,
        split=split,
        json_path=json_path,
        candidate_only=candidate_only,
        config_path=config,
        seed=seed,
    )
