"""The GPU benchmark runs whole at toy size, counts tokens and parameters as it says, and survives full memory."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.training.batches import PoolDataset, TrainingPool, collate
from finrank.training.config import PPOSettings, load_config
from finrank.training.ppo.ppo import without_dropout
from finrank.training.ppo.ppo_trainer import PPOTrainer
from finrank.training.ppo.rollouts import PPOState
from finrank.training.trainer import Job, scores_in_passes, training_arguments
from tests.conftest import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"
ROUTES = ("naive", "mask", "split")


@pytest.fixture(scope="module")
def shapes() -> ModuleType:
    return load("shared.llama_shapes")


@pytest.fixture(scope="module")
def training() -> ModuleType:
    return load("llama_training")


def load(name: str) -> ModuleType:
    """A module of the benchmark, found as when the script runs."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def toy(shapes: ModuleType) -> Any:
    return shapes.make_bench("toy", torch.device("cpu"), 0, None, time.monotonic() + 600)


def test_the_benchmark_at_toy_size(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "benchmarks/llama_8b_gpu.py", "--shape", "toy", "--quick", "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    result = json.loads(report.read_text(encoding="utf-8"))
    rows = result["rows"]
    assert result["device"]
    assert result["skipped"] == []
    assert all(check["agrees"] and check["difference"] < 1e-4 for check in result["checks"])
    training = [row for row in rows if row["what"] == "training"]
    assert sorted((row["point"], row["route"]) for row in training) == sorted(
        (point, route) for point in ("fastest", "leanest") for route in ROUTES
    )
    ranking = [row for row in rows if row["what"] == "ranking"]
    assert [(row["candidates"], row["route"]) for row in ranking] == [
        (count, route) for count in (8, 100) for route in ("naive", "cached", "split", "mask")
    ]
    ppo = [row for row in rows if row["what"] == "PPO"]
    assert [(row["estimator"], row["route"]) for row in ppo] == [
        (estimator, route) for estimator in ("sampled", "exact") for route in ("mask", "split")
    ]
    assert all(row["point"] == "leanest" and row["checkpointing"] and row["questions"] == 1 for row in ppo)
    assert len(rows) == len(training) + len(ppo) + len(ranking)
    for row in rows:
        low, high = row["quartiles"]
        assert 0 < low <= row["seconds"] <= high
        assert row["ratio"] is None if row["what"] == "PPO" else row["ratio"] > 0
        assert (row["redundant_tokens_per_s"] > 0) == (row["route"] == "naive")
        assert row["route"] in done.stdout
    for row in training + ppo:
        assert row["utilisation"] is None  # no peak rate is known of a CPU
        assert row["checkpointing"] or row["point"] == "fastest"
        assert row["epoch_min"] == pytest.approx(6251 / row["questions_per_s"] / 60)
    assert all(row["ratio"] == 1 for row in ranking if row["route"] == "naive")


def test_the_real_shape_is_refused_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["llama_8b_gpu.py"])
    with pytest.raises(SystemExit, match="on a CPU give --shape toy"):
        load("llama_8b_gpu").main()


def test_tokens_of_naive_scoring(shapes: ModuleType) -> None:
    # 5 prefix tokens and candidates of 2, 3, 1; 4 prefix tokens and candidates of 2, 2.
    pools = [EncodedPool("a", [1] * 5, [[1] * 2, [1] * 3, [1]]), EncodedPool("b", [1] * 4, [[1] * 2, [1] * 2])]
    assert shapes.packed_tokens(pools) == 5 + 6 + 4 + 4
    assert shapes.redundant_tokens(pools, "naive") == 2 * 5 + 1 * 4
    assert [shapes.redundant_tokens(pools, route) for route in ("mask", "split", "cached")] == [0, 0, 0]
    alone = [one for pool in pools for one in pool.alone()]
    assert shapes.packed_tokens(pools) + shapes.redundant_tokens(pools, "naive") == shapes.packed_tokens(alone)


def test_parameters_of_the_real_shape(shapes: ModuleType) -> None:
    with torch.device("meta"):
        encoder = LlamaModel(LlamaConfig(**shapes.SHAPES["llama-3-8b"]))
    # Llama-3-8B has 8,030,261,248 parameters; embedding table and output layer are 128,256 x 4,096 each.
    assert shapes.multiplying_parameters(encoder) == 8_030_261_248 - 2 * 128_256 * 4_096


