"""`finrank evaluate`: a saved model and its baselines on a split of rewarded pools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from finrank.commands import options
from finrank.console import say_all
from finrank.errors import UserError
from finrank.records import RewardedPool
from finrank.store import write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finrank.evaluation.result import EvaluationResult

_MEMORY_ADVICE = (
    "An evaluation scores in small passes and holds every model that takes part: leave out --compare, free the device "
    "of other programs, or evaluate on the CPU (CUDA_VISIBLE_DEVICES= before the command). A model trained with a "
    "smaller prompt.max_length, or quantization: 4bit, needs less"
)

Model = Annotated[
    Path,
    typer.Option(
        "--model",
        help="A run (outputs/run_001), a stage directory, a model folder, or finqa-minilm, the ready-made model.",
    ),
]
Compare = Annotated[
    Path | None, typer.Option("--compare", help="A second model, compared on the same pools by a paired test.")
]
Likelihood = Annotated[
    Path | None,
    typer.Option(
        "--likelihood", help="A generator (a run of finrank generation), whose likelihoods are further baselines."
    ),
]
Html = Annotated[Path | None, typer.Option("--html", help="Write the report as one HTML file, to this path.")]
Predictions = Annotated[
    Path | None,
    typer.Option(
        "--predictions_out", help="Write the picked programs as the official FinQA evaluator reads them, to this file."
    ),
]


def evaluate(
    model: Model,
    data: options.RewardedPools = options.REWARDED,
    *,
    split: options.Split = "dev",
    json_path: options.FiguresJson = None,
    candidate_only: options.Control = None,
    compare: Compare = None,
    likelihood: Likelihood = None,
    html_path: Html = None,
    predictions_out: Predictions = None,
    wanted_accuracy: options.WantedAccuracy = 0.9,
    save_confidence: options.SaveConfidence = True,
    base_model: options.BaseModel = None,
    seed: options.EvaluationSeed = 0,
) -> EvaluationResult:
    """Evaluate a trained model and its baselines.

    Prints accuracy, reward ratio and average reward with 95 % intervals, biases, breakdowns, and known failures in
    plain words. On dev and selection confidence.json (temperature, threshold) and model card go into the model folder.

    \b
    Example:
      finrank evaluate --model outputs/run_001 --split dev --json dev.json --html dev.html
    """
    from finrank.evaluation import evaluate as core
    from finrank.evaluation.report.screen import print_evaluation
    from finrank.evaluation.result import Source
    from finrank.ranker.saving import find_model
    from finrank.training.memory import explain_out_of_memory
    from finrank.training.run import control_for, data_hashes, environment

    if not 0 < wanted_accuracy < 1:
        raise UserError(f"--wanted_accuracy is a share between 0 and 1 (0.9: nine of ten right), got {wanted_accuracy}")
    pools = core.load_pools(data, split)
    model_dir = find_model(model)
    compared, control = compare and find_model(compare), control_for(model_dir, data, candidate_only)
    source = Source(str(model_dir), str(data), split, environment()["versions"], data_hashes(data))
    with explain_out_of_memory(advice=_MEMORY_ADVICE):
        scored = core.score_model(model_dir, pools, f"scoring {split}", base_model)
        rivals = core.score_rivals(pools, model_dir, base_model, compared=compared, control=control)
        rivals = rivals._replace(further=_likelihoods(likelihood, pools))
        result = core.evaluate(pools, scored, rivals, source, wanted_accuracy=wanted_accuracy, seed=seed)
    outputs = _Outputs(json_path, html_path, predictions_out, save_confidence)
    written: list[str] = []
    try:  # files first, so that a terminal that fails costs none; and what cannot be written is still shown
        for line in _write(outputs, result, model_dir, pools, scored.scores):
            written.append(line)
    finally:
        print_evaluation(result)
        say_all(written)
    return result


def _likelihoods(run: Path | None, pools: Sequence[RewardedPool]) -> dict[str, list[np.ndarray]] | None:
    from finrank.generator.likelihood import score_by_likelihood
    from finrank.generator.model import load_generator

    return None if run is None else score_by_likelihood(load_generator(run), pools, "scoring by likelihood")


class _Outputs(NamedTuple):
    json_path: Path | None
    html_path: Path | None
    predictions_path: Path | None
    save_confidence: bool


def _write(
    outputs: _Outputs,
    result: EvaluationResult,
    model_dir: Path,
    pools: list[RewardedPool],
    scores: Sequence[NDArray[Any]],
) -> Iterator[str]:
    """Write the files that are wanted, one after the other, with a line for the user about each."""
    from finrank.evaluation.official import write_predictions
    from finrank.evaluation.report.html import write_html
    from finrank.evaluation.report.model_card import save_beside_model
    from finrank.ranker.saving import is_ready_made

    if outputs.json_path is not None:
        write_json(outputs.json_path, result.as_json())
        yield f"figures: {outputs.json_path}"
    if outputs.html_path is not None:
        write_html(outputs.html_path, result, model_dir)
        yield f"report: {outputs.html_path}"
    if outputs.predictions_path is not None:
        write_predictions(outputs.predictions_path, pools, scores)
        yield f"predictions: {outputs.predictions_path}"
    if outputs.save_confidence and is_ready_made(model_dir):
        stays = f"those of {model_dir.name} stay; to fit your own, copy it with save_pretrained"
        yield f"confidence and model card: {stays}"
    elif outputs.save_confidence:
        yield from save_beside_model(result, model_dir)
