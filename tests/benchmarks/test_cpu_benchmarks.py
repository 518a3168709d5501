"""What the CPU benchmarks share counts as it says, and each of them runs whole with `--quick`."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.conftest import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"
NEEDS_PEERS = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None or importlib.util.find_spec("onnxruntime") is None,
    reason="the peers are not installed: make bench-setup",
)


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A benchmark's module, found as when a script runs."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load("shared.timing", monkeypatch)
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    return module


def run(name: str, report: Path, *options: str) -> dict[str, Any]:
    """The JSON of a benchmark that ran with --quick."""
    command = [sys.executable, str(BENCHMARKS / name), "--quick", "--json", str(report), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(report.read_text(encoding="utf-8"))
    assert result["device"]
    return dict(result)


def test_a_ratio_is_that_of_each_round(timing: ModuleType) -> None:
    assert timing.ratios([2.0, 9.0, 8.0], [1.0, 3.0, 2.0]) == (3.0, [2.5, 3.5])
    assert timing.quartiles([5.0]) == [5.0, 5.0]
    assert timing.with_quartiles(3.0, [2.504, 3.5]) == "3.00 (2.50-3.50)"


def test_contenders_take_turns_and_the_order_turns_round(timing: ModuleType) -> None:
    order: list[str] = []
    timed = timing.take_turns({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"  # the first two warm up
    assert [len(one.seconds) for one in timed.values()] == [3, 3]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process's peak memory")
def test_memory_above_the_start_is_seen(timing: ModuleType) -> None:
    peak = timing.peak_above_start(lambda: torch.ones(50 * 2**20 // 4))
    assert 40 < peak < 100
    assert timing.peak_above_start(lambda: None) < 10


def test_a_section_of_the_page_is_replaced_and_nothing_else(timing: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("before\n<!-- x: written by the command -->\nold\n<!-- end of x -->\nafter\n")
    timing.write_section("x", timing.table(["a", "b"], [[1, 2.5]]), page)
    assert page.read_text() == (
        "before\n<!-- x: written by the command -->\n| a | b |\n| --- | --- |\n| 1 | 2.5 |\n<!-- end of x -->\nafter\n"
    )
    with pytest.raises(SystemExit, match="must hold the lines"):
        timing.write_section("y", "text", page)


def test_rows_of_an_earlier_run_count_on_the_same_device_only(
    timing: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a folder/of results/rows.json"
    assert timing.measured_before(path, 3) == []
    timing.write_results(path, [{"n": 1, "rounds": 3}])
    assert timing.measured_before(path, 3) == [{"n": 1, "rounds": 3}]
    assert "1 rows of an earlier run are kept" in " ".join("".join(capsys.readouterr()).split())
    path.write_text(path.read_text().replace(timing.device(), "another"))
    with pytest.raises(SystemExit, match="was measured on another: give another file"):
        timing.measured_before(path, 3)


def test_rows_of_fewer_rounds_are_measured_again(timing: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    timing.write_results(path, [{"n": 1, "rounds": 3}, {"n": 2, "rounds": 10}, {"n": 3}])
    assert [row["n"] for row in timing.measured_before(path, 10)] == [2]


def test_the_table_of_inference_marks_what_was_taken_on_a_part_of_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "prefix": 400, "candidate": 24, "dtype": "float32", "bound": 17.4, "ours_s": 0.5, "peer_s": 8.25,
        "ratio": 16.5, "ratio_quartiles": [16.0, 17.0], "ours_peak_mib": 60.4, "peer_peak_mib": 343.6, "rounds": 10,
    }  # fmt: skip
    rows = [
        row | {"n": 1000, "peer": "CrossEncoder", "peer_pairs_timed": 32},
        row | {"n": 100, "peer": "CrossEncoder", "peer_pairs_timed": 100},
        row | {"n": 100, "peer": "ONNX fp32", "peer_pairs_timed": 32},
    ]
    whole, part = load("inference_cpu", monkeypatch).docs(rows).splitlines()[-2:]
    start, ratio = "400 | 24 | float32 | 17.4", "16.50 (16.00-17.00)"
    assert whole == f"| 100 | {start} | {ratio} | {ratio} * | 0.500 | 8.250 | 60 | 344 |"
    assert part == f"| 1000 | {start} | {ratio} * |  | 0.500 | 8.250 * | 60 | 344 * |"


@pytest.mark.slow
@NEEDS_PEERS
def test_inference_runs_beside_its_peers(tmp_path: Path) -> None:
    rows = run("inference_cpu.py", tmp_path / "report.json")["rows"]
    peers = {"CrossEncoder", "batched classifier", "ONNX fp32", "ONNX int8"}
    assert {(row["n"], row["peer"]) for row in rows} == {(n, peer) for n in (1, 8) for peer in peers}
    assert all(row["peer_pairs_timed"] == row["n"] for row in rows)
    for row in rows:
        low, high = row["ratio_quartiles"]
        assert 0 < low <= row["ratio"] <= high


@pytest.mark.slow
@NEEDS_PEERS
def test_training_runs_beside_its_peers(tmp_path: Path) -> None:
    result = run("training_cpu.py", tmp_path / "report.json")
    assert {row["peer"] for row in result["rows"]} == {"CrossEncoderTrainer", "listwise loop"}
    assert result["curves_apart"] < 1e-4
    assert len(result["curves"]["split"]) == 4


@pytest.mark.slow
def test_growth_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("growth.py", tmp_path / "report.json")
    rows = result["rows"]
    assert [row["n"] for row in rows] == [8, 32, 64, 100, 400]
    assert result["slope"]["ms"] > 0
    for row in rows[:3]:
        assert row["ours_quartiles"][0] <= row["ours_s"] <= row["ours_quartiles"][1]
        assert row["without_prefix_quartiles"][0] <= row["without_prefix_s"] <= row["without_prefix_quartiles"][1]
    rows[0] |= {"ours_s": 0.12, "ours_quartiles": [0.1104, 0.131]}
    page = load("growth", monkeypatch).docs(rows[:3], result["slope"], rows[3:], 3)
    assert "| 8 | 0.120 (0.110-0.131) | " in page
