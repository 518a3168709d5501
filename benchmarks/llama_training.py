"""Training and PPO steps for `llama_8b_gpu.py`: the search for the best batches, then steps of all points in turns."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from llama_ppo import policy_step
from shared.llama_shapes import Bench, multiplying_parameters, packed_tokens, redundant_tokens

from finrank.ranker.attention.routes import RouteName
from finrank.ranker.model import CandidateRankingModel
from finrank.training.batches import LengthBucketSampler, PoolDataset, TrainingPool, collate
from finrank.training.config import PPOSettings
from finrank.training.losses import listwise_loss
from finrank.training.ppo.ppo import without_dropout
from finrank.training.trainer import scores_in_passes

WARM = 3
SEARCH_STEPS = 3  # timed at each size of the search, after one on the longest questions
EPOCH = 6251  # questions of FinQA's train split
ONE_PASS = 2**31  # tokens: a batch is never cut

Row = dict[str, Any]
PACKED: tuple[RouteName, ...] = ("mask", "split")
Estimator = Literal["sampled", "exact"]
ESTIMATORS: tuple[Estimator, ...] = ("sampled", "exact")
OTHER_REWARD = 0.3  # of random candidates that are not the correct one


@dataclass(frozen=True)
class Point:
    """How training steps are made: under a name, along a route, so many questions at once."""

    name: str
    route: RouteName
    questions: int
    checkpointing: bool
    estimator: Estimator | None = None
    """Of the policy gradient in a PPO step; None: a supervised step."""


def training_rows(bench: Bench, sizes: Sequence[int], steps: int) -> list[Row]:
    """The rows of all points: the search for the best batches, then steps in turns."""
    naive = [*search(bench, "naive", sizes, False), *search(bench, "naive", sizes[:-1], True)]
    points = [replace(best(naive), name="fastest")] if naive else []
    for route in PACKED:
        if found := search(bench, route, sizes, False):
            points.append(best(found))
    points += [Point("leanest", route, 1, True) for route in ("naive", *PACKED)]
    measured = take_turns(bench, points, steps)
    baseline = next(
        (
            measured[point]
            for point in points
            if (point.route, point.name) == ("naive", "fastest") and point in measured
        ),
        [],
    )
    return [training_row(bench, point, runs, baseline) for point, runs in measured.items()]


def ppo_rows(bench: Bench, steps: int) -> list[Row]:
    """The rows of PPO at the leanest point, for both estimators; the model has no dropout from here on."""
    without_dropout(bench.model)
    points = [Point("leanest", route, 1, True, estimator) for estimator in ESTIMATORS for route in PACKED]
    return [training_row(bench, point, runs, []) for point, runs in take_turns(bench, points, steps).items()]


def best(found: list[tuple[Point, float]]) -> Point:
    """The point with the highest rate."""
    return max(found, key=lambda item: item[1])[0]


def search(bench: Bench, route: RouteName, sizes: Sequence[int], checkpointing: bool) -> list[tuple[Point, float]]:
    """Points with their tokens a second, upward in questions until memory or time runs out."""
    found: list[tuple[Point, float]] = []
    seconds = 0.0
    for size in sizes:
        point = Point("fastest", route, size, checkpointing)
        what = f"training {route}, {size} questions per step{', checkpointing' if checkpointing else ''}"
        if not bench.fits(2.2 * seconds, what):
            break
        began = time.monotonic()
        rate = within_memory(lambda point=point: probe(bench, point))  # type: ignore[misc]
        if rate is None:
            bench.skip(f"{what}: out of memory")
            break
        seconds = time.monotonic() - began
        found.append((point, rate))
    return found


def within_memory(work: Callable[[], Any]) -> Any:
    """What `work` returns; None, with everything freed, where memory runs out."""
    try:
        return work()
    except torch.OutOfMemoryError:
        pass  # the traceback holds the activations: they are free only after this block
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def probe(bench: Bench, point: Point) -> float:
    """Tokens a second over a few steps, after one on the longest questions."""
    longest = sorted(bench.pools, key=lambda item: -item.pool.length)[: point.questions]
    train_step(bench, point, longest)
    stream = batches(bench, point.questions)
    return statistics.median(train_step(bench, point, next(stream))["tokens_per_s"] for _ in range(SEARCH_STEPS))


def batches(bench: Bench, questions: int) -> Iterator[list[TrainingPool]]:
    """Endless batches of questions of similar length, as finrank's trainer draws them."""
    data = PoolDataset(bench.pools, bench.seed)
    sampler = LengthBucketSampler(data, questions)
    while True:
        order = list(sampler)
        for start in range(0, len(order) - questions + 1, questions):
            yield [data[index] for index in order[start : start + questions]]
        sampler.set_epoch(data.epoch + 1)


