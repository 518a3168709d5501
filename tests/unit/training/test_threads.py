"""Threads: fewer where other programs keep cores busy or a quota allows fewer, and after a resume as before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from finrank.parallel import allowed_cores, cpu_quota
from finrank.training import threads
from tests.helpers.training_runs import printed


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch begins with two threads, and nobody has chosen their number."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cores", "busy", "expected"),
    [(2, 0, 2), (2, 1, 1), (2, 2, 1), (2, 5, 1), (8, 5, 2), (8, 7, 1), (1, 0, 1)],
)
def test_threads_are_those_of_free_cores(
    cores: int, busy: int, expected: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(threads, "allowed_cores", lambda: cores)
    monkeypatch.setattr(threads, "busy_cores", lambda: busy)
    threads.use_free_cores()
    assert torch.get_num_threads() == expected
    assert ("OMP_NUM_THREADS" in printed(capsys)) == (expected < 2)


def test_a_chosen_number_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "busy_cores", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    threads.use_free_cores()
    assert torch.get_num_threads() == 2


def test_a_program_that_computes_is_seen_and_one_that_has_just_begun_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_MEASURED_S", 0.2)
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 99.0, 99.0))
    endless = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        assert 1 <= threads.busy_cores() <= allowed_cores()
        monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 99.0, 99.0))
        assert threads.busy_cores() == 0
    finally:
        endless.kill()
        endless.wait()


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, 4.0),
        ("0::/a/b\n", {"cpu.max": "100000 100000", "a/b/cpu.max": "400000 100000"}, 1.0),
        ("0::/gone/from/here\n", {"cpu.max": "200000 100000"}, 2.0),
        ("3:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}, 0.5),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("3:memory:/\n", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
    ],
)
def test_the_quota_of_control_groups(
    membership: str, files: dict[str, str], expected: float | None, tmp_path: Path
) -> None:
    (tmp_path / "membership").write_text(membership)
    for name, content in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(content + "\n")
    assert cpu_quota(tmp_path / "membership", tmp_path / "groups") == (expected or float("inf"))
    assert cpu_quota(tmp_path / "missing", tmp_path / "groups") == float("inf")


def test_a_resumed_run_has_the_threads_that_it_began_with(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    started = tmp_path / "checkpoints" / "started.json"
    for content, expected in (('{"threads": 1}', 1), ("{}", 2)):
        torch.set_num_threads(2)
        started.write_text(content)
        threads.use_threads_of(tmp_path)
        assert torch.get_num_threads() == expected
