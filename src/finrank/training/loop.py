"""From a prepared trainer to a finished stage directory: train, keep the best model, measure it, record all."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import Trainer

from finrank.console import console, say, warn
from finrank.errors import UserError
from finrank.evaluation.diagnose import diagnose
from finrank.evaluation.evaluate import evaluate_pools
from finrank.evaluation.report.screen import print_table
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import load_weights, save_model
from finrank.store import write_json
from finrank.training import run as runs
from finrank.training.splits import Split, score_split
from finrank.training.trainer import RankingTrainer


@dataclass(frozen=True)
class Start:
    """The trained model that a stage begins with, and its accuracy on selection: the first that could be the best."""

    directory: Path
    accuracy: float


def train_to_the_end(
    trainer: RankingTrainer,
    stage: Path,
    splits: dict[str, Split],
    route: RouteName,
    facts: dict[str, Any],
    *,
    began: float,
    resume: bool,
    start: Start | None = None,
) -> None:
    """Train, write best_model, final_model and the manifest (`facts` and what was measured), remove the checkpoints.

    `began` is time.monotonic() of the stage's start; `route` is the one that scores. With `start`, a model that no
    checkpoint beats on selection stays the best one (step 0). Raises UserError when the best checkpoint is gone.
    """
    cpu_seconds = run_trainer(trainer, stage, resume)
    model: CandidateRankingModel = trainer.accelerator.unwrap_model(trainer.model)
    save_model(model, trainer.processing_class, stage / "final_model")
    best_step = _load_best(trainer, model, stage, start)
    save_model(model, trainer.processing_class, stage / "best_model")
    metrics = _measure(model, splits, route, best_step)
    record(trainer, stage, {**facts, "best_step": best_step, "metrics": metrics}, began, cpu_seconds)


def run_trainer(trainer: Trainer, stage: Path, resume: bool) -> float:
    """Train, from the stage's last checkpoint on where it is resumed; gives the processor time in seconds."""
    checkpoint = runs.last_checkpoint(stage) if resume else None
    cpu_began = time.process_time()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return time.process_time() - cpu_began


def best_checkpoint(stage: Path, step: int) -> Path:
    """The folder of this step's checkpoint; UserError when it is gone."""
    # Named by its step: Trainer's own note of the place is lost when a run is moved and resumed.
    best = stage / runs.CHECKPOINTS / f"checkpoint-{step}"
    if not best.is_dir():
        raise UserError(f"{best}, the best checkpoint of this run, is gone: train again")
    return best


def record(trainer: Trainer, stage: Path, facts: dict[str, Any], began: float, cpu_seconds: float) -> None:
    """Write the manifest (`facts` and what was measured) and remove the checkpoints: the stage is finished."""
    measured = {
        "seconds": round(time.monotonic() - began, 1),  # of this process: a resumed run counts from its resume
        "train_seconds": round(trainer.state.log_history[-1].get("train_runtime", 0.0), 1),
        "train_cpu_seconds": round(cpu_seconds, 1),  # beside other work it says more than the clock
        "peak_memory_mib": runs.peak_memory_mib(),
        "curve": runs.finite(trainer.state.log_history),
    }
    write_json(stage / runs.TRAINING_MANIFEST, {**facts, **runs.environment(), **measured})
    logs = stage / runs.CHECKPOINTS / "runs"  # where Trainer puts TensorBoard's files (trainer.report_to)
    if logs.is_dir():
        logs.rename(stage / "tensorboard")
    shutil.rmtree(stage / runs.CHECKPOINTS)


def _load_best(trainer: RankingTrainer, model: CandidateRankingModel, stage: Path, start: Start | None) -> int | None:
    """Put the best weights into the model; gives their step: 0 for those of the start, None where none was measured."""
    best_step: int | None = trainer.state.best_global_step
    if start and trainer.state.best_metric is not None and trainer.state.best_metric <= start.accuracy:
        say(f"no checkpoint is more accurate on selection than the model it began with ({start.accuracy:.3f})")
        load_weights(model, start.directory)
        return 0
    if best_step:
        load_weights(model, best_checkpoint(stage, best_step))
    return best_step


def _measure(
    model: CandidateRankingModel, splits: dict[str, Split], route: RouteName, best_step: int | None
) -> dict[str, Any]:
    """The best model on selection and dev, printed and for the manifest."""
    metrics: dict[str, Any] = {}
    for name in ("selection", "dev"):
        if name in splits:
            result = evaluate_pools(splits[name].pools, score_split(model, splits[name], route, f"evaluating {name}"))
            step = "last" if best_step is None else best_step
            print_table(result, title=f"{name}: {result['n']} pools, best model (step {step})")
            for sentence in diagnose(result):
                warn(sentence)
            metrics[name] = result
    console.print()
    return metrics
