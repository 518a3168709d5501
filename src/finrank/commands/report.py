"""`finrank report`: an evaluation as an HTML report and a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finrank.commands import options
from finrank.commands.evaluate import evaluate

RunDir = Annotated[
    Path,
    typer.Argument(
        metavar="RUN_DIR",
        help="A run (outputs/run_001), a stage directory, a model folder, or finqa-minilm, the ready-made model.",
    ),
]
Html = Annotated[
    Path | None,
    typer.Option("--html", help="File to write (default: report.html in the run; of a ready-made model, here)."),
]


def report(
    run_dir: RunDir,
    data: options.RewardedPools = options.REWARDED,
    *,
    split: options.Split = "dev",
    html_path: Html = None,
    json_path: options.FiguresJson = None,
    candidate_only: options.Control = None,
    wanted_accuracy: options.WantedAccuracy = 0.9,
    save_confidence: options.SaveConfidence = True,
    base_model: options.BaseModel = None,
    seed: options.EvaluationSeed = 0,
) -> Path:
    """Evaluate a model; write an HTML report and model card.

    The same as evaluate with --html report.html in the run's folder.

    \b
    Example:
      finrank report outputs/run_001
    """
    from finrank.evaluation.report.html import run_of
    from finrank.ranker.saving import find_model, is_ready_made

    model_dir = find_model(run_dir)
    folder = Path() if is_ready_made(model_dir) else run_of(model_dir) or model_dir
    path = html_path or folder / "report.html"
    evaluate(
        model_dir,
        data,
        split=split,
        json_path=json_path,
        candidate_only=candidate_only,
        html_path=path,
        wanted_accuracy=wanted_accuracy,
        save_confidence=save_confidence,
        base_model=base_model,
        seed=seed,
    )
    return path
