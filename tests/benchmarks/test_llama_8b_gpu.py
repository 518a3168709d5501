"""The GPU benchmark counts tokens and parameters as documented, steps as stage 05 does, and survives full memory."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

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
from tests.helpers.scripts import load_benchmark

shapes, steps, tables, script = map(
    load_benchmark, ("shared.shapes", "shared.llama_steps", "shared.tables", "llama_8b_gpu")
)


@pytest.fixture
def bench() -> Any:
    return steps.make_bench("toy", torch.device("cpu"), 0, None, time.monotonic() + 600)


def test_tokens_of_naive_scoring() -> None:
    pools = [EncodedPool("a", [1] * 5, [[1] * 2, [1] * 3, [1]]), EncodedPool("b", [1] * 4, [[1] * 2, [1] * 2])]
    assert shapes.packed_tokens(pools) == 5 + 6 + 4 + 4
    assert shapes.redundant_tokens(pools, "naive") == 2 * 5 + 1 * 4
    assert [shapes.redundant_tokens(pools, route) for route in ("mask", "split", "cached")] == [0, 0, 0]
    alone = [one for pool in pools for one in pool.alone()]
    assert shapes.packed_tokens(pools) + shapes.redundant_tokens(pools, "naive") == shapes.packed_tokens(alone)


def test_parameters_that_multiply(bench: Any) -> None:
    with torch.device("meta"):
        encoder = LlamaModel(LlamaConfig(**shapes.SHAPES["llama-3-8b"]))
    # Llama-3-8B has 8,030,261,248 parameters; embedding table and output layer are 128,256 x 4,096 each.
    assert shapes.multiplying_parameters(encoder) == 8_030_261_248 - 2 * 128_256 * 4_096
    bare = LlamaModel(LlamaConfig(**shapes.SHAPES["toy"], vocab_size=shapes.TOY_VOCABULARY))
    adapted = bench.learner.model.encoder.get_base_model()  # its adapters do not count
    assert shapes.multiplying_parameters(adapted) == shapes.multiplying_parameters(bare)


def test_utilisation(bench: Any) -> None:
    bench.peak_tflops = 2.0
    run = {"seconds": 0.5, "tokens_per_s": 300.0, "redundant_tokens_per_s": 100.0, "peak_bytes": 2**30}
    row = steps.training_row(bench, steps.Point("fastest", "naive", 1, False), [run], [run])
    parameters = shapes.multiplying_parameters(bench.learner.model.encoder.get_base_model())
    assert row["utilisation"] == pytest.approx(4 * parameters * 300 / 2e12)
    assert row["own_utilisation"] == pytest.approx(4 * parameters * 400 / 2e12)
    assert row["peak_gib"] == 1
    assert row["ratio"] == 1


@pytest.mark.parametrize("route", ["naive", "mask", "split"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("estimator", [None, "sampled", "exact"])
def test_a_step_changes_adapters_and_head_alone(bench: Any, route: str, checkpointing: bool, estimator: Any) -> None:
    before = {name: value.detach().clone() for name, value in bench.learner.model.named_parameters()}
    steps.train_step(bench, steps.Point("any", route, 2, checkpointing, estimator), bench.pools[:2])
    changed = {name for name, value in bench.learner.model.named_parameters() if not value.equal(before[name])}
    # The last bias moves all scores alike, and the softmax does not see it.
    trained = {name for name in before if "lora_" in name or name.startswith("score_head")} - {"score_head.3.bias"}
    assert changed - {"score_head.3.bias"} == trained


@pytest.mark.parametrize("estimator", ["sampled", "exact"])
def test_the_ppo_objective_is_that_of_stage_05(bench: Any, tmp_path: Path, estimator: str) -> None:
    """The trainer's loss on a batch, with the actions that it drew, is the benchmark's, once weights have moved."""
    model = bench.learner.model
    without_dropout(model)
    pools = [item.pool for item in bench.pools[:2]]
    items = [TrainingPool(pool, [0], list(range(len(pool.candidates)))) for pool in pools]
    rewards = {pool.id: np.linspace(1.0, 0.0, len(pool.candidates)) for pool in pools}
    uniform = {pool.id: np.full(len(pool.candidates), -np.log(len(pool.candidates))) for pool in pools}
    overrides = ["mixed_precision=float32", "trainer.max_steps=2", f"ppo.estimator={estimator}", "ppo.rollout_size=2"]
    overrides += ["ppo.batch_size=2", "ppo.kl_coefficient=0.3", "ppo.entropy_coefficient=0.2"]
    config = load_config(shapes.CONFIGS / "llama-3-8b.yaml", overrides)
    unused = {"evaluate": dict, "save": lambda _: None, "load": lambda _: None}
    job = Job(config, model, None, PoolDataset(items, 0), **unused)
    arguments = training_arguments(config, tmp_path, activation_checkpointing=False)
    trainer = PPOTrainer(job, arguments, "split", rewards, PPOState(uniform, config.ppo.kl_coefficient))
    trainer.compute_loss(trainer.model, collate(items))  # draws the actions, from weights that move below
    with torch.no_grad():
        for value in model.score_head.parameters():
            value.mul_(1.5)
    expected = trainer.compute_loss(trainer.model, collate(items))
    scores = scores_in_passes(model, pools, "split", 10**6)
    rollout = (trainer._ppo.old, trainer._ppo.actions)
    objective = load_benchmark("shared.steps").policy_objective(scores, pools, rewards, rollout, config.ppo)
    assert -objective.mean().item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("estimator", ["sampled", "exact"])
def test_a_ppo_step_has_one_rollout(bench: Any, monkeypatch: pytest.MonkeyPatch, estimator: str) -> None:
    module = load_benchmark("shared.steps")
    rollouts, updates = Mock(wraps=module.log_policy), Mock(wraps=bench.learner.optimizer.step)
    monkeypatch.setattr(module, "log_policy", rollouts)
    monkeypatch.setattr(bench.learner.optimizer, "step", updates)
    steps.train_step(bench, steps.Point("leanest", "mask", 2, True, estimator), bench.pools[:2])
    assert rollouts.call_count == (1 if estimator == "sampled" else 0)
    assert updates.call_count == PPOSettings().epochs_per_rollout


def test_checkpointing_is_turned_off_again(bench: Any) -> None:
    base = bench.learner.model.encoder.get_base_model()
    hooks = base.get_input_embeddings()._forward_hooks
    for wanted in (True, True, False, True, False):
        steps.set_checkpointing(bench.learner.model, wanted)
        assert base.is_activation_checkpointing == wanted
        assert bool(hooks) == wanted


def test_full_memory_ends_the_search_and_keeps_earlier_points(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [*[{"tokens_per_s": 100.0}] * 4, *[{"tokens_per_s": 200.0}] * 4, torch.OutOfMemoryError("simulated")]
    monkeypatch.setattr(steps, "train_step", Mock(side_effect=outcomes))
    rates = steps.search(bench, "mask", (1, 2, 4, 8), False)
    assert {point.questions: rate for point, rate in rates.items()} == {1: 100.0, 2: 200.0}
    assert bench.skipped == ["training mask, 4 questions per step: out of memory"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("simulated"),
        RuntimeError("mha_graph.execute(handle, variant_pack, workspace_ptr.get()).is_good() INTERNAL ASSERT FAILED"),
    ],
)
def test_a_contender_that_runs_out_of_memory_leaves_the_others(bench: Any, error: RuntimeError) -> None:
    full = Mock(side_effect=error)
    runs = dict(bench.in_blocks({"mask": full, "split": lambda: {"seconds": 1.0}}, 5, "steps", warm=2))
    assert {name: len(rows) for name, rows in runs.items()} == {"split": 5}
    assert full.call_count == 1
    assert bench.skipped == ["mask: out of memory"]


def test_another_error_is_not_taken_for_full_memory(bench: Any) -> None:
    with pytest.raises(RuntimeError, match="illegal"):
        list(bench.in_blocks({"mask": Mock(side_effect=RuntimeError("an illegal memory access"))}, 2, "steps"))


def test_each_point_runs_in_two_blocks_and_the_order_is_reversed(bench: Any) -> None:
    ran: list[str] = []
    contenders = {name: lambda name=name: ran.append(name) or {"seconds": 1.0} for name in "ABC"}
    seen = [(name, len(runs)) for name, runs in bench.in_blocks(contenders, 3, "steps", warm=1)]
    assert "".join(ran) == "AAA" + "BBB" + "CCC" + "CC" + "BB" + "AA"
    assert seen == [("A", 2), ("B", 2), ("C", 2), ("C", 3), ("B", 3), ("A", 3)]


def test_a_block_ends_with_the_time_and_keeps_its_runs(bench: Any) -> None:
    def run() -> Any:
        bench.ends = time.monotonic() - 1
        return {"seconds": 1.0}

    assert dict(bench.in_blocks({"A": run, "B": run}, 10, "steps")) == {"A": [{"seconds": 1.0}]}
    assert bench.skipped[0] == "steps, A after 1 of 10: no time is left"


def test_each_part_has_its_share_of_the_time(bench: Any) -> None:
    ends = bench.ends
    with bench.within(0.5):
        assert bench.ends - time.monotonic() == pytest.approx(300, abs=5)
        with bench.within(0.1):
            assert bench.ends - time.monotonic() == pytest.approx(30, abs=5)
    assert bench.ends == ends


def test_rows_are_written_when_they_are_measured(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure in the middle of the second block of steps loses none of the first."""
    bench.report = tables.Report(tmp_path / "report.json")
    run = {"took_s": 1.0, "seconds": 1.0, "tokens_per_s": 9.0, "redundant_tokens_per_s": 0.0, "peak_bytes": None}
    outcomes = [*[run] * ((steps.WARM + 1) * 2), RuntimeError("the chip is on fire")]
    monkeypatch.setattr(steps, "train_step", Mock(side_effect=outcomes))
    points = [steps.Point("leanest", route, 1, True) for route in steps.PACKED]
    with pytest.raises(RuntimeError, match="on fire"):
        steps.measure_points(bench, points, 2, points[0])
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert [(row["route"], row["repeats"]) for row in rows] == [("mask", 1), ("split", 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_ratios_are_over_all_runs_of_naive(bench: Any) -> None:
    points = [steps.Point("fastest", route, 1, False) for route in ("naive", "mask")]
    steps.measure_points(bench, points, 2, points[0])
    naive, mask = bench.report.rows
    assert (naive["repeats"], mask["repeats"], naive["ratio"]) == (2, 2, 1)
    assert mask["ratio_quartiles"][0] <= mask["ratio"] <= mask["ratio_quartiles"][1]


def test_without_time_left_nothing_starts(bench: Any) -> None:
    bench.ends = time.monotonic() - 1
    steps.measure_training(bench, (1, 2), 3)
    script.measure_ranking(bench, (8,), 3)
    assert bench.report.rows == []
    assert len(bench.skipped) == 4 + 2 * 3 + 4  # searches, naive's with checkpointing; blocks of 3 points; routes


def test_goals() -> None:
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
    with_over = [script.goals([*rows, over | {"peak_gib": peak}]) for peak in (74.6, 74.5)]  # 80.1 and 79.99 GB
    assert [goals[1]["met"] for goals in with_over] == [False, True]
    assert script.goals([over | {"peak_gib": 74.6}])[1]["met"] is None
    assert script.goals(rows[:-1])[-1]["met"] is None  # one estimator was not measured
    assert [goal["met"] for goal in script.goals([])] == [None] * 5
