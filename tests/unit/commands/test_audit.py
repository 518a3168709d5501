"""`finrank audit`: pools it reads, figures it writes, and the control."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from typer.testing import CliRunner

from finrank.cli import app
from finrank.commands.audit import audit
from finrank.commands.sft import sft
from finrank.console import console
from finrank.errors import UserError
from finrank.evaluation.audit.audit import AuditResult
from finrank.records import Pool, RewardedPool
from finrank.store import load_records
from tests.helpers.pools import make_pool, write_pools
from tests.helpers.tiny_models import save_tiny_base


def skipping(data: Path, **options: Any) -> AuditResult:
    return audit(data, candidate_only="skip", **options)


def without_rewards(data: Path) -> Path:
    """The same pools as stage 02 writes them."""
    plain = data.parent / "plain"
    plain.mkdir()
    for path in data.glob("*.jsonl"):
        pools = load_records(path, RewardedPool)
        lines = [
            Pool(**pool.model_dump(exclude={"rewards", "components", "correct"})).model_dump_json() for pool in pools
        ]
        (plain / path.name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return plain


def test_the_command_writes_and_prints_its_figures(tmp_path: Path) -> None:
    data = write_pools(tmp_path / "data")
    arguments = ["audit", "--input_dir", str(data), "--json", str(tmp_path / "out" / "audit.json")]
    shown = CliRunner().invoke(app, [*arguments, "--candidate_only", "skip"])
    assert shown.exit_code == 0
    assert "pools give themselves away: linear finds gold in 1.000" in " ".join(shown.stderr.split())
    assert "positions of gold: 2 2 2 2" in shown.stdout
    assert "candidate-only control: none, because it was skipped" in shown.stdout
    result = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert result.keys() >= {"combined", "anti_medoid_value", "anti_medoid_text", "cues"}
    assert result["medoid"] == max(result["medoid_value"], result["medoid_text"])
    assert result["intervals"]["linear"] == [1.0, 1.0]
    expected = {"n": 8, "linear": 1.0, "chance": 0.25, "candidate_only": None, "fitted_on": "train"}  # gold alone adds
    assert {name: result[name] for name in expected} == expected
    assert result["pools"] == {"largest": 4, "smaller": 0, "failed_share": 0.0}


def test_a_failing_screen_loses_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "print", Mock(side_effect=BrokenPipeError))
    with pytest.raises(BrokenPipeError):
        audit(write_pools(tmp_path / "data"), json_path=tmp_path / "audit.json", candidate_only="skip")
    assert (tmp_path / "audit.json").is_file()


def test_figures_are_the_same_each_time_and_without_rewards(tmp_path: Path) -> None:
    data = write_pools(tmp_path / "data")
    files = [tmp_path / "first.json", tmp_path / "again.json"]
    first, _ = (skipping(data, json_path=path) for path in files)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert skipping(without_rewards(data)) == first


@pytest.mark.parametrize("split", ["train", "dev"])
def test_without_other_train_pools_attackers_are_cross_fitted(
    tmp_path: Path, split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pools(tmp_path / "data")
    if split == "dev":
        (data / "train.jsonl").unlink()
    result = audit(data, split=split, json_path=tmp_path / "audit.json")  # the control says why it is not there
    assert result.attackers["linear"].accuracy == 1.0
    written = json.loads((tmp_path / "audit.json").read_text())
    assert written["fitted_on"] == f"other pages of {split} (cross-fitted)"
    why = {"train": "it would be trained on the audited pools", "dev": "has no train.jsonl to train it with"}[split]
    assert why in written["no_candidate_only"]
    assert why in " ".join(capsys.readouterr().out.split())


def test_train_pools_of_audited_pages_are_not_learnt_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pools(tmp_path / "data")
    pools = load_records(data / "dev.jsonl", RewardedPool)
    with (data / "train.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(pools[0].model_copy(update={"id": "again"}).model_dump_json() + "\n")
    skipping(data)
    assert "1 train pools are of pages that dev has too" in capsys.readouterr().err


def test_faults_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"03_build_rewards.py"):
        skipping(tmp_path / "nowhere")
    data = write_pools(tmp_path / "data")
    with pytest.raises(UserError, match=r"has no test.jsonl; it has: train, selection, dev"):
        skipping(data, split="test")
    for text, message in (('{"id": "x"}\n', r"dev.jsonl:1 \(id x\)"), ("", "no pools to audit")):
        (data / "dev.jsonl").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            skipping(data)


def small_config(folder: Path) -> Path:
    """A config that trains a tiny random model in seconds."""
    config = {
        "base_model": str(save_tiny_base(folder / "base", "bert")),
        "dtype": "float32",
        "mixed_precision": "float32",
        "prompt": {"max_length": 256},
        "lora": {"rank": 4, "alpha": 8, "target_modules": "all-linear"},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def test_the_control_is_trained_on_the_spot_or_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, config = write_pools(tmp_path / "data"), small_config(tmp_path)
    trained = audit(data, config=config)
    control = trained.attackers["candidate_only"]
    assert control.accuracy is not None
    assert control.interval is not None
    assert "--candidate_only skip leaves it out" in capsys.readouterr().out
    assert not list(tmp_path.glob("**/run_*"))  # nothing is left of it
    overrides = ["trainer.num_train_epochs=1"]
    stage = sft(config, data, tmp_path / "outputs", overrides=overrides, candidate_only=True)
    assert audit(data, candidate_only=str(stage)).attackers["candidate_only"] == control


def test_a_model_that_reads_the_question_is_not_a_control(tmp_path: Path) -> None:
    data = write_pools(tmp_path / "data")
    model = sft(small_config(tmp_path), data, tmp_path / "outputs", quick_test=True)
    with pytest.raises(UserError, match=r"reads question and page.*--candidate_only"):
        audit(data, candidate_only=str(model))


def test_the_control_of_pools_without_rewards_gets_them_first(tmp_path: Path) -> None:
    data = write_pools(tmp_path / "data")
    bad = make_pool(99).model_copy(update={"id": "left out by stage 03", "program": None, "answer": None})
    with (data / "dev.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(bad.model_dump_json() + "\n")
    plain = without_rewards(data)
    result = audit(plain, config=small_config(tmp_path))
    assert result.n == 9
    assert result.attackers["candidate_only"].accuracy is not None
