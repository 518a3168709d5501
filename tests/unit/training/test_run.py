"""Run folders: numbers, resuming, locks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from finrank.errors import UserError
from finrank.training.config import TrainingConfig
from finrank.training.run import Run, last_checkpoint, lock_stage, numbered_runs, unfinished_stage


def new_run(tmp_path: Path) -> Run:
    return Run(TrainingConfig(base_model="any"), tmp_path / "data", tmp_path / "outputs")


def test_two_processes_never_train_in_one_directory(tmp_path: Path) -> None:
    stage = new_run(tmp_path).open_stage("04_sft", {})
    with lock_stage(stage), pytest.raises(UserError, match=r"run_001/04_sft is being trained by another process"):
        lock_stage(stage)
    lock_stage(stage).close()


def test_resume_takes_the_run_with_this_config_and_passes_over_others(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    first = run.open_stage("04_sft", {"config": 1})
    run.open_stage("04_sft", {"config": 2})
    assert unfinished_stage(run.output_dir, "04_sft", {"config": 1}) == first
    with pytest.raises(UserError, match=r"Nothing to resume .*run_002/04_sft began with other config"):
        unfinished_stage(run.output_dir, "04_sft", {"config": 3})


def test_trainings_that_start_at_once_get_a_run_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path)
    first = run.open_stage("04_sft", {"config": 1})
    honest, seen_before = numbered_runs, [list[Path]()]  # the second one looked before the first made its folder
    monkeypatch.setattr(
        "finrank.training.run.numbered_runs", lambda folder: seen_before.pop() if seen_before else honest(folder)
    )
    second = run.open_stage("04_sft", {"config": 2})
    assert not seen_before
    assert [first.parent.name, second.parent.name] == ["run_001", "run_002"]
    for number, stage in enumerate((first, second), start=1):
        assert json.loads((stage / "checkpoints" / "started.json").read_text()) == {"config": number}


def test_of_two_that_join_a_run_the_second_gets_its_own(tmp_path: Path) -> None:
    first = new_run(tmp_path).open_stage("04_sft", {}).parent
    joining = replace(new_run(tmp_path), join=first)
    assert joining.open_stage("05_ppo", {}) == first / "05_ppo"
    assert joining.open_stage("05_ppo", {}) == tmp_path / "outputs" / "run_002" / "05_ppo"


@pytest.mark.parametrize("torn", ["", '{"global_step": 4, "log_hist'])
def test_a_checkpoint_whose_last_file_is_torn_does_not_count(tmp_path: Path, torn: str) -> None:
    stage = new_run(tmp_path).open_stage("04_sft", {})
    for step, state in {2: '{"global_step": 2}', 4: torn}.items():
        folder = stage / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state)
    found = last_checkpoint(stage)
    assert found is not None
    assert found.name == "checkpoint-2"


def test_a_run_that_was_killed_after_its_manifest_is_finished_and_cleared(tmp_path: Path) -> None:
    started = {"config": {}, "data": {}, "quick_test": False}
    run = new_run(tmp_path)
    stage = run.open_stage("04_sft", started)
    (stage / "training_manifest.json").write_text(json.dumps({**started, "seed": 0}))
    (stage / "checkpoints" / "runs").mkdir()
    with pytest.raises(UserError, match=r"Nothing to resume .*run_001/04_sft, with this config and data, is finished"):
        unfinished_stage(run.output_dir, "04_sft", {**started, "threads": 7})
    assert sorted(path.name for path in stage.iterdir()) == ["tensorboard", "training_manifest.json"]
