"""Run folders: numbers, resuming, locks."""

from __future__ import annotations

from pathlib import Path

import pytest

from finrank.errors import UserError
from finrank.training.config import TrainingConfig
from finrank.training.run import Run, lock_stage, unfinished_stage


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
