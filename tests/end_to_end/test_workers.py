"""Stages 01 to 03 with several workers: the same files, a clean end, and memory that does not grow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import pytest

from finrank.commands import candidates
from finrank.commands.prepare import prepare
from finrank.commands.rewards import rewards
from finrank.errors import UserError
from finrank.sources.made_up import generate
from tests.conftest import REPOSITORY

# By the folder that a stage reads.
STAGES: dict[str, Callable[..., None]] = {"raw": prepare, "prepared": candidates.candidates, "pools": rewards}


def _raw(directory: Path, count: int) -> None:
    """A raw folder of so many train questions, those of a page in a row, a few of them bad, and some of dev."""
    directory.mkdir()
    sample = generate(train=60, dev=20, test=0)
    train = [dict(sample["train"][number * 60 // count], id=f"q{number}") for number in range(count)]
    bad: list[dict[str, Any]] = [{"id": "x"}, train[0], {**train[0], "id": "y", "qa": {"question": "no gold ?"}}]
    (directory / "train.json").write_text(json.dumps(train + bad), encoding="utf-8")
    (directory / "dev.json").write_text(json.dumps(sample["dev"]), encoding="utf-8")


def test_any_number_of_workers_makes_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _raw(tmp_path / "raw", 180)
    monkeypatch.chdir(tmp_path)  # so that the folders in the manifests have the same names
    made: list[dict[str, bytes]] = []
    for workers in (1, 2):
        for (source, stage), output in zip(STAGES.items(), ("prepared", "pools", "rewarded"), strict=True):
            stage(Path(source), Path(output), workers=workers)
        made.append({str(path): path.read_bytes() for path in Path().glob("*/*")})
    assert made[0] == made[1]
    fitted_on = json.loads(made[0]["pools/manifest.json"])["likeness_fitted_on"]["questions_per_fold"]
    assert min(fitted_on) > 0  # the likeness was fitted, by one worker and by two
    assert len(made[0]["prepared/rejects.jsonl"].splitlines()) == 2
    assert len(made[0]["pools/rejects.jsonl"].splitlines()) == 1


def _killing_build(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_leaves_no_half_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _raw(tmp_path / "raw", 20)
    prepare(tmp_path / "raw", tmp_path / "prepared")
    before = sorted(tmp_path.iterdir())
    # the stage's partial takes its function to the workers
    monkeypatch.setattr(candidates, "_make_pools", _killing_build)
    with pytest.raises(UserError, match="nothing was written"):
        candidates.candidates(tmp_path / "prepared", tmp_path / "pools", workers=2)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_a_stage_at_once_and_leaves_nothing(tmp_path: Path, workers: int) -> None:
    _raw(tmp_path / "raw", 20_000)
    script = REPOSITORY / "01_prepare_dataset.py"
    command = [sys.executable, str(script), "--input_dir", "raw", "--output_dir", "out", "--workers", str(workers)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    partial = tmp_path / ".out.partial" / "dev.jsonl"
    while process.poll() is None and not partial.exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(("stage", "few"), [("raw", 800), ("prepared", 300), ("pools", 300)])
def test_memory_does_not_grow_with_the_number_of_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, few: int
) -> None:
    """With four times as many questions, memory grows by less than the file."""
    # stage 02 learns from so many questions at most, and holds those
    monkeypatch.setattr(candidates, "_LINES_TO_LEARN_FROM", few // 2)
    settings = {"num_candidates": 3} if stage == "prepared" else {}
    sources = [tmp_path / str(count) / stage for count in (few, 4 * few)]
    for source in sources:
        source.parent.mkdir()
        _raw(source.with_name("raw"), int(source.parent.name))
        for name, output in takewhile(lambda pair: pair[0] != stage, pairwise(STAGES)):
            STAGES[name](source.with_name(name), source.with_name(output))
    # a first run fills the caches of numbers and patterns
    STAGES[stage](sources[1], tmp_path / "out", **settings)
    peaks, sizes = [], []
    for source in sources:
        sizes.append(sum(path.stat().st_size for path in source.iterdir()))
        tracemalloc.start()
        STAGES[stage](source, tmp_path / "out", **settings)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < sizes[1] - sizes[0]  # records in memory take several times their text
