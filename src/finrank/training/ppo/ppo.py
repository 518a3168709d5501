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

After each `1 / evaluations_per_epoch` of an epoch the model is measured on `selection`; the most accurate checkpoint
becomes `best_model`, unless the SFT model was at least as accurate: then that one does, and it is said.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, TrainingArguments, set_seed

from finrank.console import say
from finrank.errors import UserError
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.base_model import load_tokenizer
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import CONFIG, load_weights
from finrank.store import available_splits
from finrank.training import run as runs
from finrank.training import sft
from finrank.training.batches import PoolDataset, TrainingPool
from finrank.training.config import TrainingConfig
from finrank.training.loop import Start, train_to_the_end
from finrank.training.ppo.ppo_trainer import PPOTrainer, log_policy
from finrank.training.ppo.rollouts import PerCandidate, PPOState, RolloutSampler
from finrank.training.ppo.start import STAGE, run_to_join, sft_model_to_begin_with, with_the_models_settings
from finrank.training.settings import PPOSettings
from finrank.training.splits import Split, read_splits, say_batches, say_splits, say_what_is_trained, selection_metrics
from finrank.training.trainer import to_training_device, training_arguments

# Trainer arguments by which a step would no longer tell its rollout.
_NOT_FOR_ROLLOUTS = ("dataloader_drop_last", "ignore_data_skip", "auto_find_batch_size")


def train(
    config: TrainingConfig,
    input_dir: Path,
    output_dir: Path,
    *,
    sft_model: Path | None = None,
    base_model: str | None = None,
    quick_test: bool = False,
    resume: bool = False,
) -> Path:
    """Go on from an SFT model and give the stage directory `output_dir/run_NNN/05_ppo`, in the run of that model.

    Without `sft_model` it is the best model of the newest run in `output_dir` that trained this config's model.
    `base_model` gives another place for its base weights. Raises UserError for a missing SFT model, data or weights,
    nothing to resume, or memory that ran out.
    """
    began = time.monotonic()
    if config.task == "generation":
        raise UserError("task: generation in the config: stage 05 goes on from a ranking model, of 04_sft_train.py")
    runs.refuse_several_devices()
    start = sft_model_to_begin_with(config, output_dir, sft_model, base_model, quick_test=quick_test, resume=resume)
    config = with_the_models_settings(config, start, base_model)
    early = training_arguments(config, output_dir)  # a value that Trainer does not take ends here
    started = {
        "config": config.model_dump(mode="json"),
        "data": runs.data_hashes(input_dir),
        "sft_model": str(start),
        "sft_parts": json.loads((start / CONFIG).read_text(encoding="utf-8"))["parts"],
        "quick_test": quick_test,
    }
    available_splits(input_dir, expected="finqa_with_rewards")
    tokenizer = load_tokenizer(str(start))
    splits = read_splits(input_dir, config.prompt, tokenizer, quick_test)
    model = _policy(config, start, early)
    route, scoring = model.training_routes([item.pool for item in splits["train"].encoded])
    say(f"SFT model: {start}")
    say_what_is_trained(model, config, route, scoring)
    dataset, rewards = learnable(splits["train"], config.ppo, config.seed)
    say_splits(splits)
    order, size = RolloutSampler(dataset, config.ppo), config.ppo.batch_size
    say_batches(dataset, order, size, config.tokens_per_pass, route.name, early.device)
    if resume:
        stage = runs.unfinished_stage(output_dir, STAGE, started, unless="sft_model")
    else:
        stage = runs.new_stage(output_dir, STAGE, started, run_to_join(start, output_dir, quick_test=quick_test))
    say(f"writing to {stage}")
    with runs.lock_stage(stage):
        evaluator = selection_metrics(splits["selection"], scoring)
        arguments = _arguments(config, stage, RolloutSampler(dataset, config.ppo), quick_test)
        accuracy = evaluator(model)["accuracy"]
        checkpoint = runs.last_checkpoint(stage) if resume else None
        trainer = _make_trainer(
            model, config, arguments, dataset, rewards, tokenizer, route.name, evaluator, checkpoint
        )
        facts = {"stage": "ppo", **started, "seed": config.seed, "sft_selection_accuracy": accuracy}
        train_to_the_end(
            trainer, stage, splits, scoring, facts, began=began, resume=resume, start=Start(start, accuracy)
        )
    return stage


