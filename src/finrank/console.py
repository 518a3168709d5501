"""What the user sees: one console, one progress bar, one way to say a warning. Data goes to files, not here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

# Results go to standard output; progress and warnings to standard error, so that results can be piped.
console = Console(highlight=False)
_SECONDS_BETWEEN_LINES = 10.0
_errors = Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print a line for the user; square brackets are printed as they are."""
    console.print(message, markup=False, soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning line to standard error."""
    _errors.print(f"warning: {message}", style="yellow", markup=False)


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield the items under a progress bar with counts, elapsed time and time left (when `total` is known).

    Where the output is no terminal (a log file), a line is written every ten seconds instead.
    """
    if not _errors.is_terminal:
        yield from _track_in_lines(items, description, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_errors) as progress:
        task = progress.add_task(description, total=total)
        for item in items:
            yield item
            progress.advance(task)


def _track_in_lines(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    said = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - said >= _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            _errors.print(f"{description}: {number}{f' of {total}' if total else ''}", markup=False)
        yield item