def test_adapters_do_not_count_as_the_bases_parameters(shapes: ModuleType) -> None:
    size = shapes.SHAPES["toy"]
    before = shapes.multiplying_parameters(LlamaModel(LlamaConfig(**size)))
    assert shapes.multiplying_parameters(toy(shapes).model.encoder.get_base_model()) == before


def test_utilisation(shapes: ModuleType, training: ModuleType) -> None:
    bench = toy(shapes)
    bench.peak_tflops = 2.0
    run = {"step_s": 0.5, "tokens_per_s": 300.0, "redundant_tokens_per_s": 100.0, "peak_bytes": 2**30}
    row = training.training_row(bench, training.Point("fastest", "naive", 1, False), [run], [run])
    parameters = shapes.multiplying_parameters(bench.model.encoder.get_base_model())
    assert row["utilisation"] == pytest.approx(4 * parameters * 300 / 2e12)
    assert row["own_utilisation"] == pytest.approx(4 * parameters * 400 / 2e12)
    assert row["peak_gib"] == 1
    assert row["ratio"] == 1


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("estimator", [None, "sampled", "exact"])
def test_a_step_changes_adapters_and_head_alone(
    shapes: ModuleType, training: ModuleType, route: str, checkpointing: bool, estimator: str | None
) -> None:
    bench = toy(shapes)
    before = {name: value.detach().clone() for name, value in bench.model.named_parameters()}
    training.train_step(bench, training.Point("any", route, 2, checkpointing, estimator), bench.pools[:2])
    changed = {name for name, value in bench.model.named_parameters() if not value.equal(before[name])}
    # The last bias moves all scores alike, and the softmax does not see it.
    trained = {name for name in before if "lora_" in name or name.startswith("score_head")} - {"score_head.3.bias"}
    assert changed - {"score_head.3.bias"} == trained


@pytest.mark.parametrize("estimator", ["sampled", "exact"])
def test_the_ppo_objective_is_that_of_stage_05(shapes: ModuleType, tmp_path: Path, estimator: str) -> None:
    """The trainer's loss on a batch, with the actions that it drew, is the benchmark's, once weights have moved."""
    llama_ppo = load("llama_ppo")
    bench = toy(shapes)
    without_dropout(bench.model)
    pools = [item.pool for item in bench.pools[:2]]
    items = [TrainingPool(pool, [0], list(range(len(pool.candidates)))) for pool in pools]
    rewards = {pool.id: np.linspace(1.0, 0.0, len(pool.candidates)) for pool in pools}
    uniform = {pool.id: np.full(len(pool.candidates), -np.log(len(pool.candidates))) for pool in pools}
    settings = PPOSettings(
        estimator=estimator, rollout_size=2, batch_size=2, kl_coefficient=0.3, entropy_coefficient=0.2
    )
    config = load_config(
        BENCHMARKS.parent / "configs/models/llama-3-8b.yaml", ["mixed_precision=float32", "trainer.max_steps=2"]
    )
    config = config.model_copy(update={"ppo": settings, "tokens_per_pass": 10**6, "early_stopping_patience": None})
    job = Job(config, bench.model, None, PoolDataset(items, 0), dict, lambda _: None, lambda _: None)
    arguments = training_arguments(config, tmp_path, activation_checkpointing=False)
    trainer = PPOTrainer(job, arguments, "split", rewards, PPOState(uniform, settings.kl_coefficient))
    trainer.compute_loss(bench.model, collate(items))  # draws the actions, from weights that move below
    with torch.no_grad():
        for value in bench.model.score_head.parameters():
            value.mul_(1.5)
    wanted = trainer.compute_loss(bench.model, collate(items))
    scores = scores_in_passes(bench.model, pools, "split", 10**6)
    state = trainer._ppo
    own = llama_ppo.policy_objective(scores, pools, rewards, state.old, state.actions, settings)
    assert -own.mean().item() == pytest.approx(wanted.item(), abs=1e-6)


