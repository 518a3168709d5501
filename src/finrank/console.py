"""Everything that the user sees: one console, one progress bar, one form of warning. Data goes to files, not here.

Ids and texts come from other people's files: markup and emoji codes are printed as they are written, and characters
that a terminal would obey instead of showing (escape sequences, backspaces, changes of direction) as `\\x1b`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")
Show = Callable[[int, int], None]  # takes the number of items done, and how much of the whole that is

# Control characters but line ends and tabs, marks that change the direction of writing, and lone surrogates.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """A text for a terminal: characters that it would obey instead of showing are escaped.

    >>> visible("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class PlainConsole(Console):
    """A console that shows every text as it is: in lines, tables and titles."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text that is printed comes through here."""
        return super().render_str(visible(text), **options)


# Results go to standard output; progress and warnings to standard error, so that results can be piped.
console = PlainConsole()
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_UPDATES = 0.1  # of the bar: updating at each item would cost more than the item
_errors = PlainConsole(stderr=True, soft_wrap=True)


def be_quiet() -> None:
    """Print nothing from here on: of several processes that train together the main one speaks."""
    console.quiet = _errors.quiet = True


def say(message: str) -> None:
    """Print a line for the user."""
    console.print(message, soft_wrap=True)


def say_all(messages: Iterable[str]) -> None:
    """Print lines for the user."""
    for message in messages:
        say(message)


def warn(message: str) -> None:
    """Print a warning line to standard error."""
    _errors.print(f"warning: {message}", style="yellow")


def note(message: str) -> None:
    """Print a line to standard error that is good to know, and no fault."""
    _errors.print(message)


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
    with Progress(TextColumn("{task.description}", markup=False), *columns, *times, console=_errors) as progress:
        task = progress.add_task(visible(description), total=whole, count=0)
        yield lambda count, done: progress.update(task, completed=done, count=count)


@contextmanager
def _in_lines(description: str, whole: int | None) -> Iterator[Show]:
    began = time.monotonic()

    def show(count: int, done: int) -> None:
        share = done / whole if whole else 0.0
        _errors.print(_progress_line(description, count, share, time.monotonic() - began))

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
