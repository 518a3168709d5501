"""The benchmark of levers leaves the model as it was, and sees a lever that computes something else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.llama import modeling_llama

from tests.helpers.scripts import load_benchmark, run_benchmark

steps, levers, script = map(load_benchmark, ("shared.llama_steps", "shared.levers", "levers_gpu"))


@pytest.fixture
def bench() -> Any:
    return steps.make_bench("toy", torch.device("cpu"), 0, None, time.monotonic() + 600)


def broken(model: Any) -> None:
    """As Liger puts its methods in place, with a feed-forward block that does nothing."""
    base = model.encoder.get_base_model()
    base.layers[0].mlp.forward = torch.zeros_like
    modeling_llama.apply_rotary_pos_emb = None


def test_a_lever_leaves_the_model_as_it_was(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(levers.LEVERS, "broken", broken)
    model, rotary = bench.learner.model, modeling_llama.apply_rotary_pos_emb
    layer = model.encoder.get_base_model().layers[0]
    before = [set(vars(module)) for module in model.modules()]
    with levers.using(model, "broken"):
        assert "forward" in vars(layer.mlp)
    with levers.using(model, "compile"):
        assert layer._compiled_call_impl is not None
    assert [set(vars(module)) for module in model.modules()] == before
    assert layer._compiled_call_impl is None
    assert modeling_llama.apply_rotary_pos_emb is rotary


def test_a_lever_that_computes_something_else_is_seen(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled(model: Any) -> None:
        mlp = model.encoder.get_base_model().layers[0].mlp
        forward = mlp.forward
        mlp.forward = lambda *args: 1.1 * forward(*args)

    monkeypatch.setitem(levers.LEVERS, "scaled", scaled)
    found = script.differences(bench, ["scaled", "compile"])
    assert found["scaled"] > 1e-3
    assert found["compile"] < 1e-5


def test_a_lever_that_fails_is_left_out(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unusable(model: Any) -> None:
        raise AttributeError("no such kernel\nlong story")

    monkeypatch.setitem(levers.LEVERS, "unusable", unusable)
    points = script.best_points(bench, [None, "unusable", "compile"], (1,))
    assert [point.lever for point in points] == [None, "compile"]
    assert script.differences(bench, ["unusable", "compile"]).keys() == {"compile"}
    assert bench.skipped == ["unusable: AttributeError: no such kernel"] * 2
    bench.ends = time.monotonic() - 1
    assert script.differences(bench, ["compile"]) == {}


def test_levers_that_this_machine_lacks_say_what_they_need(bench: Any) -> None:
    assert levers.why_not("liger", bench.learner.model) == "Liger Kernel needs a GPU"
    assert levers.why_not("compile", bench.learner.model) is None


@pytest.mark.slow
def test_the_whole_run(tmp_path: Path) -> None:
    result, _ = run_benchmark("levers_gpu", tmp_path / "report.json", "--shape", "toy")
    rows = {row["lever"]: row for row in result["rows"]}
    assert rows.keys() == {None, "compile", "budget"}
    assert rows[None]["ratio"] == 1
    assert all(row["repeats"] == 2 and row["ratio"] > 0 for row in rows.values())
    assert max(result["differences"].values()) < 1e-5
    assert result["skipped"] == ["liger: Liger Kernel needs a GPU"]
