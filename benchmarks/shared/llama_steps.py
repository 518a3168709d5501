"""Training and PPO steps of `llama_8b_gpu.py`: the search for the best batches, then blocks of steps of each point."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count, islice
from typing import Literal, TypeVar

import numpy as np
import torch
from shared import shapes
from shared.device_memory import free_memory, within_memory
from shared.levers import using
from shared.steps import Learner
from shared.tables import Report, Row
from shared.timing import quartiles
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaModel

from finrank.ranker.attention.routes import RouteName
from finrank.ranker.model import CandidateRankingModel
from finrank.training.batches import LengthBucketSampler, PoolDataset, TrainingPool
from finrank.training.config import PPOSettings, load_config
from finrank.training.ppo.ppo import without_dropout

WARM = 3
SEARCH_SHARE = 0.5  # of the time for training
SEARCH_STEPS = 3  # timed at each size of the search, after one on the longest questions
EPOCH = 6251  # questions of FinQA's train split
PACKED: tuple[RouteName, ...] = ("mask", "split")
Estimator = Literal["sampled", "exact"]
ESTIMATORS: tuple[Estimator, ...] = ("sampled", "exact")
OTHER_REWARD = 0.3  # of random candidates other than the correct one

K = TypeVar("K")


@dataclass(frozen=True)
class Point:
    """How training steps are made: along which route, and so many questions at once."""

    point: str
    """fastest or leanest."""
    route: RouteName
    questions: int
    checkpointing: bool
    estimator: Estimator | None = None
    """Of the policy gradient in a PPO step; None: a supervised step."""
    lever: str | None = None
    """What makes its layers cheaper (levers.py); None: nothing."""


@dataclass
class Bench:
    """Model, pools and limits that all measurements share."""

    learner: Learner
    pools: list[TrainingPool]
    seed: int
    peak_tflops: float | None
    ends: float
    """Deadline of what is being measured on the monotonic clock, in seconds."""
    report: Report = field(default_factory=lambda: Report(None))
    skipped: list[str] = field(default_factory=list)

    @contextmanager
    def within(self, share: float) -> Iterator[None]:
        """Inside, the deadline is that of a share of the time that is left; what it leaves is there for the others."""
        ends, now = self.ends, time.monotonic()
        self.ends = now + share * max(ends - now, 0)
        try:
            yield
        finally:
            self.ends = ends

    def fits(self, seconds: float, what: str) -> bool:
        """True if so much time is left; else `what` is noted as skipped."""
        left = self.ends - time.monotonic()
        if seconds > left:
            self.skip(f"{what}: about {seconds:.0f} s, of which {max(left, 0):.0f} s are left")
        return seconds <= left

    def skip(self, why: str) -> None:
        """Record and print a measurement that is left out, and why."""
        self.skipped.append(why)
        print(f"left out: {why}", flush=True)

    def in_blocks(
        self, contenders: Mapping[K, Callable[[], Row]], count: int, what: str, *, warm: int = 0
    ) -> Iterator[tuple[K, list[Row]]]:
        """A contender and all its runs, `count` in the end, after each block of its runs; the order is A B B A.

        In a block a contender runs alone, first `warm` times without being timed: contenders of other sizes in between
        would leave memory in pieces that do not fit. One that runs out of memory leaves. Without time nothing starts.
        """
        runs: dict[K, list[Row]] = {name: [] for name in contenders}
        seconds = dict.fromkeys(contenders, 0.0)
        blocks = [(name, (count + 1) // 2) for name in contenders] + [
            (name, count // 2) for name in [*contenders][::-1]
        ]
        for name, length in blocks:
            if name not in runs or not length:
                continue
            if not self.fits((warm + length) * seconds[name], f"{what}, {name} after {len(runs[name])} of {count}"):
                continue
            free_memory()
            for number in range(warm + length):
                began = time.monotonic()
                run = within_memory(contenders[name])
                seconds[name] = time.monotonic() - began
                if run is None:
                    self.skip(f"{name}: out of memory")
                    del runs[name]
                    break
                if number >= warm:
                    runs[name].append(run)
                if time.monotonic() > self.ends and number + 1 < warm + length:
                    self.skip(f"{what}, {name} after {len(runs[name])} of {count}: no time is left")
                    break
            if runs.get(name):
                yield name, runs[name]


def make_bench(shape: str, device: torch.device, seed: int, peak: float | None, ends: float) -> Bench:
    """Model, optimizer and pools of a shape; the weights are made on the device."""
    torch.manual_seed(seed)
    overrides = ["dtype=float32"] if device.type == "cpu" else []
    settings = load_config(shapes.CONFIGS / "llama-3-8b.yaml", overrides).ranker_settings()
    rope = {"rope_type": "default", "rope_theta": 500000.0}
    config = LlamaConfig(**{"vocab_size": shapes.TOY_VOCABULARY, **shapes.SHAPES[shape]}, rope_parameters=rope)
    with shapes.weights_in(settings.dtype, device):
        encoder = LlamaModel(config).requires_grad_(False)
    model = CandidateRankingModel.new(settings, encoder).train()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:  # LoRA starts with B = 0, where a route that drops the adapters would look right
                value.normal_(std=0.01)
    learner = Learner(model, bf16=settings.dtype == "bfloat16")
    pools = shapes.random_pools(config.vocab_size, seed, shapes.TOY_SHRINK if shape == "toy" else 1)
    return Bench(learner, pools, seed, peak, ends)


def measure_training(bench: Bench, sizes: Sequence[int], steps: int) -> None:
    """The rows of all points: the search for the best batches, then blocks of steps."""
    fastest = []
    with bench.within(SEARCH_SHARE):
        for number, route in enumerate(routes := ("naive", *PACKED)):
            with bench.within(1 / (len(routes) - number)):
                rates = search(bench, route, sizes, False)
                if route == "naive":
                    rates |= search(bench, route, sizes[:-1], True)
            if rates:
                fastest.append(max(rates, key=lambda point: rates[point]))
    leanest = [Point("leanest", route, 1, True) for route in ("naive", *PACKED)]
    naive = next((point for point in fastest if point.route == "naive"), None)
    measure_points(bench, [*fastest, *leanest], steps, naive)


def measure_ppo(bench: Bench, steps: int) -> None:
    """The rows of PPO at the leanest point, for both estimators; the model has no dropout from here on."""
    without_dropout(bench.learner.model)
    points = [Point("leanest", route, 1, True, estimator) for estimator in ESTIMATORS for route in PACKED]
    measure_points(bench, points, steps, None)


def measure_points(bench: Bench, points: Sequence[Point], steps: int, baseline: Point | None) -> None:
    """Blocks of each point's steps; ratios are over the baseline's."""

    def stepper(point: Point) -> Callable[[], Row]:
        stream = batches(bench, point.questions)
        return lambda: train_step(bench, point, next(stream))

    steppers = {point: stepper(point) for point in points}
    runs_of: dict[Point, list[Row]] = {}

    def put(point: Point, *, printed: bool) -> None:
        over = runs_of.get(baseline, []) if baseline else []
        bench.report.put(training_row(bench, point, runs_of[point], over), point, printed=printed)

    for point, runs in bench.in_blocks(steppers, steps, "training steps", warm=WARM):
        runs_of[point] = runs
        put(point, printed=True)
    for point in runs_of:  # the ratio of all runs: the baseline has had its second block last
        put(point, printed=False)


def search(
    bench: Bench, route: RouteName, sizes: Sequence[int], checkpointing: bool, lever: str | None = None
) -> dict[Point, float]:
    """Points with their tokens a second, upward in questions until memory or time runs out."""
    rates: dict[Point, float] = {}
    seconds = 0.0
    for size in sizes:
        point = Point("fastest", route, size, checkpointing, lever=lever)
        means = ", ".join(filter(None, [lever, "checkpointing" if checkpointing else None]))
        what = f"training {route}, {size} questions per step{means and ', '}{means}"
        if not bench.fits(2.2 * seconds, what):
            break
        began = time.monotonic()
        rate = within_memory(partial(probe, bench, point))
        if rate is None:
            bench.skip(f"{what}: out of memory")
            break
        seconds = time.monotonic() - began
        rates[point] = rate
    return rates


def probe(bench: Bench, point: Point) -> float:
    """Tokens a second over a few steps, after one on the longest questions."""
    train_step(bench, point, sorted(bench.pools, key=lambda item: -item.pool.length)[: point.questions])
    batch = islice(batches(bench, point.questions), SEARCH_STEPS)
    return statistics.median(train_step(bench, point, items)["tokens_per_s"] for items in batch)


def batches(bench: Bench, questions: int) -> Iterator[list[TrainingPool]]:
    """Endless batches of questions of similar length, as finrank's trainer draws them."""
    data = PoolDataset(bench.pools, bench.seed)
    sampler = LengthBucketSampler(data, questions)
    loader = DataLoader(data, questions, sampler=sampler, drop_last=True, collate_fn=list)
    for epoch in count():
        sampler.set_epoch(epoch)
        yield from loader


