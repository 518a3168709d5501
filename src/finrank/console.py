"""Everything that the user sees: one console, one progress bar, one form of warning. Data goes to files, not here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
Show = Callable[[int, int], None]  # takes the number of items done, and how much of the whole that is

# Results go to standard output; progress and warnings to standard error, so that results can be piped.
console = Console(highlight=False)
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_UPDATES = 0.1  # of the bar: updating at each item would cost more than the item
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
        """Nothing read yet; a missing file has 0 bytes."""
        return cls(path.stat().st_size if path.is_file() else 0)


def track(
    items: Iterable[T], description: str, total: int | None = None, reading: Reading | None = None
) -> Iterator[T]:
    """Yield the items under a progress bar with their count, the share done, elapsed time and time left.

    The share is that of `total` items or, for a file with an unknown number of records, of its bytes (`reading`); with
    neither there is no share and no time left. Where the output is not a terminal (a log file), a line is written every
    ten seconds instead: "train.json: 31000, 42%, 0:25 left".
    """
    bar = _errors.is_terminal
    display, interval = (_in_bar, _SECONDS_BETWEEN_UPDATES) if bar else (_in_lines, _SECONDS_BETWEEN_LINES)
    with display(description, total if reading is None else reading.total) as show:
        count, shown = 0, time.monotonic()
        for item in items:
            yield item
            count += 1
            if time.monotonic() - shown >= interval:
                shown = time.monotonic()
                show(count, count if reading is None else reading.done)
        if bar:
            show(count, count if reading is None else reading.done)


@contextmanager
def _in_bar(description: str, whole: int | None) -> Iterator[Show]:
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[count]}"))
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, *times, console=_errors) as progress:
        task = progress.add_task(description, total=whole, count=0)
        yield lambda count, done: progress.update(task, completed=done, count=count)


@contextmanager
def _in_lines(description: str, whole: int | None) -> Iterator[Show]:
    began = time.monotonic()

    def show(count: int, done: int) -> None:
        share = done / whole if whole else 0.0
        _errors.print(_progress_line(description, count, share, time.monotonic() - began), markup=False)

    yield show


def _progress_line(description: str, count: int, share: float, seconds: float) -> str:
    """The line about a loop that has done a share (0: unknown) of its work in so many seconds.

    >>> _progress_line("train.json", 31000, 0.4, 20.0)
    'train.json: 31000, 40%, 0:30 left'
    """
    if not 0.0 < share <= 1.0:
        return f"{description}: {count}"
    minutes, rest = divmod(round(seconds * (1.0 - share) / share), 60)
    return f"{description}: {count}, {share:.0%}, {minutes}:{rest:02d} left"
