"""What the user sees: one console, one progress bar, one way to say a warning. Data goes to files, not here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

# Results go to standard output; progress and warnings to standard error, so that results can be piped.
console = Console(highlight=False)
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_UPDATES = 0.1  # of the bar; at each item they would cost more than many an item
_errors = Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print a line for the user; square brackets are printed as they are."""
    console.print(message, markup=False, soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning line to standard error."""
    _errors.print(f"warning: {message}", style="yellow", markup=False)


@dataclass
class Reading:
    """How far a file has been read: `done` of `total` bytes. Its reader counts, `track` shows it."""

    total: int
    done: int = 0

    @classmethod
    def of(cls, path: Path) -> Reading:
        """Nothing read yet; a file that is not there has 0 bytes."""
        return cls(path.stat().st_size if path.is_file() else 0)


def track(
    items: Iterable[T], description: str, total: int | None = None, reading: Reading | None = None
) -> Iterator[T]:
    """Yield the items under a progress bar with their count, the share done, elapsed time and time left.

    The share is that of `total` items or, for a file whose number of records is not known, of its bytes
    (`reading`); with neither there is no share and no time left. Where the output is no terminal (a log file), a line
    is written every ten seconds instead: "train.json: 31000, 42%, 0:25 left".
    """
    if _errors.is_terminal:
        return _track_in_bar(items, description, total, reading)
    return _track_in_lines(items, description, total, reading)


def _track_in_bar(items: Iterable[T], description: str, total: int | None, reading: Reading | None) -> Iterator[T]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    whole = total if reading is None else reading.total
    with Progress(*columns, console=_errors) as progress:
        task = progress.add_task(description, total=whole, count=0)
        count, shown = 0, time.monotonic()
        for item in items:
            yield item
            count += 1
            if time.monotonic() - shown >= _SECONDS_BETWEEN_UPDATES:
                shown = time.monotonic()
                progress.update(task, completed=count if reading is None else reading.done, count=count)
        progress.update(task, completed=count if reading is None else reading.done, count=count)


def _track_in_lines(items: Iterable[T], description: str, total: int | None, reading: Reading | None) -> Iterator[T]:
    began = said = time.monotonic()
    for count, item in enumerate(items):
        now = time.monotonic()
        if now - said >= _SECONDS_BETWEEN_LINES:
            said = now
            share = reading.done / max(reading.total, 1) if reading else count / total if total else 0.0
            _errors.print(_progress_line(description, count, share, now - began), markup=False)
        yield item


def _progress_line(description: str, count: int, share: float, seconds: float) -> str:
    """What is said of a loop that has done a share (0: not known) of its work in so many seconds.

    >>> _progress_line("train.json", 31000, 0.4, 20.0)
    'train.json: 31000, 40%, 0:30 left'
    """
    if not 0.0 < share <= 1.0:
        return f"{description}: {count}"
    minutes, rest = divmod(round(seconds * (1.0 - share) / share), 60)
    return f"{description}: {count}, {share:.0%}, {minutes}:{rest:02d} left"
