"""Supervised training of the ranker (stage 04).

The algorithm. Each question is one packed row: its prefix (question and the most relevant part of the page) and all its
candidates, which see the prefix and themselves. The encoder runs once, each candidate is pooled to a vector and scored
by a small MLP, and the loss is the listwise cross-entropy on the correct candidates of the pool
(`losses.listwise_loss`). Only LoRA adapters and the score head are trained; the base model stays frozen. After every
evaluation on the `selection` pages (train pages kept apart, so that dev stays clean) a checkpoint is kept; the one with
the best accuracy becomes `best_model`, the last state `final_model`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, TrainerCallback, set_seed

from finrank.console import console, say, warn
from finrank.evaluation.report import evaluate_pools
from finrank.evaluation.tables import print_table, summary_line
from finrank.evaluation.troubles import diagnose
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.routes import Route, RouteName, check_route, checked_route, choose_route
from finrank.ranker.saving import find_model, load_weights, save_model
from finrank.ranker.scoring import score_pools
from finrank.ranker.weights import load_tokenizer, locate, pinned
from finrank.records import RewardedPool
from finrank.store import UserError, available_splits, load_records, write_json
from finrank.training import runs
from finrank.training.config import TrainingConfig
from finrank.training.losses import mean_listwise_loss
from finrank.training.pools import EncodedData, PoolDataset, batch_plan, encode_pools
from finrank.training.trainer import RankingTrainer, training_arguments, use_bf16

STAGE = "04_sft"
# --quick_test: enough to go through every step of the path, small enough for two minutes on two cores.
_QUICK_POOLS = {"train": 32, "selection": 16, "dev": 16}
_QUICK_STEPS = 4
# Above this share of questions that lose a gold number to truncation, the user is warned.
_LOST_NUMBERS_WARNING = 0.2


@dataclass(frozen=True)
class Split:
    """The pools of one split as records and as tokens, in the same order."""

    pools: list[RewardedPool]
    encoded: EncodedData


def train(
    config: TrainingConfig,
    input_dir: Path,
    output_dir: Path,
    *,
    init_model: Path | None = None,
    quick_test: bool = False,
    resume: bool = False,
) -> Path:
    """Train one model and give its stage directory `output_dir/run_NNN/04_sft`.

    `input_dir` holds the rewarded pools of stage 03; `init_model` is a trained model to start from. Raises UserError
    for missing data or weights, a candidate that cannot fit, nothing to resume, or memory that ran out (with the
    config keys to lower).
    """
    began = time.monotonic()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("training on several processes is not supported yet: start one process, without torchrun")
    if torch.cuda.device_count() > 1:
        raise UserError("training on several GPUs is not supported yet: choose one with export CUDA_VISIBLE_DEVICES=0")
    training_arguments(config, output_dir)  # a value that Trainer does not take ends here, before anything is loaded
    started = {
        "config": config.model_dump(mode="json"),
        "data": runs.data_hashes(input_dir),
        "init_model": str(find_model(init_model)) if init_model else None,
        "quick_test": quick_test,
    }
    available_splits(input_dir, expected="finqa_with_rewards")
    tokenizer = load_tokenizer(locate(config.base_model, config.base_model_sha256))
    splits = _read_splits(input_dir, config, tokenizer, quick_test)
    set_seed(config.seed)
    model = CandidateRankingModel.new(pinned(config.ranker_settings()))
    if init_model:
        load_weights(model, find_model(init_model))
    most = max(len(pool.candidates) for pool in splits["train"].pools)
    route = checked_route(model, training=True, candidates=most)
    scoring = "naive" if route.name == "naive" else check_route(model, choose_route(model)).name
    _say_what_is_trained(model, splits, config, route)
    stage = (runs.unfinished_stage if resume else runs.new_stage)(output_dir, STAGE, started)
    say(f"writing to {stage}")
    with runs.lock(stage):
        trainer = _make_trainer(model, config, stage, splits, tokenizer, (route.name, scoring), quick_test)
        checkpoint = runs.last_checkpoint(stage) if resume else None
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        metrics = _finish(trainer, model, tokenizer, stage, splits, scoring)
        facts = {"stage": "sft", **started, **runs.environment(), "seed": config.seed}
        write_json(stage / runs.TRAINING_MANIFEST, {**facts, **_measured(trainer, began), "metrics": metrics})
    logs = stage / runs.CHECKPOINTS / "runs"  # where Trainer puts TensorBoard's files (trainer.report_to)
    if logs.is_dir():
        logs.rename(stage / "tensorboard")
    shutil.rmtree(stage / runs.CHECKPOINTS)
    return stage


def _measured(trainer: RankingTrainer, began: float) -> dict[str, Any]:
    """Times (of this process: a resumed run counts from its resume), memory and the curve, for the manifest."""
    return {
        "seconds": round(time.monotonic() - began, 1),
        "train_seconds": round(trainer.state.log_history[-1].get("train_runtime", 0.0), 1),
        "peak_memory_mib": runs.peak_memory_mib(),
        "curve": runs.finite(trainer.state.log_history),
        "best_step": trainer.state.best_global_step,
    }


def _read_splits(input_dir: Path, config: TrainingConfig, tokenizer: Any, quick_test: bool) -> dict[str, Split]:
    splits = {}
    for name, few in _QUICK_POOLS.items():
        path = input_dir / f"{name}.jsonl"
        if not path.is_file():
            continue
        pools = load_records(path, RewardedPool)
        if quick_test:
            pools = pools[:few]
        splits[name] = Split(pools, encode_pools(pools, tokenizer, config.prompt, f"encoding {name}"))
    if "train" not in splits or not any(pool.correct for pool in splits["train"].pools):
        raise UserError(
            f"{input_dir} has no train.jsonl with a correct candidate in it: there is nothing to learn from"
        )
    if "selection" not in splits:
        raise UserError(
            f"{input_dir} has no selection.jsonl to choose the best checkpoint by: "
            "prepare the data with --selection_share above 0"
        )
    return splits


def _say_what_is_trained(
    model: CandidateRankingModel, splits: dict[str, Split], config: TrainingConfig, route: Route
) -> None:
    bf16, why = use_bf16(config)
    say(f"device: {runs.environment()['device']}; attention route: {route.name} ({route.reason})")
    say(f"precision: {'bfloat16 autocast' if bf16 else config.dtype} in training ({why}), float32 scores")
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    everything = sum(value.numel() for value in model.parameters())
    say(
        f"base model: {config.base_model}, {config.dtype}, pooling {model.pooling}, "
        f"{trained:,} of {everything:,} parameters trained"
    )
    for name, split in splits.items():
        encoded = split.encoded
        lengths = sorted(item.pool.length for item in encoded.pools)
        say(f"{name}: {len(split.pools)} pools, median packed length {lengths[len(lengths) // 2]} tokens")
        if name == "train":
            say(f"    {batch_plan(PoolDataset(encoded.pools, config.seed), config, route.name)}")
        if encoded.numbers_in_prefix is not None:
            say(
                f"    of the gold programs' numbers on the page {encoded.numbers_in_prefix:.1%} are in the prefix, "
                f"{encoded.numbers_reached:.1%} are there or named by a label"
            )
        lost = encoded.questions_losing_numbers or 0.0
        if name == "train" and lost > _LOST_NUMBERS_WARNING:
            warn(
                f"{lost:.0%} of the train questions lose a number that their gold program needs: raise "
                "prompt.max_length or prompt.context_tokens, or set prompt.labels=true"
            )


def _make_trainer(
    model: CandidateRankingModel,
    config: TrainingConfig,
    stage: Path,
    splits: dict[str, Split],
    tokenizer: Any,
    routes: tuple[RouteName, RouteName],
    quick_test: bool,
) -> RankingTrainer:
    quick = {"max_steps": _QUICK_STEPS, "logging_steps": 1} if quick_test else {}
    callbacks: list[TrainerCallback] = []
    if config.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(config.early_stopping_patience))
    train_pools = [item for item in splits["train"].encoded.pools if item.correct]
    if left_out := len(splits["train"].pools) - len(train_pools):
        say(f"{left_out} train pools without a correct candidate stay out of the loss")
    arguments = training_arguments(config, stage / runs.CHECKPOINTS, **quick)
    return RankingTrainer(
        model,
        arguments,
        dataset=PoolDataset(train_pools, config.seed),
        tokenizer=tokenizer,
        route=routes[0],
        tokens_per_pass=config.tokens_per_pass,
        head_learning_rate=config.head_learning_rate or config.learning_rate,
        evaluator=_selection_metrics(splits["selection"], routes[1]),
        callbacks=callbacks,
    )


def _selection_metrics(split: Split, route: RouteName) -> Callable[[CandidateRankingModel], dict[str, float]]:
    def evaluator(model: CandidateRankingModel) -> dict[str, float]:
        scores = _score(model, split, route, description="")
        if not all(np.isfinite(own).all() for own in scores):
            raise UserError("training diverged: scores are not finite any more; lower learning_rate and train again")
        result = evaluate_pools(split.pools, scores)
        say(f"selection: {summary_line(result)}")
        metrics = {name: result[name] for name in ("accuracy", "reward_ratio", "average_reward")}
        # Accuracy moves in steps of one question; the loss shows progress between them.
        return {**metrics, "loss": mean_listwise_loss(scores, [pool.correct for pool in split.pools])}

    return evaluator


def _score(model: CandidateRankingModel, split: Split, route: RouteName, description: str) -> list[np.ndarray]:
    encoded = [item.pool for item in split.encoded.pools]
    return score_pools(model, encoded, route=route, description=description)


def _finish(
    trainer: RankingTrainer,
    model: CandidateRankingModel,
    tokenizer: Any,
    stage: Path,
    splits: dict[str, Split],
    route: RouteName,
) -> dict[str, Any]:
    """Save the final and the best model, and evaluate the best on selection and dev."""
    save_model(model, tokenizer, stage / "final_model")
    best_step = trainer.state.best_global_step
    if best_step:
        # Named by its step: Trainer's own note of the place is lost when a run is moved and resumed.
        best = stage / runs.CHECKPOINTS / f"checkpoint-{best_step}"
        if not best.is_dir():
            raise UserError(f"{best}, the best checkpoint of this run, is gone: train again")
        load_weights(model, best)
    save_model(model, tokenizer, stage / "best_model")
    metrics: dict[str, Any] = {}
    for name in ("selection", "dev"):
        if name in splits:
            result = evaluate_pools(splits[name].pools, _score(model, splits[name], route, f"evaluating {name}"))
            print_table(
                result,
                title=f"{name}: {result['n']} pools, best model (step {best_step or 'last'})",
            )
            for sentence in diagnose(result):
                warn(sentence)
            metrics[name] = result
    console.print()
    return metrics
