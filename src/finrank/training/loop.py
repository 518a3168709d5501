"""The steps of every training: check, read, build, announce, train, keep the best model, measure it, record everything.

Ranking (`sft.py`), reinforcement learning (`ppo/ppo.py`) and the generation baseline (`generator/sft.py`) differ in
their `Recipe`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerState, TrainingArguments

from finrank.console import say
from finrank.errors import UserError
from finrank.store import refuse_earlier_stage, split_files, write_json
from finrank.store.writing import writing
from finrank.training.memory import explain_out_of_memory, peak_memory_mib
from finrank.training.processes import by_main, is_main, one_training
from finrank.training.run import (
    CHECKPOINTS,
    TRAINING_MANIFEST,
    Run,
    environment,
    finite,
    last_checkpoint,
    lock_stage,
    remove_checkpoints,
)
from finrank.training.threads import use_free_cores, use_threads_of
from finrank.training.trainer import CheckpointTrainer, Job, diverged, readable, training_arguments

QUICK_STEPS = 4  # of --quick_test
_INPUT = "finqa_with_rewards"
_CUTTING = ("fsdp", "deepspeed", "megatron_lm", "parallelism_config")  # of accelerate and Trainer: cut a model in parts


@dataclass(frozen=True)
class Plan:
    """A job that is ready to be trained, its trainer and its final measurement."""

    job: Job
    make_trainer: Callable[[TrainingArguments, Path | None], CheckpointTrainer]  # takes the checkpoint to resume from
    measure: Callable[[], dict[str, Any]]  # metrics by split of the weights as they are, for the manifest
    show: Callable[[str], None]  # prints what was measured; takes the weights' step as text
    overrides: dict[str, Any] = field(default_factory=dict)  # Trainer arguments that replace those of the config
    facts: dict[str, Any] = field(default_factory=dict)  # further facts for the manifest
    start: Path | None = None  # a model that remains the best one unless a checkpoint is more accurate on selection


@dataclass(frozen=True)
class Recipe:
    """The steps in which one way of training differs from the others."""

    stage: str  # name of its folder in a run, such as 04_sft
    memory_keys: tuple[str, ...]  # config keys to lower first when memory runs out
    settle: Callable[[Run], Run]  # refuses a config of another task, and finds the model to start from; nothing heavy
    build: Callable[[Run, TrainingArguments], Plan]  # reads the data, builds the model, prints both


def train(recipe: Recipe, run: Run) -> Path:
    """Train one model, print where it is and return its stage directory, `output_dir/run_NNN/STAGE`.

    Raises UserError for faults in config, data or weights, nothing to resume, divergence, or memory that ran out.
    """
    began = time.monotonic()
    arguments = join_processes(run)
    with one_training(), explain_out_of_memory(*recipe.memory_keys):
        run = recipe.settle(run)
        if not run.resume:
            use_free_cores()
        started = run.started()
        refuse_earlier_stage(split_files(run.input_dir, expected=_INPUT).values(), _INPUT)
        plan = recipe.build(run, arguments)
        if arguments.world_size > 1 and plan.job.without_loss is None:
            raise UserError(f"{recipe.stage} is trained by one process: start it without accelerate launch or torchrun")
        with writing(run.output_dir):
            stage = by_main(lambda: run.open_stage(recipe.stage, started))
        use_threads_of(stage)
        say(f"writing to {stage}")
        with lock_stage(stage) if is_main() else nullcontext():
            facts = {"stage": recipe.stage.partition("_")[2], **started, "seed": run.config.seed, **plan.facts}
            trained = _train(stage, plan, run, began)
            by_main(lambda: _finish(stage, {**facts, **trained}))
        plan.show("last" if trained["best_step"] is None else str(trained["best_step"]))
        say(f"best model:  {stage / 'best_model'}")
        say(f"final model: {stage / 'final_model'}")
        say(f"manifest:    {stage / TRAINING_MANIFEST}")
    return stage


def join_processes(run: Run) -> TrainingArguments:
    """Trainer's arguments of the config; making them joins the processes that were launched.

    Raises UserError for a rejected argument, for a model that is to be cut among processes, and for several GPUs or
    processes that no launcher has put together.
    """
    launched = [name for name in _CUTTING if os.environ.get(f"ACCELERATE_USE_{name.upper()}", "").lower() == "true"]
    if cutting := [*launched, *(f"trainer.{name}" for name in _CUTTING if run.config.trainer.get(name))]:
        raise UserError(
            f"{cutting[0]} is not supported: every process scores and saves a whole model. Use DDP, as in "
            "configs/accelerate/eight_gpus.yaml; for a base too large for one GPU add --set shard_base=true (FSDP2 for "
            "the frozen weights alone), or --set quantization=4bit"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" not in os.environ:
        raise UserError("WORLD_SIZE is set without LOCAL_RANK: start with accelerate launch or torchrun, or unset it")
    arguments = training_arguments(run.config, run.output_dir)
    if arguments.n_gpu > 1:
        raise UserError(
            f"{arguments.n_gpu} GPUs are visible, and a process trains on one: start one for each with accelerate "
            "launch --config_file configs/accelerate/eight_gpus.yaml, or choose one: export CUDA_VISIBLE_DEVICES=0"
        )
    return arguments


def _finish(stage: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, and delete what only a resume needs."""
    write_json(stage / TRAINING_MANIFEST, manifest)
    remove_checkpoints(stage)


