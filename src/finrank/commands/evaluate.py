"""`finrank evaluate`: a saved model on a split of rewarded pools, beside its baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finrank.commands.options import (
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
from finrank.console import say, warn
from finrank.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from finrank.evaluation.evaluate import Rivals
    from finrank.evaluation.result import EvaluationResult
    from finrank.ranker.confidence import Confidence
    from finrank.records import RewardedPool

# A model is overconfident on its training data, and a temperature fitted on test makes its figures there too good.
_FITTED_ON = ("dev", "selection")
_MEMORY_ADVICE = (
    "An evaluation scores in small passes and holds every model that takes part: leave out --compare, free the device "
    "of other programs, or evaluate on the CPU (CUDA_VISIBLE_DEVICES= before the command). A model trained with a "
    "smaller prompt.max_length, or quantization: 4bit, needs less"
)

Model = Annotated[Path, typer.Option("--model", help="A run (outputs/run_001), a stage directory or a model folder.")]
Compare = Annotated[
    Path | None, typer.Option("--compare", help="A second model, compared on the same pools by a paired test.")
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
    data: RewardedPools = REWARDED,
    *,
    split: Split = "dev",
    json_path: FiguresJson = None,
    candidate_only: Control = None,
    compare: Compare = None,
    html_path: Html = None,
    predictions_out: Predictions = None,
    wanted_accuracy: WantedAccuracy = 0.9,
    save_confidence: SaveConfidence = True,
    base_model: BaseModel = None,
    seed: EvaluationSeed = 0,
) -> EvaluationResult:
    """Evaluate a trained model beside its baselines.

    Prints accuracy, reward ratio and average reward with 95 % intervals, biases, breakdowns, the surest mistakes, and
    what is wrong in plain words. On dev and selection it also writes confidence.json (temperature, threshold) and the
    model card into the model folder.

    \b
    Example:
      finrank evaluate --model outputs/run_001 --split dev --json dev.json --html dev.html
    """
    from finrank.evaluation import evaluate as core
    from finrank.evaluation.official import write_predictions
    from finrank.evaluation.report.screen import print_evaluation
    from finrank.evaluation.result import Source
    from finrank.ranker.saving import find_model, load_model
    from finrank.training.memory import explain_out_of_memory
    from finrank.training.run import data_hashes, environment

    pools = _pools(data, split, wanted_accuracy)
    model_dir = find_model(model)
    others = {"compare": compare and find_model(compare), "candidate_only": _control(candidate_only, model_dir, data)}
    source = Source(str(model_dir), str(data), split, environment()["versions"], data_hashes(data))
    with explain_out_of_memory(advice=_MEMORY_ADVICE):
        loaded = load_model(model_dir, base_model)
        say(f"attention route: {loaded.route} ({loaded.route_reason})")
        scored = core.score_evaluated(loaded, pools, f"scoring {split}", _shipped(model_dir, pools))
        rivals = _rivals(others, pools, model_dir, base_model)
        result = core.evaluate(pools, scored, rivals, source, wanted_accuracy=wanted_accuracy, seed=seed)
    print_evaluation(result)
    _write(result, model_dir, json_path, html_path)
    if predictions_out is not None:
        write_predictions(predictions_out, pools, scored.scores)
        say(f"predictions: {predictions_out}")
    if save_confidence:
        _save_beside_model(result, model_dir)
    return result


def _pools(data: Path, split: str, wanted_accuracy: float) -> list[RewardedPool]:
    """The pools of the split; UserError for options that cannot work."""
    from finrank.records import RewardedPool
    from finrank.store import load_records, split_files

    if not 0 < wanted_accuracy < 1:
        raise UserError(f"--wanted_accuracy is a share between 0 and 1 (0.9: nine of ten right), got {wanted_accuracy}")
    path = split_files(data, [split], expected="finqa_with_rewards")[split]
    pools = load_records(path, RewardedPool)
    if not pools:
        raise UserError(f"{path} is empty: choose another --split, or run steps 01 to 03 again")
    return pools


def _control(named: Path | None, model_dir: Path, data: Path) -> Path | None:
    """The candidate-only model to compare with; UserError where the one named sees question and page."""
    from finrank.ranker.saving import find_model, read_settings
    from finrank.training.run import candidate_only_beside

    if named is None:
        return candidate_only_beside(model_dir, data)
    control = find_model(named)
    if not read_settings(control).prompt.candidate_only:
        raise UserError(
            f"--candidate_only {named}: {control} was trained with question and page, so it is not a control; give a "
            "model of finrank sft --candidate_only, or use --compare for another model"
        )
    return control


def _shipped(model_dir: Path, pools: list[RewardedPool]) -> Confidence | None:
    """The confidence in the model folder, with a warning if it is damaged or was fitted on unlike pools."""
    from finrank.ranker.confidence import load_confidence, unlike_fitted

    try:
        confidence = load_confidence(model_dir)
    except UserError as error:  # says to evaluate again, which is what happens here
        warn(str(error))
        return None
    if confidence is not None:
        for sentence in unlike_fitted(confidence, [pool.candidates for pool in pools]).values():
            warn(sentence)
    return confidence


def _rivals(
    others: dict[str, Path | None], pools: list[RewardedPool], model_dir: Path, base_model: str | None
) -> Rivals:
    """Scores of the same pools by the other models; a model that is both is scored once."""
    from finrank.evaluation.evaluate import Rivals, score_rival
    from finrank.ranker.saving import load_model, read_settings

    scores: dict[Path, list[np.ndarray]] = {}
    for name, directory in others.items():
        if directory is None:
            continue
        shown = name.replace("_", "-")
        say(f"{shown} model: {directory}")
        if directory not in scores:
            # --base_model is another place for the base of the evaluated model, not for another base.
            same_base = read_settings(directory).base_model == read_settings(model_dir).base_model
            loaded = load_model(directory, base_model if same_base else None)
            scores[directory] = score_rival(loaded, pools, f"scoring {shown}")
    compared, control = others["compare"], others["candidate_only"]
    return Rivals(control and scores[control], compared and scores[compared], str(compared))


def _write(result: EvaluationResult, model_dir: Path, json_path: Path | None, html_path: Path | None) -> None:
    from finrank.evaluation.report.html import run_of, write_html
    from finrank.store import write_json

    if json_path is not None:
        write_json(json_path, result.as_json())
        say(f"figures: {json_path}")
    if html_path is not None:
        write_html(html_path, result, run_of(model_dir))
        say(f"report: {html_path}")


def _save_beside_model(result: EvaluationResult, model_dir: Path) -> None:
    """The confidence and the model card, into the model folder."""
    from finrank.evaluation.report.model_card import CARD, write_model_card
    from finrank.ranker.confidence import save_confidence

    source, confidence = result.source, result.confidence
    if source.split not in _FITTED_ON:
        say(f"confidence and model card: not saved from {source.split}, only from {' or '.join(_FITTED_ON)}")
        return
    file = f"{source.split}.jsonl"
    try:
        path = save_confidence(model_dir, confidence.to_ship({file: source.data_hashes[file]}))
        card = write_model_card(model_dir, result)
    except OSError as error:
        warn(f"the model folder could not be written to ({error}); --no-save_confidence leaves it alone")
        return
    before = confidence.shipped
    replaced = "" if before is None else f", in place of an earlier one (temperature {before.temperature:.2f})"
    say(f"confidence: {path}, temperature {confidence.temperature:.2f}{replaced}")
    say(f"model card: {card or f'{model_dir / CARD} is your own and was left alone'}")