def train_step(bench: Bench, point: Point, items: Sequence[TrainingPool]) -> Row:
    """The figures of one step; PPO's has the default settings of stage 05."""
    learner, pools = bench.learner, [item.pool for item in items]
    set_checkpointing(learner.model, point.checkpointing)
    learner.optimizer.zero_grad()  # a step out of memory leaves gradients behind
    step = partial(learner.supervised_step, items, point.route)
    if point.estimator:
        rewards = {pool.id: np.full(len(pool.candidates), OTHER_REWARD) for pool in pools}
        for item in items:
            rewards[item.pool.id][item.correct] = 1.0
        step = partial(learner.policy_step, pools, rewards, PPOSettings(estimator=point.estimator), point.route)
    with using(learner.model, point.lever):
        return measured(learner.model, step, shapes.packed_tokens(pools), shapes.redundant_tokens(pools, point.route))


def measured(
    model: CandidateRankingModel, work: Callable[[], object], tokens: int, redundant: int, share: float = 1.0
) -> Row:
    """The figures of one run of `work`; where that is a share of the work that counts, seconds are scaled up."""
    cuda = model.device.type == "cuda"
    wait = torch.cuda.synchronize if cuda else lambda: None
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    wait()
    began = time.perf_counter()
    work()
    wait()
    took = time.perf_counter() - began
    return {
        "took_s": took,
        "seconds": took / share,
        "tokens_per_s": tokens * share / took,
        "redundant_tokens_per_s": redundant * share / took,
        "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
    }