def _policy(config: TrainingConfig, sft_model: Path, arguments: TrainingArguments) -> CandidateRankingModel:
    """The SFT model where it will be trained, without dropout."""
    set_seed(config.seed)
    model = CandidateRankingModel.new(config.ranker_settings())
    load_weights(model, sft_model)
    without_dropout(model)
    to_training_device(model, arguments)
    return model


def _make_trainer(
    model: CandidateRankingModel,
    config: TrainingConfig,
    arguments: TrainingArguments,
    dataset: PoolDataset,
    rewards: PerCandidate,
    tokenizer: Any,
    route: RouteName,
    evaluator: Callable[[CandidateRankingModel], dict[str, float]],
    checkpoint: Path | None,
) -> PPOTrainer:
    pools = [item.pool for item in dataset.pools]
    most, patience = config.tokens_per_pass, config.early_stopping_patience
    if checkpoint:
        state = PPOState.load(checkpoint)
    else:
        reference = log_policy(model, pools, route, most, bf16=arguments.bf16, description="SFT policy on train")
        state = PPOState(reference, config.ppo.kl_coefficient)
    return PPOTrainer(
        model,
        arguments,
        settings=config.ppo,
        rewards=rewards,
        state=state,
        dataset=dataset,
        tokenizer=tokenizer,
        route=route,
        tokens_per_pass=most,
        evaluator=evaluator,
        callbacks=[EarlyStoppingCallback(patience)] if patience else [],
    )


def without_dropout(model: CandidateRankingModel) -> None:
    """Switch off every dropout of the model, in training mode too; its settings stay as they are."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def learnable(split: Split, settings: PPOSettings, seed: int) -> tuple[PoolDataset, PerCandidate]:
    """The train pools that can teach the policy something, and their rewards by id and stored candidate.

    Where all rewards are equal every action is as good as any other; those pools stay out, and are counted.
    """
    pools: list[TrainingPool] = []
    rewards: PerCandidate = {}
    for pool, item in zip(split.pools, split.encoded, strict=True):
        own = np.array(pool.rewards) if settings.reward == "graded" else np.zeros(len(pool.rewards))
        if settings.reward == "correct":
            own[pool.correct] = 1.0
        if np.ptp(own) > 0:
            pools.append(item)
            rewards[pool.id] = own
    if left_out := len(split.pools) - len(pools):
        say(f"{left_out} train pools stay out: all their candidates have the same reward")
    if not pools:
        raise UserError("no train pool has candidates of different rewards: there is nothing to learn")
    return PoolDataset(pools, seed), rewards


def _arguments(config: TrainingConfig, stage: Path, sampler: RolloutSampler, quick_test: bool) -> TrainingArguments:
    """Trainer's arguments: those of the config where they fit, those of its section `ppo` where both speak."""
    ppo = config.ppo
    if odd := [key for key in _NOT_FOR_ROLLOUTS if config.trainer.get(key)]:
        raise UserError(f"trainer.{odd[0]} in the config would take rollouts apart: leave it out for stage 05")
    steps = -(-len(sampler) // ppo.batch_size)
    values: dict[str, Any] = {"num_train_epochs": ppo.num_epochs, "gradient_accumulation_steps": 1}
    if not {"eval_strategy", "eval_steps"} & config.trainer.keys():
        values |= {"eval_strategy": "steps", "eval_steps": -(-steps // ppo.evaluations_per_epoch)}
    if quick_test:
        values |= {"max_steps": sft.QUICK_STEPS, "logging_steps": 1}
    own = config.model_copy(update={"learning_rate": ppo.learning_rate, "batch_size": ppo.batch_size})
    return training_arguments(own, stage / runs.CHECKPOINTS, **values)
