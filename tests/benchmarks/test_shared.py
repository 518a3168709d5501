"""The arithmetic, tables and files that all benchmarks share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finrank.ranker.settings import locate
from finrank.ranker.tokenizer import load_tokenizer
from tests.helpers.scripts import load_benchmark

timing, tables, pools = map(load_benchmark, ("shared.timing", "shared.tables", "shared.pools"))


def test_a_ratio_is_that_of_each_round() -> None:
    assert timing.ratios([2.0, 9.0, 8.0], [1.0, 3.0, 2.0]) == (3.0, [2.5, 3.5])
    assert timing.quartiles([5.0]) == [5.0, 5.0]


def test_contenders_take_turns_and_the_order_alternates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_PAUSE_S", 0.0)
    order: list[str] = []
    timed = timing.take_turns({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"  # the first two warm up
    assert [len(runs.seconds) for runs in timed.values()] == [3, 3]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux reports a process's peak memory")
def test_memory_above_the_start_is_seen() -> None:
    assert 40 < timing.peak_above_start(lambda: torch.ones(50 * 2**20 // 4)) < 100
    assert timing.peak_above_start(lambda: None) < 10


def test_a_section_of_the_page_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("before\n<!-- x: written by the command -->\nold\n<!-- end of x -->\nafter\n")
    row = {"n": 1, "ratio": 3.0, "ratio_quartiles": [2.504, 3.5]}
    tables.write_section("x", tables.table({"a": "{n}", "b": tables.RATIO}, [row]), page)
    assert page.read_text() == (
        "before\n<!-- x: written by the command -->\n| a | b |\n| --- | --- |\n| 1 | 3.00 (2.50-3.50) |\n"
        "<!-- end of x -->\nafter\n"
    )
    with pytest.raises(SystemExit, match="must hold the lines"):
        tables.write_section("y", "text", page)


def test_rows_of_an_earlier_run_on_the_same_device_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a folder/of results/rows.json"
    assert tables.measured_before(path, 3) == []
    tables.write_results(path, [{"n": 1, "rounds": 3}, {"n": 2, "rounds": 10}, {"n": 3}])
    assert [row["n"] for row in tables.measured_before(path, 3)] == [1, 2]
    assert [row["n"] for row in tables.measured_before(path, 10)] == [2]
    path.write_text(path.read_text().replace(tables.device(), "another"))
    with pytest.raises(SystemExit, match="was measured on another"):
        tables.measured_before(path, 3)


def test_texts_have_exactly_the_tokens_that_are_asked_for() -> None:
    tokenizer = load_tokenizer(locate(pools.MODEL))
    (pool,) = pools.draw_texts(tokenizer, pools.Work(3, 40, 12), 1)  # checks the pool's token counts itself
    assert len(tokenizer(pool.page, pool.candidates[0])["input_ids"]) == 52


def test_the_table_of_inference_marks_what_was_taken_on_a_part_of_the_pairs() -> None:
    row = {"prefix": 400, "candidate": 24, "dtype": "float32", "bound": 17.4, "ours_s": 0.5, "peer_s": 8.25}
    row |= {"ratio": 16.5, "ratio_quartiles": [16.0, 17.0], "ours_peak_mib": 60.4, "peer_peak_mib": 343.6, "rounds": 10}
    rows = [
        row | {"n": 1000, "peer": "CrossEncoder", "peer_pairs_timed": 32},
        row | {"n": 100, "peer": "CrossEncoder", "peer_pairs_timed": 100},
        row | {"n": 100, "peer": "ONNX fp32", "peer_pairs_timed": 32},
    ]
    whole, part = load_benchmark("inference_cpu").docs(rows).splitlines()[-2:]
    start, ratio = "400 | 24 | float32 | 17.4", "16.50 (16.00-17.00)"
    assert whole == f"| 100 | {start} | {ratio} | {ratio} * | 0.500 | 8.250 | 60 | 344 |"
    assert part == f"| 1000 | {start} | {ratio} * |  | 0.500 | 8.250 * | 60 | 344 * |"
