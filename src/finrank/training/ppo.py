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
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.routes import RouteName, check_route, checked_route, choose_route
from finrank.ranker.saving import CONFIG, find_model, load_weights, read_settings
from finrank.ranker.settings import RankerSettings
from finrank.ranker.weights import load_tokenizer
from finrank.store import UserError, available_splits
from finrank.training import runs, sft
from finrank.training.config import TrainingConfig
from finrank.training.finish import Start, train_to_the_end
from finrank.training.pools import PoolDataset, TrainingPool, batch_plan
from finrank.training.ppo_trainer import PPOTrainer, log_policy
from finrank.training.rollouts import PerCandidate, PPOState, RolloutSampler
from finrank.training.settings import PPOSettings
from finrank.training.splits import Split, read_splits, say_splits, say_what_is_trained, selection_metrics
from finrank.training.trainer import training_arguments

STAGE = "05_ppo"
# Keys of a config that say how a model is run or fetched, not what it is.
_HOW_IT_RUNS = {"attention_route", "base_model_sha256", "quantization"}


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
    runs.refuse_several_devices()
    start = _sft_directory(sft_model) if sft_model else newest_sft_model(config, output_dir, quick_test=quick_test)
    config = _with_the_models_settings(config, start, base_model)
    training_arguments(config, output_dir)  # a value that Trainer does not take ends here, before anything is loaded
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
    set_seed(config.seed)
    model = CandidateRankingModel.new(config.ranker_settings())
    load_weights(model, start)
    without_dropout(model)
    most = max(len(pool.candidates) for pool in splits["train"].pools)
    route = checked_route(model, training=True, candidates=most)
    scoring = "naive" if route.name == "naive" else check_route(model, choose_route(model)).name
    say(f"SFT model: {start}")
    say_what_is_trained(model, config, route)
    dataset, rewards = learnable(splits["train"], config.ppo, config.seed)
    say_splits(splits, batch_plan(dataset, config.model_copy(update={"batch_size": config.ppo.batch_size}), route.name))
    if resume:
        stage = runs.unfinished_stage(output_dir, STAGE, started)
    else:
        stage = runs.new_stage(output_dir, STAGE, started, _run_of(start, output_dir))
    say(f"writing to {stage}")
    with runs.lock(stage):
        evaluator = selection_metrics(splits["selection"], scoring)
        arguments = _arguments(config, stage, RolloutSampler(dataset, config.ppo), quick_test)
        if config.quantization is None:
            model.to(arguments.device)  # before Trainer would: what the SFT policy gives is needed first
        accuracy = evaluator(model)["accuracy"]
        trainer = _make_trainer(model, config, arguments, dataset, rewards, tokenizer, route.name, evaluator)
        facts = {"stage": "ppo", **started, "seed": config.seed, "sft_selection_accuracy": accuracy}
        train_to_the_end(
            trainer, stage, splits, scoring, facts, began=began, resume=resume, start=Start(start, accuracy)
        )
    return stage


def _make_trainer(
    model: CandidateRankingModel,
    config: TrainingConfig,
    arguments: TrainingArguments,
    dataset: PoolDataset,
    rewards: PerCandidate,
    tokenizer: Any,
    route: RouteName,
    evaluator: Callable[[CandidateRankingModel], dict[str, float]],
) -> PPOTrainer:
    pools = [item.pool for item in dataset.pools]
    most, patience = config.tokens_per_pass, config.early_stopping_patience
    reference = log_policy(model, pools, route, most, bf16=arguments.bf16, description="SFT policy on train")
    return PPOTrainer(
        model,
        arguments,
        settings=config.ppo,
        rewards=rewards,
        state=PPOState(reference, config.ppo.kl_coefficient),
        dataset=dataset,
        tokenizer=tokenizer,
        route=route,
        tokens_per_pass=most,
        evaluator=evaluator,
        callbacks=[EarlyStoppingCallback(patience)] if patience else [],
    )


def _run_of(sft_model: Path, output_dir: Path) -> Path | None:
    """The run of this output folder that holds a model folder; None where it is not one of stage 04 in there."""
    stage = sft_model.parent
    inside = stage.name == sft.STAGE and stage.parents[1].resolve() == output_dir.resolve()
    return stage.parent if inside else None


def newest_sft_model(config: TrainingConfig, output_dir: Path, *, quick_test: bool) -> Path:
    """The best model of the newest finished SFT run that trained this config's model.

    Quick tests count only for a quick test. Raises UserError when there is none, saying what is different about the
    runs that there are.
    """
    others = []
    for run in reversed(runs.numbered_runs(output_dir)):
        directory = run / sft.STAGE / "best_model"
        manifest = run / sft.STAGE / runs.TRAINING_MANIFEST
        if not manifest.is_file() or not directory.is_dir():
            continue
        if json.loads(manifest.read_text(encoding="utf-8"))["quick_test"] and not quick_test:
            others.append(f"    {run} is a quick test")
        elif differing := _differing(config, read_settings(directory)):
            others.append(f"    {run} has other {', '.join(differing)} (take it all the same: --sft_model {run})")
        else:
            return directory
    lines = [
        f"No finished SFT model of this config in {output_dir}: train one first, with python 04_sft_train.py and the "
        "same --config, or name one with --sft_model DIR",
        *others,
    ]
    raise UserError("\n".join(lines))


def _sft_directory(sft_model: Path) -> Path:
    """The model folder meant: of a run it is that of stage 04, whatever came after."""
    stage = sft_model / sft.STAGE
    return find_model(stage if stage.is_dir() else sft_model)


def _differing(config: TrainingConfig, settings: RankerSettings) -> list[str]:
    """The keys by which a saved model is another one than the config's."""
    keys = [key for key in RankerSettings.model_fields if key not in _HOW_IT_RUNS]
    return [key for key in keys if getattr(config, key) != getattr(settings, key)]


def _with_the_models_settings(config: TrainingConfig, directory: Path, base_model: str | None) -> TrainingConfig:
    """The config with what defines the saved model taken from there, since weights fit nothing else."""
    saved = read_settings(directory)
    if differing := _differing(config, saved):
        say(f"{', '.join(differing)}: as in {directory}, not as in the config")
    kept = {key: getattr(saved, key) for key in RankerSettings.model_fields if key != "attention_route"}
    return config.model_copy(update={**kept, **({"base_model": base_model} if base_model else {})})


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
    for pool, item in zip(split.pools, split.encoded.pools, strict=True):
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
    steps = -(-len(sampler) // ppo.batch_size)
    values: dict[str, Any] = {
        "num_train_epochs": ppo.num_epochs,
        "gradient_accumulation_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": max(1, steps // ppo.evaluations_per_epoch),
    }
    if quick_test:
        values |= {"max_steps": sft.QUICK_STEPS, "logging_steps": 1}
    own = config.model_copy(update={"learning_rate": ppo.learning_rate, "batch_size": ppo.batch_size})
    return training_arguments(own, stage / runs.CHECKPOINTS, **values)
