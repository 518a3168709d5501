"""Supervised training of the ranker (stage 04).

The algorithm. Each question is one packed row: its prefix (question and the most relevant part of the page) and all its
candidates, which see the prefix and themselves. The encoder runs once, each candidate is pooled to a vector and scored
by a small MLP, and the loss is the listwise cross-entropy on the correct candidates of the pool
(`losses.listwise_loss`). Only LoRA adapters and the score head are trained; the base model stays frozen. After every
evaluation on the `selection` pages (train pages kept apart, so that dev stays clean) a checkpoint is kept; the one with
the best accuracy becomes `best_model`, the last state `final_model`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments, set_seed

from finrank.console import say
from finrank.errors import UserError
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.base_model import load_tokenizer, locate, pinned
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import find_model, load_weights
from finrank.store import available_splits
from finrank.training import run as runs
from finrank.training.batches import LengthBucketSampler, PoolDataset, batches_to_join
from finrank.training.config import TrainingConfig
from finrank.training.loop import train_to_the_end
from finrank.training.splits import Split, read_splits, say_batches, say_splits, say_what_is_trained, selection_metrics
from finrank.training.trainer import RankingTrainer, to_training_device, training_arguments

STAGE = "04_sft"
QUICK_STEPS = 4


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
    if config.task == "generation":
        raise UserError("task: generation in the config: train it with python 04_sft_train_generation.py")
    runs.refuse_several_devices()
    arguments = training_arguments(
        config, output_dir
    )  # a value that Trainer does not take ends here, before anything is loaded
    started = {
        "config": config.model_dump(mode="json"),
        "data": runs.data_hashes(input_dir),
        "init_model": str(find_model(init_model)) if init_model else None,
        "quick_test": quick_test,
    }
    available_splits(input_dir, expected="finqa_with_rewards")
    tokenizer = load_tokenizer(locate(config.base_model, config.base_model_sha256))
    splits = read_splits(input_dir, config.prompt, tokenizer, quick_test)
    set_seed(config.seed)
    model = CandidateRankingModel.new(pinned(config.ranker_settings()))
    if init_model:
        load_weights(model, find_model(init_model))
    to_training_device(model, arguments)
    route, scoring = model.training_routes([item.pool for item in splits["train"].encoded])
    say_what_is_trained(model, config, route, scoring)
    say_splits(splits)
    dataset = _answerable(splits["train"], config.seed)
    config = _filling_a_gpu(config, dataset, route.name, arguments)
    order = LengthBucketSampler(dataset, config.batch_size)
    say_batches(dataset, order, config.batch_size, config.tokens_per_pass, route.name, arguments.device)
    stage = (runs.unfinished_stage if resume else runs.new_stage)(output_dir, STAGE, started)
    say(f"writing to {stage}")
    with runs.lock_stage(stage):
        trainer = _make_trainer(model, config, stage, dataset, splits, tokenizer, (route.name, scoring), quick_test)
        facts = {"stage": "sft", **started, "seed": config.seed, "batch_size_on_device": config.batch_size}
        train_to_the_end(trainer, stage, splits, scoring, facts, began=began, resume=resume)
    return stage


def _answerable(train: Split, seed: int) -> PoolDataset:
    """The train pools with a correct candidate; says how many have none."""
    pools = [item for item in train.encoded if item.correct]
    if left_out := len(train.pools) - len(pools):
        say(f"{left_out} train pools without a correct candidate stay out of the loss")
    return PoolDataset(pools, seed)


def _filling_a_gpu(
    config: TrainingConfig, data: PoolDataset, route: RouteName, arguments: TrainingArguments
) -> TrainingConfig:
    """On a GPU, the config with accumulated batches joined until one fills it; a step learns from as many questions."""
    accumulation = arguments.gradient_accumulation_steps
    joined = 1
    if arguments.device.type == "cuda":
        joined = batches_to_join(data, config.batch_size, accumulation, config.tokens_per_pass, route)
    if joined == 1:
        return config
    size, times = config.batch_size * joined, accumulation // joined
    say(
        f"to keep the GPU busy, batches hold {size} questions, not {config.batch_size}, and gradients are accumulated "
        f"over {times} of them, not {accumulation}: a step learns from as many"
    )
    trainer = {**config.trainer, "gradient_accumulation_steps": times}
    return config.model_copy(update={"batch_size": size, "trainer": trainer})


def _make_trainer(
    model: CandidateRankingModel,
    config: TrainingConfig,
    stage: Path,
    dataset: PoolDataset,
    splits: dict[str, Split],
    tokenizer: Any,
    routes: tuple[RouteName, RouteName],
    quick_test: bool,
) -> RankingTrainer:
    quick = {"max_steps": QUICK_STEPS, "logging_steps": 1} if quick_test else {}
    callbacks: list[TrainerCallback] = []
    if config.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(config.early_stopping_patience))
    arguments = training_arguments(config, stage / runs.CHECKPOINTS, **quick)
    return RankingTrainer(
        model,
        arguments,
        dataset=dataset,
        tokenizer=tokenizer,
        route=routes[0],
        tokens_per_pass=config.tokens_per_pass,
        head_learning_rate=config.head_learning_rate or config.learning_rate,
        evaluator=selection_metrics(splits["selection"], routes[1]),
        callbacks=callbacks,
    )
