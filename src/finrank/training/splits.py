"""The data of a training run: the pools of each split as records and as tokens, and a model's measure on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finrank.console import say, warn
from finrank.errors import UserError
from finrank.evaluation.evaluate import evaluate_pools
from finrank.evaluation.report.screen import summary_line
from finrank.evaluation.survival import Truncation, encode_and_measure
from finrank.ranker.attention.routes import Route, RouteName
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.prompt import PromptSettings
from finrank.ranker.scoring import score_pools
from finrank.records import RewardedPool
from finrank.store import load_records
from finrank.training import run as runs
from finrank.training.batches import PoolDataset, TrainingPool, batch_plan, too_small_for_a_gpu
from finrank.training.config import TrainingConfig
from finrank.training.losses import mean_listwise_loss
from finrank.training.trainer import use_bf16

# --quick_test: enough to go through every step of the path, small enough for two minutes on two cores.
_QUICK_POOLS = {"train": 32, "selection": 16, "dev": 16}
# Above this share of questions that lose a gold number to truncation, the user is warned.
_LOST_NUMBERS_WARNING = 0.2


@dataclass(frozen=True)
class Split:
    """The pools of one split as records and as tokens, in the same order."""

    pools: list[RewardedPool]
    encoded: list[TrainingPool]
    truncation: Truncation

    @classmethod
    def of(cls, pools: list[RewardedPool], prompt: PromptSettings, tokenizer: Any, description: str) -> Split:
        """Encode the pools under a progress bar; raises UserError naming a question or candidate that cannot fit."""
        encoded, truncation = encode_and_measure(pools, tokenizer, prompt, description)
        items = [TrainingPool(tokens, pool.correct) for tokens, pool in zip(encoded, pools, strict=True)]
        return cls(pools, items, truncation)


def read_splits(input_dir: Path, prompt: PromptSettings, tokenizer: Any, quick_test: bool) -> dict[str, Split]:
    """The splits that training uses, of those that exist; UserError where there is nothing to learn or select from."""
    splits = {}
    for name, few in _QUICK_POOLS.items():
        path = input_dir / f"{name}.jsonl"
        if not path.is_file():
            continue
        pools = load_records(path, RewardedPool)
        if quick_test:
            pools = pools[:few]
        splits[name] = Split.of(pools, prompt, tokenizer, f"encoding {name}")
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


def say_what_is_trained(model: CandidateRankingModel, config: TrainingConfig, route: Route, scoring: RouteName) -> None:
    """Device, routes, precision and sizes, each with its reason."""
    bf16, why = use_bf16(config)
    say(
        f"device: {runs.environment()['device']}; attention route: {route.name} in training ({route.reason}), "
        f"{scoring} in scoring"
    )
    say(f"precision: {'bfloat16 autocast' if bf16 else config.dtype} in training ({why}), float32 scores")
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    everything = sum(value.numel() for value in model.parameters())
    say(
        f"base model: {model.settings.base_model}, {model.settings.dtype}, pooling {model.pooling}, "
        f"{trained:,} of {everything:,} parameters trained"
    )


def say_batches(
    data: PoolDataset, order: Iterable[int], batch_size: int, most: int, route: RouteName, device: torch.device
) -> None:
    """What a batch costs, and whether it is too little for the GPU that it runs on."""
    say(f"train batches: {batch_plan(data, order, batch_size, most, route)}")
    small = too_small_for_a_gpu(data, batch_size, most, route) if device.type == "cuda" else None
    if small:
        warn(small)


def say_splits(splits: dict[str, Split]) -> None:
    """How many pools there are, how long they are, and what of the gold programs' numbers the model gets to see."""
    for name, split in splits.items():
        truncation = split.truncation
        lengths = sorted(item.pool.length for item in split.encoded)
        say(f"{name}: {len(split.pools)} pools, median packed length {lengths[len(lengths) // 2]} tokens")
        if truncation.numbers_in_prefix is not None:
            say(
                f"    of the gold programs' numbers on the page {truncation.numbers_in_prefix:.1%} are in the prefix, "
                f"{truncation.numbers_reached:.1%} are there or named by a label"
            )
        lost = truncation.questions_losing_numbers or 0.0
        if name == "train" and lost > _LOST_NUMBERS_WARNING:
            warn(
                f"{lost:.0%} of the train questions lose a number that their gold program needs: raise "
                "prompt.max_length or prompt.context_tokens, or set prompt.labels=true"
            )


def selection_metrics(split: Split, route: RouteName) -> Callable[[CandidateRankingModel], dict[str, float]]:
    """What a trainer calls at every evaluation: accuracy, reward_ratio, average_reward and loss on this split.

    The function raises UserError when scores are not finite any more.
    """

    def evaluator(model: CandidateRankingModel) -> dict[str, float]:
        scores = score_split(model, split, route, description="")
        if not all(np.isfinite(own).all() for own in scores):
            raise UserError("training diverged: scores are not finite any more; lower learning_rate and train again")
        result = evaluate_pools(split.pools, scores)
        say(f"selection: {summary_line(result)}")
        metrics = {name: result[name] for name in ("accuracy", "reward_ratio", "average_reward")}
        # Accuracy moves in steps of one question; the loss shows progress between them.
        return {**metrics, "loss": mean_listwise_loss(scores, [pool.correct for pool in split.pools])}

    return evaluator


def score_split(model: CandidateRankingModel, split: Split, route: RouteName, description: str) -> list[np.ndarray]:
    """Scores [candidates] of each pool of a split, in its order."""
    encoded = [item.pool for item in split.encoded]
    return score_pools(model, encoded, route=route, description=description)
