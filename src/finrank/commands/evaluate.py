"""Evaluate a saved model on a split of rewarded pools: one JSON and one HTML file that tell how far to trust it.

1. Score the pools with the model, with the control that sees neither question nor page, and with a model to compare.
2. Figures beside the baselines of the same pools (`evaluation/evaluate.py`), and what lies behind them.
3. Score some pools again with their candidates in another order: a score must not depend on it.
4. How far the probabilities can be believed (`evaluation/calibration.py`); that goes into the model folder, too.
5. What all of it says is wrong (`evaluation/diagnose.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from finrank.console import say, warn
from finrank.errors import UserError
from finrank.evaluation.bias import order_invariance
from finrank.evaluation.calibration import confidence_figures, distinct_answers
from finrank.evaluation.diagnose import diagnose
from finrank.evaluation.evaluate import compare_pools, evaluate_pools, explain_pools
from finrank.evaluation.metrics import FIGURE_DECIMALS
from finrank.evaluation.official import write_predictions
from finrank.evaluation.report import screen as tables
from finrank.evaluation.survival import Truncation, encode_and_measure
from finrank.ranker.confidence import Confidence, load_confidence, unlike_fitted
from finrank.ranker.confidence import save_confidence as save
from finrank.ranker.saving import LoadedModel, find_model, load_model, read_settings
from finrank.ranker.scoring import score_pools
from finrank.records import Answer, RewardedPool
from finrank.store import load_records, split_files, write_json
from finrank.training.run import TRAINING_MANIFEST, data_hashes, environment, explain_out_of_memory

# How far a score may move when the candidates stand in another order: rounding, which depends on what is packed with
# what. In bfloat16 a number has 8 significant bits.
_ORDER_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
# A model is too sure of what it was trained on, and what is fitted on test makes its figures there too good.
_FITTED_ON = ("dev", "selection")
_MEMORY_ADVICE = (
    "An evaluation scores in small passes and holds every model that takes part: leave out --compare, free the device "
    "of other programs, or evaluate on the CPU (CUDA_VISIBLE_DEVICES= before the command). A model trained with a "
    "smaller prompt.max_length, or quantization: 4bit, needs less"
)


class Scored(NamedTuple):
    """What a model made of the pools: scores [candidates] of each, and what truncation left out."""

    scores: list[np.ndarray]
    truncation: Truncation


def run(
    model_dir: Path,
    data_dir: Path,
    *,
    split: str = "dev",
    json_path: Path | None = None,
    html_path: Path | None = None,
    predictions_path: Path | None = None,
    candidate_only_dir: Path | None = None,
    compare_dir: Path | None = None,
    wanted_accuracy: float = 0.9,
    save_confidence: bool = True,
    base_model: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Print the tables and what is wrong, write the files that are wanted, and give all figures.

    The candidate-only model is `candidate_only_dir`, or else the newest one trained beside this model on the same
    data. `wanted_accuracy` is that of the threshold below which ranking abstains; with `save_confidence` it goes into
    the model folder (from dev and selection only). Raises UserError for a missing model, split or part.
    """
    if not 0 < wanted_accuracy < 1:
        raise UserError(f"--wanted_accuracy is a share between 0 and 1 (0.9: nine of ten right), got {wanted_accuracy}")
    path = split_files(data_dir, [split], expected="finqa_with_rewards")[split]
    model_dir = find_model(model_dir)
    others = _other_models(model_dir, data_dir, compare_dir, candidate_only_dir)
    pools = load_records(path, RewardedPool)
    if not pools:
        raise UserError(f"{path} is empty: choose another --split, or run steps 01 to 03 again")
    with explain_out_of_memory(advice=_MEMORY_ADVICE):
        scores, figures = _figures(model_dir, others, pools, split, wanted_accuracy, base_model, seed)
    result = {
        **figures,
        "model": str(model_dir),
        "data": str(data_dir),
        "split": split,
        "versions": environment()["versions"],
        "data_hashes": data_hashes(data_dir),
    }
    _show(result)
    _write(result, model_dir, json_path, html_path)
    if predictions_path is not None:
        write_predictions(predictions_path, pools, scores)
        say(f"predictions: {predictions_path}")
    if save_confidence:
        _save_beside_model(result, model_dir)
    return result