def take_turns(bench: Bench, points: Sequence[Point], steps: int) -> dict[Point, list[Row]]:
    """Steps of each point in turns, after warm ones; a point that runs out of memory leaves."""
    streams = {point: batches(bench, point.questions) for point in points}
    runs: dict[Point, list[Row]] = {point: [] for point in points}
    seconds = 0.0
    for number in range(WARM + steps):
        began = time.monotonic()
        if not bench.fits(seconds, f"training steps of all points after {max(0, number - WARM)} of {steps}"):
            break
        for point in list(runs):
            step = within_memory(lambda point=point: train_step(bench, point, next(streams[point])))  # type: ignore[misc]
            if step is None:
                bench.skip(f"{point}: out of memory")
                del runs[point]
            elif number >= WARM:
                runs[point].append(step)
        seconds = time.monotonic() - began
    return {point: own for point, own in runs.items() if own}


def train_step(bench: Bench, point: Point, items: Sequence[TrainingPool]) -> Row:
    """One step: its seconds, tokens a second, and highest memory in bytes (None on a CPU)."""
    model, cuda = bench.model, bench.model.device.type == "cuda"
    set_checkpointing(model, point.checkpointing)
    bench.optimizer.zero_grad(set_to_none=True)  # also what a step out of memory left behind
    batch = collate(items)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    began = now(model)
    if point.estimator:
        ppo_step(bench, point, items)
    else:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=model.settings.dtype == "bfloat16"):
            scores_BN = scores_in_passes(model, batch["pools"], point.route, ONE_PASS)
        listwise_loss(scores_BN, batch["correct"].to(model.device)).backward()
        bench.optimizer.step()
    seconds = now(model) - began
    return {
        "step_s": seconds,
        "tokens_per_s": packed_tokens(batch["pools"]) / seconds,
        "redundant_tokens_per_s": redundant_tokens(batch["pools"], point.route) / seconds,
        "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
    }


def ppo_step(bench: Bench, point: Point, items: Sequence[TrainingPool]) -> None:
    """Rollout and updates as stage 05's default settings have them."""
    rewards = {item.pool.id: np.full(len(item.pool.candidates), OTHER_REWARD) for item in items}
    for item in items:
        rewards[item.pool.id][item.correct] = 1.0
    policy_step(
        bench.model,
        bench.optimizer,
        [item.pool for item in items],
        rewards,
        PPOSettings(estimator=point.estimator or "exact"),
        route=point.route,
        most=ONE_PASS,
        bf16=bench.model.settings.dtype == "bfloat16",
    )


def now(model: CandidateRankingModel) -> float:
    """The clock in seconds, once the device has done what it was given."""
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def set_checkpointing(model: CandidateRankingModel, wanted: bool) -> None:
    """Turn activation checkpointing on, as Trainer does, or off again."""
    base = model.encoder.get_base_model()
    if wanted and not base.is_activation_checkpointing:
        model.activation_checkpointing_enable()
    elif not wanted and base.is_activation_checkpointing:
        base.activation_checkpointing_disable()
        # Turned on, the embedding is hooked twice under peft, and transformers forgets the first hook.
        base.get_input_embeddings()._forward_hooks.clear()


def training_row(bench: Bench, point: Point, runs: Sequence[Row], baseline: Sequence[Row]) -> Row:
    """The figures of a point; ratios are of tokens a second, round by round."""
    rate, redundant = (middle(runs, name) for name in ("tokens_per_s", "redundant_tokens_per_s"))
    per_question = packed_tokens([item.pool for item in bench.pools]) / len(bench.pools)
    # Operations per token and second, as a share of the peak.
    share = (
        4 * multiplying_parameters(bench.model.encoder.get_base_model()) / (bench.peak_tflops * 1e12)
        if bench.peak_tflops and point.estimator is None
        else None
    )
    peak = max(run["peak_bytes"] for run in runs) if runs[0]["peak_bytes"] is not None else None
    return {
        "what": "PPO" if point.estimator else "training",
        "point": point.name,
        "estimator": point.estimator,
        "route": point.route,
        "questions": point.questions,
        "checkpointing": point.checkpointing,
        "repeats": len(runs),
        "seconds": middle(runs, "step_s"),
        "quartiles": quartiles([run["step_s"] for run in runs]),
        "questions_per_s": rate / per_question,
        "tokens_per_s": rate,
        "redundant_tokens_per_s": redundant,
        "utilisation": share * rate if share else None,
        "own_utilisation": share * (rate + redundant) if share else None,
        "peak_gib": peak / 2**30 if peak is not None else None,
        "epoch_min": EPOCH * per_question / rate / 60,
        **ratio_columns([a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(runs, baseline, strict=False)]),
    }


def middle(runs: Sequence[Row], name: str) -> float:
    """The median of a figure."""
    return float(statistics.median(run[name] for run in runs))


def quartiles(values: Sequence[float]) -> list[float]:
    """The lower and the upper one; of a single value, that value twice."""
    return [values[0]] * 2 if len(values) == 1 else statistics.quantiles(values, n=4, method="inclusive")[::2]


def ratio_columns(ratios: Sequence[float]) -> Row:
    """The median and the quartiles of ratios over naive; None without any."""
    if not ratios:
        return {"ratio": None, "ratio_quartiles": None}
    return {"ratio": statistics.median(ratios), "ratio_quartiles": quartiles(ratios)}
