"""The data of a ranker's training: the pools of each split, and how good a model is on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from finrank.console import console, say, warn
from finrank.errors import UserError
from finrank.evaluation.diagnose import diagnose
from finrank.evaluation.evaluate import evaluate_pools
from finrank.evaluation.report.screen import print_table, summary_line
from finrank.evaluation.result import Figures
from finrank.evaluation.survival import Truncation, encode_and_measure
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.encoding import LeftOut
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.scoring import score_pools
from finrank.records import RewardedPool
from finrank.store import load_records
from finrank.training.batches import TrainingPool
from finrank.training.losses import listwise_loss
from finrank.training.processes import gathered, share
from finrank.training.run import Run

_QUICK_POOLS = {"train": 32, "selection": 16, "dev": 16}  # of --quick_test: every step in two minutes on two cores
_LOST_NUMBERS_WARNING = 0.2  # share of the train questions that lose a number of their gold program to truncation


@dataclass(frozen=True)
class Split:
    """The pools of one split as records and as tokens, in the same order."""

    pools: list[RewardedPool]
    encoded: list[TrainingPool]
    truncation: Truncation
    left_out: LeftOut


def read_splits(run: Run, tokenizer: Any) -> dict[str, Split]:
    """Those of train, selection and dev that have pools; UserError without the first two."""
    splits = {}
    for name, quick_pools in _QUICK_POOLS.items():
        path = run.input_dir / f"{name}.jsonl"
        if path.is_file():
            pools = load_records(path, RewardedPool)[: quick_pools if run.quick_test else None]
            if not pools:
                continue
            encoded, truncation = encode_and_measure(pools, tokenizer, run.config.prompt, f"encoding {name}")
            items = [TrainingPool.of(tokens, pool.correct) for tokens, pool in zip(encoded, pools, strict=True)]
            splits[name] = Split(pools, items, truncation, LeftOut.of(pools, encoded))
    if "train" not in splits or not any(item.correct for item in splits["train"].encoded):
        raise UserError(f"{run.input_dir} has no train.jsonl with a correct candidate: there is nothing to learn from")
    if "selection" not in splits:
        raise UserError(
            f"{run.input_dir} has no selection.jsonl to choose the best checkpoint by: "
            "prepare the data with --selection_share above 0"
        )
    return splits


def left_out_facts(splits: dict[str, Split]) -> dict[str, Any]:
    """For the manifest: {"left_out": {"train": {"without_value", "too_long", "pools", "example"}, …}}."""
    return {"left_out": {name: asdict(split.left_out) for name, split in splits.items()}}


def say_splits(splits: dict[str, Split]) -> None:
    """Print number and length of the pools, and the share of the gold programs' numbers that the model sees."""
    for name, split in splits.items():
        truncation = split.truncation
        lengths = sorted(item.pool.length for item in split.encoded)
        say(f"{name}: {len(split.pools)} pools, median packed length {lengths[len(lengths) // 2]} tokens")
        if left_out := str(split.left_out):
            say(f"    {left_out}")
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


@dataclass(frozen=True)
class PoolMeasure:
    """Measures a model on the splits, scored on one attention route."""

    model: CandidateRankingModel
    splits: dict[str, Split]
    route: RouteName
    results: dict[str, Figures] = field(default_factory=dict)
    """What `of_the_best` measured, by split."""

    def scores(self, name: str, description: str = "") -> list[np.ndarray]:
        """Scores [candidates] of each pool of a split, in its order."""
        encoded = share([item.pool for item in self.splits[name].encoded])
        return gathered(score_pools(self.model, encoded, route=self.route, description=description))

    def on_selection(self) -> dict[str, float]:
        """accuracy, reward_ratio, average_reward and loss, also printed; UserError if scores are no longer finite."""
        split, scores = self.splits["selection"], self.scores("selection")
        of_encoded = [scores_N[item.pool.scored] for scores_N, item in zip(scores, split.encoded, strict=True)]
        if not all(np.isfinite(scores_N).all() for scores_N in of_encoded):
            raise UserError("training diverged: scores are not finite any more; lower learning_rate and train again")
        result = evaluate_pools(split.pools, scores)
        say(f"selection: {summary_line(result)}")
        names = ("accuracy", "reward_ratio", "average_reward")
        metrics: dict[str, Any] = {name: result.model.means[name] for name in names}
        # Accuracy moves in steps of one question; the loss shows progress between them.
        pairs = zip(of_encoded, split.encoded, strict=True)
        losses = [_loss(scores_N, item.correct) for scores_N, item in pairs if item.correct]
        return {**metrics, "loss": sum(losses) / max(len(losses), 1)}

    def of_the_best(self) -> dict[str, Any]:
        """The best model on selection and dev, for the manifest."""
        for name in ("selection", "dev"):
            if name in self.splits:
                self.results[name] = evaluate_pools(self.splits[name].pools, self.scores(name, f"evaluating {name}"))
        return {name: result.as_json() for name, result in self.results.items()}

    def show(self, step: str) -> None:
        """Print what `of_the_best` measured, and what looks wrong."""
        for name, result in self.results.items():
            print_table(result, title=f"{name}: {result.n} pools, best model (step {step})")
            for sentence in diagnose(result):
                warn(sentence)
        console.print()


def _loss(scores_N: np.ndarray, correct: list[int]) -> float:
    correct_1N = torch.zeros(1, len(scores_N), dtype=torch.bool)
    correct_1N[0, correct] = True
    return listwise_loss(torch.from_numpy(scores_N)[None], correct_1N).item()