def _train(stage: Path, plan: Plan, run: Run, began: float) -> dict[str, Any]:
    """Train from the beginning or the last checkpoint, write both models, and return the measurements.

    `began` is time.monotonic() when the process began; a resumed run counts from its resume.
    """
    job: Job = plan.job
    accuracy = job.evaluate()["accuracy"] if plan.start else None
    checkpoint = last_checkpoint(stage) if run.resume else None
    quick = {"max_steps": QUICK_STEPS, "logging_steps": 1} if run.quick_test else {}
    arguments = training_arguments(job.config, stage / CHECKPOINTS, **plan.overrides, **quick)
    with readable(checkpoint):
        trainer = plan.make_trainer(arguments, checkpoint)
        if checkpoint:  # Trainer reads it again, as a fault of its own
            TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    train_began, cpu_began = time.monotonic(), time.process_time()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    train_seconds, cpu_seconds = time.monotonic() - train_began, time.process_time() - cpu_began
    if not all(value.isfinite().all() for value in job.model.parameters() if value.requires_grad):
        raise diverged(arguments, trainer.state.global_step, "weights are not finite")
    with writing(stage / "final_model"):
        by_main(lambda: job.save(stage / "final_model"))
    best_step = _load_best(plan, trainer.state, stage, accuracy)
    with writing(stage / "best_model"):
        by_main(lambda: job.save(stage / "best_model"))
    return {
        **({"sft_selection_accuracy": accuracy} if plan.start else {}),
        "best_step": best_step,
        "metrics": finite(plan.measure()),
        **environment(),
        "seconds": round(time.monotonic() - began, 1),
        "train_seconds": round(train_seconds, 1),
        "train_cpu_seconds": round(cpu_seconds, 1),  # on a busy machine it says more than the clock
        "peak_memory_mib": peak_memory_mib(),
        "curve": finite(trainer.state.log_history),
    }


def _load_best(plan: Plan, state: TrainerState, stage: Path, accuracy: float | None) -> int | None:
    """Load the best weights and return their step: 0 for those of the start, None if no checkpoint was measured.

    `accuracy` is that of the start on selection.
    """
    if plan.start and accuracy is not None and state.best_metric is not None and state.best_metric <= accuracy:
        say(f"no checkpoint is more accurate on selection than the model it began with ({accuracy:.3f})")
        plan.job.load(plan.start)
        return 0
    best_step: int | None = state.best_global_step
    if best_step:
        # Named by its step: Trainer's own note of the path is wrong when a run was moved and resumed.
        best = stage / CHECKPOINTS / f"checkpoint-{best_step}"
        if not best.is_dir():
            raise UserError(f"{best}, the best checkpoint of this run, is gone: train again")
        plan.job.load(best)
    return best_step