def figures(runs: Sequence[Row], baseline: Sequence[Row]) -> Row:
    """The figures that all rows have; ratios are of tokens a second over the baseline's, round by round."""
    medians = ("seconds", "tokens_per_s", "redundant_tokens_per_s")
    ratios = [run["tokens_per_s"] / other["tokens_per_s"] for run, other in zip(runs, baseline, strict=False)]
    peaks = [run["peak_bytes"] for run in runs if run["peak_bytes"] is not None]
    return {
        "repeats": len(runs),
        **{name: statistics.median(run[name] for run in runs) for name in medians},
        "quartiles": quartiles([run["seconds"] for run in runs]),
        "peak_gib": max(peaks) / 2**30 if peaks else None,
        "ratio": statistics.median(ratios) if ratios else None,
        "ratio_quartiles": quartiles(ratios) if ratios else None,
    }


def training_row(bench: Bench, point: Point, runs: Sequence[Row], baseline: Sequence[Row]) -> Row:
    """The row of a point: its own fields, and the figures."""
    row = {"what": "PPO" if point.estimator else "training", **asdict(point), **figures(runs, baseline)}
    rate, redundant = row["tokens_per_s"], row["redundant_tokens_per_s"]
    per_question = shapes.packed_tokens([item.pool for item in bench.pools]) / len(bench.pools)
    share = None  # of the peak, per token and second
    if bench.peak_tflops and point.estimator is None:
        parameters = shapes.multiplying_parameters(bench.learner.model.encoder.get_base_model())
        share = 4 * parameters / (bench.peak_tflops * 1e12)
    return {
        **row,
        "questions_per_s": rate / per_question,
        "utilisation": share * rate if share else None,
        "own_utilisation": share * (rate + redundant) if share else None,
        "epoch_min": EPOCH * per_question / rate / 60,
    }


def set_checkpointing(model: CandidateRankingModel, wanted: bool) -> None:
    """Turn activation checkpointing on, as Trainer does, or off again."""
    base = model.encoder.get_base_model()
    if wanted and not base.is_activation_checkpointing:
        model.activation_checkpointing_enable()
    elif not wanted and base.is_activation_checkpointing:
        base.activation_checkpointing_disable()
        # Turned on, the embedding is hooked twice under peft, and transformers forgets the first hook.
        base.get_input_embeddings()._forward_hooks.clear()
