"""The benchmarks of stage 05: the gradients by hand, and both commands run whole on tiny models."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.pools import write_pools
from tests.tiny import save_tiny_base

BENCHMARKS = REPOSITORY / "benchmarks"


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("ppo_gradients")


def test_pulls_of_two_candidates_by_hand(gradients: ModuleType) -> None:
    right = 1 / (1 + math.exp(4))  # of the correct candidate, four behind the wrong one
    probability, sft, exact = gradients.pulls(np.array([0.0, 4.0]), [0], [1.0, 0.0])
    assert probability == pytest.approx(right)
    assert sft == pytest.approx(math.sqrt(2) * (1 - right))  # (1 - π) up for the one, down for the other
    assert exact == pytest.approx(math.sqrt(2) * right * (1 - right))  # π (1 - E[r]), and -π E[r] of the other


def test_an_indifferent_reward_does_not_pull(gradients: ModuleType) -> None:
    _, sft, exact = gradients.pulls(np.array([1.0, 3.0, 2.0]), [2], [0.5, 0.5, 0.5])
    assert sft > 0.5
    assert exact == pytest.approx(0, abs=1e-12)


def test_pools_are_counted_once_each_by_probability(gradients: ModuleType) -> None:
    found = [(0.0, 1.0, 0.0), (0.01, 1.0, 0.1), (0.3, 0.5, 0.3), (0.9, 0.25, 0.1), (1.0, 0.25, 0.1)]
    rows = gradients.rows_of(found)
    assert [row["pools"] for row in rows] == [1, 1, 1, 0, 2]
    assert [row["sft_share"] for row in rows] == [0.333, 0.333, 0.167, 0.0, 0.167]
    assert rows[3]["sft"] is None
    assert rows[4]["exact"] == 0.1
    assert "| 0.5 to 0.9 | 0 | - | - | 0% | 0% |" in gradients.docs(rows)


@pytest.mark.slow
def test_the_comparison_and_its_gradients_run_whole(tmp_path: Path) -> None:
    data = write_pools(tmp_path / "data")
    base = save_tiny_base(tmp_path / "base", "bert")

    def run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(BENCHMARKS / name), "--json", str(tmp_path / f"{name}.json"), *options]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    settings = ["--input_dir", str(data), "--work_dir", str(tmp_path / "work"), "--quick"]
    tiny = ["--set", f"base_model={base}", "--set", "base_model_sha256=null"]
    done = run("ppo_comparison.py", *settings, *tiny)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "ppo_comparison.py.json").read_text())["rows"]
    assert [row["arm"] for row in rows] == ["SFT", "+ PPO sampled", "+ PPO exact", "+ longer SFT"]
    assert all(row["n"] == 8 and 0 <= row["accuracy"] <= 1 for row in rows)
    assert rows[0]["against_sft"] is None
    assert rows[2]["against_sft"]["difference"] == pytest.approx(rows[2]["accuracy"] - rows[0]["accuracy"], abs=1e-3)

    other = run("ppo_comparison.py", *settings)
    assert other.returncode == 1
    assert "holds models of other settings" in other.stderr

    (manifest,) = (tmp_path / "work/seed_0/sft").glob("run_*/04_sft/training_manifest.json")
    done = run("ppo_gradients.py", "--model", str(manifest.parent), "--data", str(data))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| probability of the correct | pools |" in done.stdout
    assert sum(row["pools"] for row in json.loads((tmp_path / "ppo_gradients.py.json").read_text())["rows"]) == 24