def _other_models(
    model_dir: Path, data_dir: Path, compare_dir: Path | None, candidate_only_dir: Path | None
) -> dict[str, Path | None]:
    """The folders of the models that score the same pools: "compare" and "candidate_only", None for none."""
    return {
        "compare": None if compare_dir is None else find_model(compare_dir),
        "candidate_only": _control(candidate_only_dir, model_dir, data_dir),
    }


def _figures(
    model_dir: Path,
    others: dict[str, Path | None],
    pools: list[RewardedPool],
    split: str,
    wanted_accuracy: float,
    base_model: str | None,
    seed: int,
) -> tuple[list[np.ndarray], dict[str, Any]]:
    loaded = load_model(model_dir, base_model)
    say(f"attention route: {loaded.route} ({loaded.route_reason})")
    own = _score(loaded, pools, f"scoring {split}")
    order = order_invariance(pools, own.scores, lambda some: _score(loaded, some, "").scores, seed=seed)
    tolerance = _ORDER_TOLERANCE[loaded.model.settings.dtype]
    scores_of: dict[str, list[np.ndarray]] = {}
    for name, directory in others.items():
        if directory is None:
            continue
        say(f"{name.replace('_', '-')} model: {directory}")
        if name == "candidate_only" and directory == others["compare"]:
            scores_of[name] = scores_of["compare"]
            continue
        other = load_model(directory, _base_for(directory, model_dir, base_model))
        scores_of[name] = _score(other, pools, f"scoring {name.replace('_', '-')}").scores
    confidence = confidence_figures(pools, own.scores, wanted_accuracy=wanted_accuracy, seed=seed)
    shipped = _of_shipped(_shipped(model_dir), pools, own.scores)
    explained = explain_pools(pools, own.scores, seed=seed, temperature=confidence["temperature"])
    result = {
        **evaluate_pools(
            pools, own.scores, seed=seed, candidate_only=scores_of.get("candidate_only"), rounding=tolerance
        ),
        **explained,
        "bias": {**explained["bias"], "order_invariance": {**order, "tolerance": tolerance}},
        "confidence": {**confidence, "shipped": shipped},
        "comparison": None,
        "truncation": asdict(own.truncation),
    }
    if "compare" in scores_of:
        compared = compare_pools(pools, own.scores, scores_of["compare"], seed=seed)
        result["comparison"] = {"other": str(others["compare"]), **compared}
    return own.scores, {**result, "troubles": diagnose(result)}


def _score(loaded: LoadedModel, pools: Sequence[RewardedPool], description: str) -> Scored:
    settings = loaded.model.settings.prompt
    encoded, truncation = encode_and_measure(pools, loaded.tokenizer, settings, "encoding")
    scores = score_pools(loaded.model, encoded, route=loaded.route, description=description)
    return Scored([_tie_copies(pool, own) for pool, own in zip(pools, scores, strict=True)], truncation)


def _tie_copies(pool: RewardedPool, scores: np.ndarray) -> np.ndarray:
    """Give each copy of a candidate the score of the first one: rounding in the packing must break no tie."""
    first: dict[tuple[str | None, Answer | None], int] = {}
    return scores[[first.setdefault((one.program, one.answer), place) for place, one in enumerate(pool.candidates)]]


def _base_for(other_dir: Path, model_dir: Path, base_model: str | None) -> str | None:
    """`--base_model` is another place for the base of the evaluated model; another base stays where it is."""
    same = read_settings(other_dir).base_model == read_settings(model_dir).base_model
    return base_model if same else None


def _control(given: Path | None, model_dir: Path, data_dir: Path) -> Path | None:
    """The candidate-only model to set beside this one; UserError where the one given sees question and page."""
    if given is None:
        return _candidate_only_beside(model_dir, data_dir)
    control = find_model(given)
    if not read_settings(control).prompt.candidate_only:
        raise UserError(
            f"--candidate_only {given}: {control} was trained with question and page, so it is no control; give a "
            "model of finrank sft --candidate_only, or use --compare for another model"
        )
    return control


class _Trained(NamedTuple):
    """What the training manifest of a model tells: whether it can be a control, and the hashes of its data."""

    is_control: bool
    data: dict[str, str]


