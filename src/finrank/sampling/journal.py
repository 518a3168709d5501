"""The journal of `finrank sample`: every completion that was received, so that none has to be paid for twice.

    {"journal": "finrank sample", "settings": {"model": "my-llm", "temperature": 1.0, ...}}
    {"key": "9f2c...", "completions": [["{\\"answer\\": 94.0, ...}", "stop"]], "tokens": [812, 31]}

A line is on the disk before the next request of its question is sent. Whatever a killed run left of a last line is cut
off by the next one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from finrank.errors import UserError
from finrank.records import Question
from finrank.store.growing_file import difference, lock

Completion = tuple[str, str | None]  # its text, and why it ended where that is known


def key_of(question: Question) -> str:
    """What the completions of a question are kept under: a hash of its id and all that a model is shown of it."""
    shown = [question.id, question.question, question.table, question.text]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


class Journal:
    """The completions so far, in a file that grows; use as a context manager, which locks it."""

    def __init__(self, path: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """`settings` are what, besides the question, decides its completions; `overwrite` drops what is there.

        Entering raises UserError when the file was made with other settings, is damaged, or is in use.
        """
        self.path = path
        self.tokens = {"prompt": 0, "completion": 0}
        self._settings = dict(settings)
        self._overwrite = overwrite
        self._places: dict[str, list[int]] = {}  # where the lines of a key begin; texts stay on the disk
        self._completions: Counter[str] = Counter()

    def __enter__(self) -> Journal:
        self._file = self._locked()
        try:
            if self._overwrite:
                self._file.truncate(0)
            self._read()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_empty:
            self.remove()
        self._file.close()

    @property
    def is_empty(self) -> bool:
        """Whether no completion at all was received."""
        return not self._places

    def requests(self, key: str) -> int:
        """How many replies a question has had."""
        return len(self._places.get(key, ()))

    def count(self, key: str) -> int:
        """How many completions a question has."""
        return self._completions[key]

    def add(self, key: str, completions: Sequence[Completion], tokens: tuple[int | None, int | None]) -> None:
        """Keep a reply: its completions, and the tokens of its prompt and of all its completions; on the disk then."""
        row = {"key": key, "completions": completions, "tokens": tokens}
        place = self._append(row)
        self._take(row, place)

    def completions(self, key: str) -> list[Completion]:
        """All completions of a question, in the order in which they came."""
        found: list[Completion] = []
        for place in self._places.get(key, ()):
            self._file.seek(place)
            found += [(text, finish) for text, finish in json.loads(self._file.readline())["completions"]]
        return found

    def remove(self) -> None:
        """Delete the file: there is nothing in it, or its completions now stand in a stage directory."""
        self.path.unlink(missing_ok=True)

    def _locked(self) -> IO[bytes]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+b")
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from error
        return lock(file, f"another finrank sample is writing {self.path}: wait for it, or stop it")

    def _read(self) -> None:
        self._file.seek(0)
        number = place = 0
        while (line := self._file.readline()).endswith(b"\n"):
            number += 1
            try:
                row = json.loads(line)
                if number == 1:
                    stored = row["settings"]
                else:
                    self._take(row, place)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{self.path}:{number} is damaged ({error}): {self._remedy()}") from error
            place += len(line)
        self._file.truncate(place)  # a line that a killed run did not finish
        if self.is_empty:
            self._file.truncate(0)
            self._append({"journal": "finrank sample", "settings": self._settings})
        elif stored != self._settings:
            raise UserError(
                f"{self.path} holds completions asked for with other settings: "
                f"{difference(stored, self._settings)}; {self._remedy()}"
            )

    def _remedy(self) -> str:
        return "take the old settings, another --output_dir, or --overwrite, which asks for all of them again"

    def _append(self, row: Mapping[str, Any]) -> int:
        """Write a line behind all others; the place where it begins."""
        place = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        return place

    def _take(self, row: Mapping[str, Any], place: int) -> None:
        self._completions[row["key"]] += len(row["completions"])
        self._places.setdefault(row["key"], []).append(place)
        for name, tokens in zip(("prompt", "completion"), row["tokens"], strict=True):
            self.tokens[name] += tokens or 0
