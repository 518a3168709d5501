"""Supervised training of the ranker (stage 04).

The algorithm. Each question is one packed row: its prefix (question and the most relevant part of the page) and all its
candidates, which see the prefix and themselves. The encoder runs once, each candidate is pooled to a vector and scored
by a small MLP, and the loss is the listwise cross-entropy on the correct candidates of the pool
(`losses.listwise_loss`). Only LoRA adapters and the score head are trained; the base model stays frozen. After every
evaluation on the `selection` pages (train pages kept apart, so that dev stays clean) a checkpoint is kept; the one with
the best accuracy becomes `best_model`, the last state `final_model`.

Departures from ListNet (Cao et al. 2007) and LoRA (Hu et al. 2021):
    several correct     the loss is minus the log of their total probability, not a target distribution over them
    none correct        such pools stay out of the loss, and count as wrong in accuracy
    not scored          candidates without a value, or too long, stay out of the loss; the manifest counts them
    shuffled            candidates change places in each epoch, so that a position says nothing
    learning rate       the score head, which starts at random, may have another one
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from finrank.console import say, warn
from finrank.errors import UserError
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.base_model import pinned
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import find_model, load_weights, save_model
from finrank.ranker.settings import RankerSettings, locate
from finrank.ranker.tokenizer import load_tokenizer
from finrank.training.batches import LengthBucketSampler, PoolDataset, without_loss
from finrank.training.config import TrainingConfig
from finrank.training.data import PoolMeasure, Split, left_out_facts, read_splits, say_splits
from finrank.training.loop import Plan, Recipe
from finrank.training.memory import batches_to_join, say_batches
from finrank.training.processes import number_of_processes
from finrank.training.run import SFT_STAGE, Run, environment
from finrank.training.trainer import Job, RankingTrainer, use_bf16


def _settle(run: Run) -> Run:
    if run.config.task != "ranking":
        command = {"generation": "python 04_sft_train_generation.py", "proposing": "finrank proposer"}[run.config.task]
        raise UserError(f"task: {run.config.task} in the config: train it with {command}")
    start = find_model(run.start) if run.start else None
    return replace(run, start=start, facts={"init_model": str(start) if start else None})


def _build(run: Run, arguments: TrainingArguments) -> Plan:
    config = run.config
    tokenizer = load_tokenizer(locate(config.base_model, config.base_model_sha256))
    splits = read_splits(run, tokenizer)
    model = new_model(config, pinned(config.ranker_settings()), run.start, arguments.device)
    route, scoring = announced_routes(model, config, splits)
    dataset = PoolDataset([item for item in splits["train"].encoded if item.correct], config.seed)
    if left_out := len(splits["train"].encoded) - len(dataset):
        say(f"{left_out} train pools without a correct candidate stay out of the loss")
    config = _filling_a_gpu(config, dataset, route, arguments)
    say_batches(dataset, LengthBucketSampler(dataset, config.batch_size), config, route, arguments.device)
    measure = PoolMeasure(model, splits, scoring)
    job = ranking_job(config, tokenizer, dataset, measure)
    facts = {"batch_size_on_device": config.batch_size, **left_out_facts(splits)}
    return Plan(
        job, lambda arguments, _: RankingTrainer(job, arguments, route), measure.of_the_best, measure.show, facts=facts
    )


SFT = Recipe(SFT_STAGE, ("tokens_per_pass", "batch_size"), _settle, _build)


def new_model(
    config: TrainingConfig, settings: RankerSettings, start: Path | None, device: torch.device
) -> CandidateRankingModel:
    """A model on its device, which decides the attention route, with fresh adapters and head or those of `start`."""
    set_seed(config.seed)
    model = CandidateRankingModel.new(settings)
    if start:
        load_weights(model, start)
    if config.shard_base and number_of_processes() == 1:
        warn("shard_base: one process keeps the whole base; accelerate launch or torchrun starts several")
    elif config.shard_base:
        model.shard(device)
    if settings.quantization is None:  # a quantized base is placed when it is loaded
        model.to(device)
    return model


def ranking_job(config: TrainingConfig, tokenizer: Any, dataset: PoolDataset, measure: PoolMeasure) -> Job:
    """The job of training the measured model; its adapter and head are saved with the tokenizer."""
    model = measure.model
    save, load = partial(save_model, model, tokenizer), partial(load_weights, model)
    return Job(config, model, tokenizer, dataset, measure.on_selection, save, load, without_loss)


def announced_routes(
    model: CandidateRankingModel, config: TrainingConfig, splits: dict[str, Split]
) -> tuple[RouteName, RouteName]:
    """The attention routes of training and of scoring, after printing them, the device, the precision and sizes."""
    route, scoring = model.training_routes([item.pool for item in splits["train"].encoded])
    bf16, why = use_bf16(config)
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    everything = sum(value.numel() for value in model.parameters())
    device = environment()["device"]
    say(f"device: {device}; attention route: {route.name} in training ({route.reason}), {scoring} in scoring")
    say(f"precision: {'bfloat16 autocast' if bf16 else config.dtype} in training ({why}), float32 scores")
    say(
        f"base model: {config.base_model}, {config.dtype}, pooling {model.pooling}, "
        f"{trained:,} of {everything:,} parameters trained"
    )
    say_splits(splits)
    return route.name, scoring


def _filling_a_gpu(
    config: TrainingConfig, data: PoolDataset, route: RouteName, arguments: TrainingArguments
) -> TrainingConfig:
    """The config, for a GPU with accumulated batches joined until one fills it; the questions of a step stay."""
    if arguments.device.type != "cuda":
        return config
    accumulation = arguments.gradient_accumulation_steps
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
