"""Reinforcement learning over candidate pools (stage 05): PPO on a bandit whose rewards are all known.

The algorithm. The policy is the softmax over a pool's scores; it begins as the SFT model of stage 04. An episode is one
pool, the action a candidate, the return its reward. Pools are taken in rollouts of `rollout_size`. With
`estimator: sampled` the policy of the moment draws `samples_per_pool` candidates of each pool; then
`epochs_per_rollout` times, in batches, each batch one update:

    maximise   mean over pools and draws of  min(ratio A, clip(ratio, 1 - c, 1 + c) A)        A = r(a) - E_old[r]
               + entropy_coefficient * entropy  -  kl_coefficient * KL(policy || SFT policy)

(Schulman et al. 2017, Proximal Policy Optimization Algorithms; the KL penalty and its adaptive coefficient after
Ziegler et al. 2019, Fine-Tuning Language Models from Human Preferences). With `estimator: exact` the first line is
E_policy[r] itself, summed over all candidates: nothing is drawn, nothing needs a ratio or a clip.

Departures from PPO for language models:
    one step per episode    no discount, no advantage estimation over time
    exact baseline          E_old[r] is a sum over candidates; a value head would only estimate it
    exact KL and entropy    sums over candidates, as terms of the loss, not as a penalty on sampled rewards
    no second model         the SFT policy is kept as its log-probabilities, one number per candidate
    no dropout              in rollouts and updates alike: a ratio then says what the update did, and nothing else

`evaluations_per_epoch` times the model is measured on `selection`; the most accurate checkpoint becomes `best_model`,
unless the SFT model was at least as accurate: then that one does.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainingArguments

from finrank.console import say
from finrank.errors import UserError
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import CONFIG
from finrank.ranker.tokenizer import load_tokenizer
from finrank.training.batches import PoolDataset, TrainingPool
from finrank.training.config import PPOSettings
from finrank.training.data import PoolMeasure, Split, left_out_facts, read_splits
from finrank.training.loop import Plan, Recipe
from finrank.training.memory import say_batches
from finrank.training.ppo.ppo_trainer import PPOTrainer, log_policy
from finrank.training.ppo.rollouts import PerCandidate, PPOState, RolloutSampler
from finrank.training.ppo.start import run_to_join, sft_model_to_begin_with, with_the_models_settings
from finrank.training.processes import number_of_processes
from finrank.training.run import PPO_STAGE, Run
from finrank.training.sft import announced_routes, new_model, ranking_job

_NOT_FOR_ROLLOUTS = ("dataloader_drop_last", "ignore_data_skip", "auto_find_batch_size")  # they move steps in rollouts


def _settle(run: Run) -> Run:
    if run.config.task != "ranking":
        task = run.config.task
        raise UserError(f"task: {task} in the config: stage 05 continues a ranking model, of 04_sft_train.py")
    for key in _NOT_FOR_ROLLOUTS:
        if run.config.trainer.get(key):
            raise UserError(f"trainer.{key} in the config would take rollouts apart: leave it out for stage 05")
    start = sft_model_to_begin_with(run)
    parts = json.loads((start / CONFIG).read_text(encoding="utf-8"))["parts"]
    facts = {"sft_model": str(start), "sft_parts": parts}
    config, join = with_the_models_settings(run, start), run_to_join(start, run)
    return replace(run, config=config, start=start, join=join, facts=facts)


def _build(run: Run, arguments: TrainingArguments) -> Plan:
    assert run.start is not None
    settings = run.config.ppo
    tokenizer = load_tokenizer(str(run.start))
    splits = read_splits(run, tokenizer)
    say(f"SFT model: {run.start}")
    model = new_model(run.config, run.config.ranker_settings(), run.start, arguments.device)
    without_dropout(model)
    route, scoring = announced_routes(model, run.config, splits)
    dataset, rewards = learnable(splits["train"], settings, run.config.seed)
    of_ppo = {"learning_rate": settings.learning_rate, "head_learning_rate": None, "batch_size": settings.batch_size}
    config = run.config.model_copy(update=of_ppo)
    order = RolloutSampler(dataset, settings)
    of_a_process = pools_per_process(len(dataset), settings.batch_size)
    say_batches(dataset, order, config.model_copy(update={"batch_size": of_a_process}), route, arguments.device)
    measure = PoolMeasure(model, splits, scoring)
    job = ranking_job(config, tokenizer, dataset, measure)

    def make_trainer(arguments: TrainingArguments, checkpoint: Path | None) -> PPOTrainer:
        if checkpoint:
            return PPOTrainer(job, arguments, route, rewards, PPOState.load(checkpoint))
        pools, tokens = [item.pool for item in dataset.pools], config.tokens_per_pass
        reference = log_policy(model, pools, route, tokens, bf16=arguments.bf16, description="SFT policy on train")
        return PPOTrainer(job, arguments, route, rewards, PPOState(reference, settings.kl_coefficient))

    overrides: dict[str, Any] = {
        "num_train_epochs": settings.num_epochs,
        "gradient_accumulation_steps": 1,
        "per_device_train_batch_size": of_a_process,
    }
    if not {"eval_strategy", "eval_steps"} & config.trainer.keys():
        steps = math.ceil(len(order) / settings.batch_size)
        overrides |= {"eval_strategy": "steps", "eval_steps": math.ceil(steps / settings.evaluations_per_epoch)}
    facts = left_out_facts(splits)
    return Plan(job, make_trainer, measure.of_the_best, measure.show, overrides, facts, start=run.start)


PPO = Recipe(PPO_STAGE, ("tokens_per_pass", "ppo.batch_size"), _settle, _build)


def pools_per_process(pools: int, batch_size: int) -> int:
    """Pools of an update in each process; UserError where several processes do not share updates evenly."""
    processes = number_of_processes()
    if batch_size % processes:
        raise UserError(f"ppo.batch_size {batch_size} must be a multiple of the {processes} processes that share it")
    if processes > 1 and pools < batch_size:
        raise UserError(f"{pools} train pools do not fill ppo.batch_size {batch_size}: lower it, or use one process")
    return batch_size // processes


def without_dropout(model: CandidateRankingModel) -> None:
    """Switch off every dropout of the model, in training mode too; its settings stay as they are."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def learnable(split: Split, settings: PPOSettings, seed: int) -> tuple[PoolDataset, PerCandidate]:
    """The train pools whose rewards differ, and these rewards; prints how many pools stay out.

    Candidates that are not scored stay out: nothing chooses them.
    """
    pools: list[TrainingPool] = []
    rewards: PerCandidate = {}
    for pool, item in zip(split.pools, split.encoded, strict=True):
        rewards_N = np.array(pool.rewards)
        if settings.reward == "correct":
            rewards_N = np.isin(np.arange(len(rewards_N)), pool.correct).astype(np.float64)
        rewards_N = rewards_N[item.pool.scored]
        if len(rewards_N) > 1 and np.ptp(rewards_N) > 0:
            pools.append(item)
            rewards[pool.id] = rewards_N
    if left_out := len(split.pools) - len(pools):
        say(f"{left_out} train pools stay out: all their candidates have the same reward")
    if not pools:
        raise UserError("no train pool has candidates of different rewards: there is nothing to learn")
    return PoolDataset(pools, seed), rewards
