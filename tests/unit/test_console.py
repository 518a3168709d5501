"""Progress in a terminal and in a log file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from finrank import console
from finrank.console import Reading, track


def _shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, total: int | None, reading: Reading | None) -> str:
    """The output of a loop over ten items, each of ten bytes."""
    stream = io.StringIO()
    monkeypatch.setattr(console, "_errors", Console(file=stream, force_terminal=terminal, width=120))
    monkeypatch.setattr(console, "_SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(console, "_SECONDS_BETWEEN_UPDATES", 0.0)

    def items() -> object:
        for number in range(10):
            if reading is not None:
                reading.done += 10
            yield number

    assert list(track(items(), "dev.json", total=total, reading=reading)) == list(range(10))
    return stream.getvalue()


@pytest.mark.parametrize(("total", "reading"), [(10, None), (None, Reading(100))])
def test_a_log_file_gets_lines_with_share_and_time_left(
    monkeypatch: pytest.MonkeyPatch, total: int | None, reading: Reading | None
) -> None:
    shown = _shown(monkeypatch, terminal=False, total=total, reading=reading)
    assert "dev.json: 4, " in shown
    assert "%, 0:00 left" in shown


def test_without_a_total_there_is_a_count_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _shown(monkeypatch, terminal=False, total=None, reading=None)
    assert shown.splitlines()[-1] == "dev.json: 10"


@pytest.mark.parametrize(("total", "reading"), [(10, None), (None, Reading(100))])
def test_a_terminal_gets_a_bar_that_ends_at_the_whole(
    monkeypatch: pytest.MonkeyPatch, total: int | None, reading: Reading | None
) -> None:
    shown = _shown(monkeypatch, terminal=True, total=total, reading=reading)
    assert "dev.json" in shown
    assert "100%" in shown


def test_the_time_left_follows_from_the_share() -> None:
    assert console._progress_line("train.json", 31000, 0.4, 20.0) == "train.json: 31000, 40%, 0:30 left"
    assert console._progress_line("train.json", 1, 0.5, 3600.0) == "train.json: 1, 50%, 60:00 left"


def test_a_missing_file_has_no_bytes(tmp_path: Path) -> None:
    assert Reading.of(tmp_path / "absent") == Reading(0)
