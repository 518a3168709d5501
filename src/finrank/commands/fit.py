"""`finrank fit`: the weights of votes and systems beside a model's scores, from labelled pools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finrank.commands import options
from finrank.commands.evaluate import Model
from finrank.console import say, warn
from finrank.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finrank.evaluation.fit_chooser import ChooserPool
    from finrank.evaluation.result import AnswerFigures
    from finrank.ranker.choosing.chooser import Chooser

OutputDir = Annotated[
    Path | None,
    typer.Option(
        "--output_dir", help="Write the model with its new weights to this folder (default: the model's own)."
    ),
]


def fit(
    model: Model,
    data: options.RewardedPools = options.REWARDED,
    *,
    split: options.Split = "dev",
    output_dir: OutputDir = None,
    wanted_accuracy: options.WantedAccuracy = 0.9,
    base_model: options.BaseModel = None,
    seed: options.EvaluationSeed = 0,
) -> Chooser:
    """Fit what votes and systems count.

    Beside the model's scores, to labelled pools of systems' answers.

    Writes chooser.json (a weight for votes, near misses and programs, and one per system) and confidence.json (fitted
    anew) into the model folder. Prints the accuracy of the first answer with weights fitted on other pages; where that
    is not above the vote's, the vote is stored.

    \b
    Example:
      finrank fit --model finqa-minilm --data datasets/imported_with_rewards --split dev --output_dir outputs/fitted
    """
    from finrank.evaluation import evaluate as core
    from finrank.evaluation.answer_figures import answer_figures
    from finrank.evaluation.calibration import calibration_figures
    from finrank.evaluation.fit_chooser import chooser_pool
    from finrank.evaluation.report.screen import print_answers
    from finrank.ranker.choosing.chooser import save_chooser
    from finrank.ranker.choosing.confidence import save_confidence
    from finrank.ranker.ranker import Ranker
    from finrank.ranker.saving import find_model, is_ready_made
    from finrank.training.run import data_hashes

    pools = core.load_pools(data, split)
    model_dir = find_model(model)
    if output_dir is None and is_ready_made(model_dir):
        raise UserError(f"{model_dir.name} is part of the package: name a folder for your own with --output_dir")
    if split not in ("dev", "selection"):
        warn(f"weights fitted to {split}: accuracies and probabilities on it will look better than they are")
    loaded = Ranker.from_pretrained(model_dir, base_model=base_model) if output_dir is not None else None
    scored = core.score_model(model_dir, pools, f"scoring {split}", base_model)
    figures = answer_figures(pools, scored.scores, scored.chooser, seed=seed)
    if figures is None:
        advice = "there are no votes to weigh; import outputs of several systems, or sample several answers from one"
        raise UserError(f"no answer of {data} is said by two candidates: {advice}")
    seen = [chooser_pool(*pair) for pair in zip(pools, scored.scores, strict=True)]
    fitted_on = {(file := f"{split}.jsonl"): data_hashes(data)[file]}
    chooser = _better_than_vote(figures, seen).model_copy(update={"fitted_on": fitted_on})
    calibrated = calibration_figures(pools, scored.scores, wanted_accuracy=wanted_accuracy, seed=seed, chooser=chooser)
    try:
        if loaded is not None and output_dir is not None:
            loaded.save_pretrained(output_dir)
            model_dir = output_dir
        save_confidence(model_dir, calibrated.to_ship(fitted_on))
        path = save_chooser(model_dir, chooser)
    finally:
        print_answers(figures)
    say(f"weights: {path}, fitted to {len(pools)} pools")
    return chooser


def _better_than_vote(figures: AnswerFigures, pools: Sequence[ChooserPool]) -> Chooser:
    """A chooser fitted to all pools, or the vote where a fitted one is not better on other pages."""
    from finrank.evaluation.fit_chooser import fit_chooser
    from finrank.ranker.choosing.chooser import VOTE

    vote = figures.baselines["vote"]
    if vote is not None and figures.fitted.accuracy > vote.accuracy:
        return fit_chooser(pools)
    warn("fitted weights are not better than the vote on other pages: the vote is stored, the model breaks its ties")
    return VOTE