@pytest.mark.parametrize("estimator", ["sampled", "exact"])
def test_a_ppo_step_rolls_out_once_and_updates_twice(
    shapes: ModuleType, training: ModuleType, monkeypatch: pytest.MonkeyPatch, estimator: str
) -> None:
    llama_ppo = load("llama_ppo")
    bench = toy(shapes)
    rollouts: list[int] = []
    log_policy = llama_ppo.log_policy

    def counted(model: Any, pools: Any, *more: Any, **options: Any) -> Any:
        rollouts.append(len(pools))
        return log_policy(model, pools, *more, **options)

    monkeypatch.setattr(llama_ppo, "log_policy", counted)
    steps: list[int] = []
    update = bench.optimizer.step
    monkeypatch.setattr(bench.optimizer, "step", lambda: (steps.append(1), update()))
    training.train_step(bench, training.Point("leanest", "mask", 2, True, estimator), bench.pools[:2])
    assert rollouts == ([2] if estimator == "sampled" else [])
    assert len(steps) == PPOSettings().epochs_per_rollout


def test_checkpointing_is_turned_off_again(shapes: ModuleType, training: ModuleType) -> None:
    bench = toy(shapes)
    base = bench.model.encoder.get_base_model()
    hooks = base.get_input_embeddings()._forward_hooks
    for _ in range(2):
        for wanted in (True, True, False):
            training.set_checkpointing(bench.model, wanted)
            assert base.is_activation_checkpointing == wanted
            assert bool(hooks) == wanted


def test_full_memory_ends_the_search_and_keeps_what_was_found(
    shapes: ModuleType, training: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = toy(shapes)
    tried: list[int] = []

    def step(bench: Any, point: Any, items: Any) -> dict[str, float]:
        tried.append(point.questions)
        if point.questions >= 4:
            raise torch.OutOfMemoryError("simulated")
        return {"tokens_per_s": 100.0 * point.questions}

    monkeypatch.setattr(training, "train_step", step)
    found = training.search(bench, "mask", (1, 2, 4, 8), False)
    assert [(point.questions, rate) for point, rate in found] == [(1, 100.0), (2, 200.0)]
    assert training.best(found).questions == 2
    assert max(tried) == 4
    assert bench.skipped == ["training mask, 4 questions per step: out of memory"]


def test_a_point_that_runs_out_of_memory_leaves_the_others(
    shapes: ModuleType, training: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = toy(shapes)

    def step(bench: Any, point: Any, items: Any) -> dict[str, float]:
        if point.route == "mask":
            raise torch.OutOfMemoryError("simulated")
        return {"tokens_per_s": 1.0}

    monkeypatch.setattr(training, "train_step", step)
    points = [training.Point("fastest", route, 1, False) for route in ("mask", "split")]
    runs = training.take_turns(bench, points, 5)
    assert {point.route: len(own) for point, own in runs.items()} == {"split": 5}


def test_without_time_left_nothing_starts(shapes: ModuleType, training: ModuleType) -> None:
    bench = toy(shapes)
    bench.ends = time.monotonic() - 1
    assert training.training_rows(bench, (1, 2), 3) == []
    assert len(bench.skipped) == 5  # a search for each route, naive's with checkpointing, and the turns


def test_goals() -> None:
    script = load("llama_8b_gpu")
    fast = {"what": "training", "point": "fastest", "questions_per_s": 20.0, "epoch_min": 5.2, "utilisation": 0.4}
    rows = [
        fast | {"route": "mask", "ratio": 4.6, "peak_gib": 70.0},
        fast | {"route": "naive", "questions_per_s": 30.0, "ratio": 1.0, "peak_gib": 70.0},
        {"what": "training", "point": "leanest", "route": "mask", "peak_gib": 19.0},  # 20.4 GB
        {"what": "PPO", "estimator": "sampled", "point": "leanest", "route": "mask", "peak_gib": 20.0},
        {"what": "PPO", "estimator": "sampled", "point": "leanest", "route": "split", "peak_gib": 24.0},
        {"what": "PPO", "estimator": "exact", "point": "leanest", "route": "mask", "peak_gib": 19.0},
    ]
    goals = script.goals(rows)
    assert [goal["met"] for goal in goals] == [True, False, True, False, True]
    assert goals[-1]["value"] == pytest.approx(20 * 2**30 / 1e9)
    over = fast | {"route": "split", "questions_per_s": 25.0, "ratio": 5.0, "utilisation": 0.5}
    assert script.goals([*rows, over | {"peak_gib": 74.6}])[1]["met"] is False  # 80.1 GB
    assert script.goals([*rows, over | {"peak_gib": 74.5}])[1]["met"] is True  # 79.99 GB
    assert script.goals([over | {"peak_gib": 74.6}])[1]["met"] is None
    assert script.goals(rows[:-1])[-1]["met"] is None  # of one estimator nothing is known
    assert [goal["met"] for goal in script.goals([])] == [None] * 5
