"""Each benchmark runs whole with --quick, and its rows have the documented form."""

from __future__ import annotations

import json
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.scripts import load_benchmark, run_benchmark


def needs(*peers: str) -> None:
    for peer in peers:
        pytest.importorskip(peer, reason="the peers are not installed: make bench-setup")


def in_order(row: dict[str, Any], middle: str, spread: str) -> bool:
    return bool(0 < row[spread][0] <= row[middle] <= row[spread][1])


@pytest.mark.slow
def test_inference(tmp_path: Path) -> None:
    needs("onnxruntime", "sentence_transformers")
    rows = run_benchmark("inference_cpu", tmp_path / "report.json")[0]["rows"]
    peers = {"CrossEncoder", "batched classifier", "ONNX fp32", "ONNX int8"}
    assert {(row["n"], row["peer"]) for row in rows} == set(product((1, 8), peers))
    assert all(row["peer_pairs_timed"] == row["n"] for row in rows)
    assert all(in_order(row, "ratio", "ratio_quartiles") for row in rows)


@pytest.mark.slow
def test_training(tmp_path: Path) -> None:
    needs("datasets", "sentence_transformers")
    result, _ = run_benchmark("training_cpu", tmp_path / "report.json")
    assert {row["peer"] for row in result["rows"]} == {"CrossEncoderTrainer", "listwise loop"}
    assert result["curves_apart"] < 1e-4
    assert len(result["curves"]["split"]) == 4


@pytest.mark.slow
def test_growth(tmp_path: Path) -> None:
    result, _ = run_benchmark("growth", tmp_path / "report.json")
    rows = result["rows"]
    assert [row["n"] for row in rows] == [8, 32, 64, 100, 400]
    assert result["slope"]["ms"] > 0
    for row in rows[:3]:
        assert in_order(row, "ours_s", "ours_quartiles")
        assert in_order(row, "without_prefix_s", "without_prefix_quartiles")
    rows[0] |= {"ours_s": 0.12, "ours_quartiles": [0.1104, 0.131]}
    page = load_benchmark("growth").docs(rows[:3], result["slope"], rows[3:], 3)
    assert "| 8 | 0.120 (0.110-0.131) | " in page


@pytest.mark.slow
def test_service(tmp_path: Path) -> None:
    needs("sentence_transformers")
    result, printed = run_benchmark("service", tmp_path / "report.json")
    assert [row["clients"] for row in result["rows"]] == [1, 4]
    for row in result["rows"]:
        assert row["n"] == 8
        assert 300 < row["prefix"] < 480
        assert (row["ours_lost"], row["peer_lost"]) == (0, 0)
        assert in_order(row, "ratio", "ratio_quartiles")
        assert all(row[f"{side}_per_s"] > 0 for side in ("ours", "peer"))
        assert all(0 < row[f"{side}_p50_s"] <= row[f"{side}_p99_s"] for side in ("ours", "peer"))
    assert len(printed.splitlines()) == len(result["rows"])


@pytest.mark.slow
def test_data_stages(tmp_path: Path) -> None:
    result, printed = run_benchmark("data_stages", tmp_path / "report.json", "--sizes", "20")
    rows = result["rows"]
    assert result["data"] == "made like the embedded sample, all questions distinct"
    assert [row["what"] for row in rows] == ["parse", "execute", *["prepare", "candidates", "rewards"] * 2]
    assert [row["n"] for row in rows[2:]] == [20] * 6
    assert all(in_order(row, "per_s_per_core", "quartiles") for row in rows[:5])
    assert all(row["peak_mib"] > 1 for row in rows[2:5])
    assert all(row["same_files"] and row["speed_up"] > 0 for row in rows[5:])
    assert len(printed.splitlines()) == len(rows)


def test_no_two_questions_of_the_data_stages_are_the_same() -> None:
    benchmark = load_benchmark("data_stages")
    examples = list(islice(benchmark.distinct_questions(), 2 * benchmark.CHUNK + 100))
    asked = {json.dumps([example["qa"]["question"], example["table"]]) for example in examples}
    assert len(asked) == len({example["id"] for example in examples}) == len(examples)
    tables = {example["filename"]: json.dumps(example["table"]) for example in examples}
    assert len(set(tables.values())) == len(tables)


@pytest.mark.parametrize(("name", "shape"), [("llama_8b_gpu", "toy"), ("generation_vs_classification", "small")])
def test_the_shape_of_llama_is_refused_without_a_gpu(name: str, shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--shape", "llama-3-8b"])
    with pytest.raises(SystemExit, match=f"on a CPU give --shape {shape}"):
        load_benchmark(name).main()


@pytest.mark.slow
def test_generation_vs_classification(tmp_path: Path) -> None:
    result, _ = run_benchmark("generation_vs_classification", tmp_path / "report.json")
    assert [row["what"] for row in result["rows"]] == ["SFT step", "evaluation", "RL step"]
    for row in result["rows"]:
        assert in_order(row, "ratio", "ratio_quartiles")
        assert row["memory_saved"] == pytest.approx(1 - row["classification_mib"] / row["generation_mib"], abs=1e-2)
    # Eight sampled prompts and completions with gradients against one pool: no noise reverses this.
    assert result["rows"][2]["ratio"] > 1
    assert len(result["claims"]) == 6
    assert result["facts"]["completion"] > 10
    page = load_benchmark("generation_vs_classification").docs(result["rows"], result["facts"], "toy", 3)
    assert page.count("\n| RL step | ") == 1
    assert page.count("; RL step, ") == 2  # claims


@pytest.mark.slow
def test_llama_at_toy_size(tmp_path: Path) -> None:
    result, printed = run_benchmark("llama_8b_gpu", tmp_path / "report.json", "--shape", "toy")
    rows = result["rows"]
    assert result["skipped"] == []
    assert all(check["agrees"] and check["difference"] < 1e-4 for check in result["checks"])
    training, ppo, ranking = ([row for row in rows if row["what"] == what] for what in ("training", "PPO", "ranking"))
    points = product(("fastest", "leanest"), ("naive", "mask", "split"))
    assert sorted((row["point"], row["route"]) for row in training) == sorted(points)
    counts = product((8, 100), ("naive", "cached", "split", "mask"))
    assert [(row["candidates"], row["route"]) for row in ranking] == list(counts)
    estimators = product(("sampled", "exact"), ("mask", "split"))
    assert [(row["estimator"], row["route"]) for row in ppo] == list(estimators)
    assert all(row["point"] == "leanest" and row["checkpointing"] and row["questions"] == 1 for row in ppo)
    assert len(rows) == len(training) + len(ppo) + len(ranking)
    for row in rows:
        assert in_order(row, "seconds", "quartiles")
        assert row["ratio"] is None if row["what"] == "PPO" else row["ratio"] > 0
        assert (row["redundant_tokens_per_s"] > 0) == (row["route"] == "naive")
        assert row["route"] in printed
    for row in training + ppo:
        assert row["utilisation"] is None  # the peak rate of a CPU is unknown
        assert row["checkpointing"] or row["point"] == "fastest"
        assert row["epoch_min"] == pytest.approx(6251 / row["questions_per_s"] / 60)
    assert all(row["ratio"] == 1 for row in ranking if row["route"] == "naive")
