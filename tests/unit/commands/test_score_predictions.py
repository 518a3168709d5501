"""Scoring a prediction file: figures, warnings about a faulty file, and the same figures as `evaluate`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from finrank.commands.import_predictions import import_predictions
from finrank.commands.prepare import prepare
from finrank.commands.rewards import rewards
from finrank.commands.score_predictions import score_predictions
from finrank.console import console
from finrank.errors import UserError
from finrank.evaluation.metrics import pool_metrics
from finrank.evaluation.official import write_predictions
from finrank.records import RewardedPool
from finrank.store import load_records
from tests.helpers.pools import write_pools


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pools(tmp_path / "data", dev=40)


def test_a_faulty_file_is_scored_and_its_faults_are_warnings(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [pool.id for pool in load_records(data / "dev.jsonl", RewardedPool)]
    wrong = ["add(", "1", "2", ")", "EOF"]
    elements = [{"id": identifier, "predicted": wrong} for identifier in ids[:20]]
    elements += [{"id": ids[0], "predicted": wrong}, {"id": "x", "predicted": wrong}, {"id": ids[21]}]
    elements += [{"id": ids[22], "predicted": wrong[:-1]}]
    file = tmp_path / "p.json"
    file.write_text(json.dumps(elements))
    result = score_predictions(file, data, json_path=tmp_path / "new" / "out.json")
    assert json.loads((tmp_path / "new" / "out.json").read_text()) == result
    counts = {"n": 40, "predicted": 21, "missing": 19, "unknown_ids": 1, "duplicates": 1, "unreadable": 1}
    counts |= {"without_end": 1, "invalid": 1, "execution_accuracy": 0.0}
    assert {name: result[name] for name in counts} == counts
    warnings = " ".join(capsys.readouterr().err.split())
    for fault in ("counted as wrong .*: 19", "no question of the split .*: 1", "further predictions .*: 1",
                  "the first at 22: .*: 1", "without EOF.*: 1", "without a value .*: 1"):  # fmt: skip
        assert re.search(fault, warnings), fault
    pools = load_records(data / "dev.jsonl", RewardedPool)
    write_predictions(file, pools, [np.array(pool.rewards) for pool in pools])
    result = score_predictions(file, data)  # of a file without faults
    assert (result["execution_accuracy"], result["program_accuracy"]) == (1.0, 1.0)
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "dev: 40 of 40 questions predicted" in shown.out


def test_a_failing_screen_loses_no_file_and_a_failing_file_no_figures(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.json"
    known = load_records(data / "dev.jsonl", RewardedPool)[0].id
    file.write_text(json.dumps([{"id": known, "predicted": ["EOF"]}]))
    with pytest.raises(UserError, match=r"p\.json.* cannot be written"):
        score_predictions(file, data, json_path=file / "scores.json")
    assert "execution accuracy" in capsys.readouterr().out
    monkeypatch.setattr(console, "print", Mock(side_effect=BrokenPipeError))
    with pytest.raises(BrokenPipeError):
        score_predictions(file, data, json_path=tmp_path / "scores.json")
    assert (tmp_path / "scores.json").is_file()


def test_faults_of_the_user(tmp_path: Path, data: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text('[{"id": "x", "predicted": ["EOF"]}]')
    for path, folder, split, message in (
        (file, data, "test", r"has no test\.jsonl"),
        (file, data, "dev", "ids such as 'x'"),
        (tmp_path / "none", data, "dev", "no such file"),
        (file, tmp_path / "nowhere", "dev", r"01_prepare_dataset\.py"),
    ):
        with pytest.raises(UserError, match=message):
            score_predictions(path, folder, split=split)
    with (data / "dev.jsonl").open("a") as stream:
        stream.write('{"id": "broken"}\n')
    with pytest.raises(UserError, match=r"dev.jsonl:41 \(id broken\): page"):
        score_predictions(file, data)


def test_two_systems_imported_picked_written_and_scored(tmp_path: Path, finqa_dir: Path) -> None:
    """On real questions: the file of the picks scores as the picks themselves, at first and after another import."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "dev.json").symlink_to(finqa_dir / "dev.json")
    prepare(tmp_path / "raw", tmp_path / "questions")
    cases = json.loads((finqa_dir / "evaluator_cases.json").read_text(encoding="utf-8"))
    lines = [json.dumps({"id": case["id"], "program": case["program"]}) for case in cases]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    counts = import_predictions([tmp_path / "p.jsonl"], tmp_path / "pools", data=tmp_path / "questions")
    assert (counts["candidates"], counts["pools"]) == (len(cases), len({case["id"] for case in cases}))
    assert counts["failed"] == sum(case["invalid"] or str(case["result"]) == "nan" for case in cases)
    rewards(tmp_path / "pools", tmp_path / "rewarded")
    pools = load_records(tmp_path / "rewarded" / "dev.jsonl", RewardedPool)
    random = np.random.default_rng(0)
    scores = [random.normal(size=len(pool.candidates)) for pool in pools]
    write_predictions(tmp_path / "picks.json", pools, scores)
    scored = score_predictions(tmp_path / "picks.json", tmp_path / "questions")
    evaluated = {name: metric.mean() for name, metric in pool_metrics(pools, scores).items()}
    accuracy = evaluated["execution_accuracy"]
    assert 0.1 < scored["program_accuracy"] < scored["execution_accuracy"] < 0.8
    assert scored["execution_accuracy"] == accuracy
    assert scored["program_accuracy"] == evaluated["program_accuracy"]
    import_predictions([tmp_path / "picks.json"], tmp_path / "again", data=tmp_path / "questions")
    rewards(tmp_path / "again", tmp_path / "again_rewarded")
    again = load_records(tmp_path / "again_rewarded" / "dev.jsonl", RewardedPool)
    assert sum(bool(pool.correct) for pool in again) / scored["n"] == pytest.approx(accuracy)
