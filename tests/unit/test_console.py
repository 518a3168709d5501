"""Progress in a terminal and in a log file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from finrank import console
from finrank.console import PlainConsole, Reading, track, visible


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


HOSTILE = "a[/red] [bold]b[/bold] :smile: \x1b[2J\x07\x9b\u202e\ud800\r"
SHOWN = r"a[/red] [bold]b[/bold] :smile: \x1b[2J\x07\x9b\u202e\ud800\r"


@pytest.mark.parametrize("terminal", [False, True])
def test_texts_of_other_people_are_shown_and_neither_obeyed_nor_read_as_markup(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    stream = io.StringIO()
    for name in ("console", "_errors"):
        plain = PlainConsole(file=stream, force_terminal=terminal, no_color=True, width=120)
        monkeypatch.setattr(console, name, plain)
    table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE)
    table.add_row(HOSTILE)
    console.console.print(table)
    console.say(HOSTILE)
    console.warn(HOSTILE)
    list(track([1], HOSTILE))
    written = stream.getvalue()
    assert written.count(SHOWN) >= (7 if terminal else 6)
    assert not any(control in written for control in "\x07\x9b\u202e\ud800")
    assert "\x1b[2J" not in written


def test_lines_and_tabs_stay_as_they_are() -> None:
    assert visible("a\n\tb é – 数") == "a\n\tb é – 数"


def test_the_time_left_follows_from_the_share() -> None:
    assert console._progress_line("train.json", 1, 0.5, 3600.0) == "train.json: 1, 50%, 60:00 left"


def test_a_missing_file_has_no_bytes(tmp_path: Path) -> None:
    assert Reading.of(tmp_path / "absent") == Reading(0)
