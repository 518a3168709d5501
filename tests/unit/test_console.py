"""Progress in a terminal and in a log file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from finrank import console
from finrank.console import Reading, track


@pytest.mark.parametrize(
    ("terminal", "total", "reading", "parts"),
    [
        (False, 10, None, ["dev.json: 4, ", "%, 0:00 left"]),
        (False, None, Reading(100), ["dev.json: 4, ", "%, 0:00 left"]),
        (False, None, None, ["dev.json: 10\n"]),  # a count alone
        (True, 10, None, ["dev.json", "100%"]),
        (True, None, Reading(100), ["dev.json", "100%"]),
    ],
)
def test_a_log_file_gets_lines_and_a_terminal_a_bar_that_ends_at_the_whole(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, total: int | None, reading: Reading | None, parts: list[str]
) -> None:
    """The output of a loop over ten items, each of ten bytes."""
    stream = io.StringIO()
    monkeypatch.setattr(console, "_errors", Console(file=stream, force_terminal=terminal, width=120))
    monkeypatch.setattr(console, "_SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(console, "_SECONDS_BETWEEN_UPDATES", 0.0)

    def items() -> Iterator[int]:
        for number in range(10):
            if reading is not None:
                reading.done += 10
            yield number

    assert list(track(items(), "dev.json", total=total, reading=reading)) == list(range(10))
    assert all(part in stream.getvalue() for part in parts)


def test_the_time_left_follows_from_the_share() -> None:
    assert console._progress_line("train.json", 1, 0.5, 3600.0) == "train.json: 1, 50%, 60:00 left"


def test_a_missing_file_has_no_bytes(tmp_path: Path) -> None:
    assert Reading.of(tmp_path / "absent") == Reading(0)