def _trained(manifest: Path) -> _Trained | None:
    """None where there is no manifest, or one of another shape: of another program, or another version of this one."""
    try:
        stored = json.loads(manifest.read_text(encoding="utf-8"))
        is_control = bool(stored["config"]["prompt"]["candidate_only"] and not stored["quick_test"])
        return _Trained(is_control, dict(stored["data"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _candidate_only_beside(model_dir: Path, data_dir: Path) -> Path | None:
    """The newest candidate-only model among the sibling runs that was trained on the same data as this model.

    Of a model without a manifest the evaluated data are taken for those it was trained on.
    """
    if read_settings(model_dir).prompt.candidate_only:
        return None
    model_dir = model_dir.resolve()
    own = _trained(model_dir.parent / TRAINING_MANIFEST)
    hashes = data_hashes(data_dir) if own is None else own.data
    folders = model_dir.parents  # of run_NNN/04_sft/best_model the third is the parent of all runs
    for manifest in sorted(folders[2].glob(f"run_*/04_sft/{TRAINING_MANIFEST}"), reverse=True) if folders[2:] else []:
        beside, best = _trained(manifest), manifest.parent / "best_model"
        if beside is not None and beside.is_control and beside.data == hashes and best.is_dir():
            return best
    return None


def _shipped(model_dir: Path) -> Confidence | None:
    try:
        return load_confidence(model_dir)
    except UserError as error:  # says to evaluate again, which is what happens here
        warn(str(error))
        return None


def _of_shipped(
    confidence: Confidence | None, pools: Sequence[RewardedPool], scores: Sequence[np.ndarray]
) -> dict[str, float | None] | None:
    """What the confidence in the model folder, fitted on other pools perhaps, gives on these; warns of unlike ones.

    "temperature", "threshold", and "coverage" and "accuracy" of the answers above it: of all where the threshold is
    None, accuracy None where none is answered.
    """
    if confidence is None:
        return None
    for sentence in unlike_fitted(confidence, [pool.candidates for pool in pools]).values():
        warn(sentence)
    threshold = None if confidence.threshold is None else confidence.threshold.value
    answers = distinct_answers(pools, scores)
    answered = answers.confidence(confidence.temperature) >= (0.0 if threshold is None else threshold)
    right = answers.top_is_right()[answered]
    return {
        "temperature": confidence.temperature,
        "threshold": threshold,
        "coverage": round(float(answered.mean()), FIGURE_DECIMALS),
        "accuracy": round(float(right.mean()), FIGURE_DECIMALS) if len(right) else None,
    }


def _show(result: dict[str, Any]) -> None:
    n, without = result["n"], result["unanswerable"]
    tables.print_table(result, title=f"{result['split']}: {n} pools, {without} without a correct candidate")
    if result["comparison"] is not None:
        tables.print_comparison(result)
    tables.print_bias(result["bias"])
    tables.print_confidence(result["confidence"])
    for sentence in result["troubles"]:
        warn(sentence)
    tables.print_breakdowns(result["breakdowns"])


def _write(result: dict[str, Any], model_dir: Path, json_path: Path | None, html_path: Path | None) -> None:
    if json_path is not None:
        write_json(json_path, result)
        say(f"figures: {json_path}")
    if html_path is not None:
        from finrank.evaluation.report.html import run_of, write_html

        html_path.parent.mkdir(parents=True, exist_ok=True)
        write_html(html_path, result, run_of(model_dir))
        say(f"report: {html_path}")


def _save_beside_model(result: dict[str, Any], model_dir: Path) -> None:
    """The confidence and the model card, into the model folder."""
    from finrank.evaluation.report.model_card import CARD, write_model_card

    if result["split"] not in _FITTED_ON:
        say(f"confidence and model card: not saved from {result['split']}, only from {' or '.join(_FITTED_ON)}")
        return
    before = result["confidence"]["shipped"]
    file = f"{result['split']}.jsonl"
    try:
        path = save(model_dir, result["confidence"], data_hashes={file: result["data_hashes"][file]})
        card = write_model_card(model_dir, result)
    except OSError as error:
        warn(f"the model folder could not be written to ({error}); --no-save_confidence leaves it alone")
        return
    temperature = result["confidence"]["temperature"]
    replaced = "" if before is None else f", in place of an earlier one (temperature {before['temperature']:.2f})"
    say(f"confidence: {path}, temperature {temperature:.2f}{replaced}")
    say(f"model card: {card or f'{model_dir / CARD} is your own and was left alone'}")
