"""The journal of `finrank sample`: every completion that was received, so that none has to be paid for twice.

    {"journal": "finrank sample", "settings": {"model": "my-llm", "temperature": 1.0, ...}}
    {"key": "9f2c...", "completions": [["{\\"answer\\": 94.0, ...}", "stop"]], "tokens": [812, 31]}

A line is on the disk before the next request of its question is sent. The next run cuts off a last line that a kill
has torn.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finrank.errors import UserError
from finrank.store.growing_file import GrowingFile, difference, open_locked

Completion = tuple[str, str | None]  # a text, and why it ended if the server said so, such as "stop" or "length"
_REMEDY = "use the old settings, another --output_dir, or --overwrite, which asks for all of them again"


@contextmanager
def open_journal(path: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> Iterator[Journal]:
    """Lock and read a journal; an empty one is deleted again at the end, and `overwrite` drops what it holds.

    `settings` and a question decide its completions. Raises UserError if the file was made with other settings, is
    damaged, or is in use.
    """
    with open_locked(path, "finrank sample"):
        if overwrite:
            os.truncate(path, 0)
        journal = Journal(path, settings)
        try:
            yield journal
        finally:
            if journal.is_empty:
                journal.remove()


class Journal:
    """The completions so far, in a file that grows; `open_journal` locks it."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Read the file; UserError if it holds completions of other settings or is damaged."""
        self.path, self._file = path, GrowingFile(path)
        self.tokens = {"prompt": 0, "completion": 0}
        self._offsets: defaultdict[str, list[int]] = defaultdict(list)  # of a key's lines; texts stay on the disk
        self._completions: Counter[str] = Counter()
        stored: dict[str, Any] = {}
        for number, (offset, line) in enumerate(self._file.finish_lines(), start=1):
            try:
                row = json.loads(line)
                if number == 1:
                    stored = dict(row["settings"])
                else:
                    self._count(row, offset)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}:{number} is damaged ({error}): {_REMEDY}") from error
        self._file.cut()
        if self.is_empty:
            os.truncate(path, 0)
            self._file = GrowingFile(path)
            self._append({"journal": "finrank sample", "settings": dict(settings)})
        elif stored != settings:
            changed = difference(stored, settings)
            raise UserError(f"{path} holds completions of other settings: {changed}; {_REMEDY}")

    @property
    def is_empty(self) -> bool:
        """True if no completion was received yet."""
        return not self._offsets

    def requests(self, key: str) -> int:
        """Number of replies to a question."""
        return len(self._offsets.get(key, ()))

    def count(self, key: str) -> int:
        """Number of completions of a question."""
        return self._completions[key]

    def add(self, key: str, completions: Sequence[Completion], tokens: tuple[int | None, int | None]) -> None:
        """Store a reply on disk: its completions, and the tokens of its prompt and of its completions."""
        row = {"key": key, "completions": completions, "tokens": tokens}
        self._count(row, self._append(row))

    def completions(self, key: str) -> list[Completion]:
        """All completions of a question, in the order in which they were received."""
        received: list[Completion] = []
        with self.path.open("rb") as stream:
            for offset in self._offsets.get(key, ()):
                stream.seek(offset)
                received += [(text, finish) for text, finish in json.loads(stream.readline())["completions"]]
        return received

    def remove(self) -> None:
        """Delete the file, which is empty or whose completions are in a stage directory by now."""
        self.path.unlink(missing_ok=True)

    def _append(self, row: Mapping[str, Any]) -> int:
        return self._file.append(json.dumps(row).encode() + b"\n")

    def _count(self, row: Mapping[str, Any], offset: int) -> None:
        self._completions[row["key"]] += len(row["completions"])
        self._offsets[row["key"]].append(offset)
        for name, tokens in zip(("prompt", "completion"), row["tokens"], strict=True):
            self.tokens[name] += tokens or 0
