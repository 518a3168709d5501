"""The questions that `finrank sample` asks: the first of each split, and the key of each in the journal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from finrank.errors import UserError
from finrank.records import Question
from finrank.sources.questions import read_questions
from finrank.store import BadLine, split_files


class Asked(NamedTuple):
    """A question, and the key of its completions in the journal."""

    key: str
    question: Question


def key_of(question: Question) -> str:
    """Hash of a question's id and of everything that a model is shown of it."""
    shown = [question.id, question.question, question.table, question.text]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


class QuestionFiles:
    """The first `limit` questions (None: all) of each split, read anew from disk whenever they are needed.

    `paths` holds the file of each split, in the order of the pipeline.
    """

    def __init__(self, input_dir: Path, splits: Sequence[str] | None, limit: int | None) -> None:
        """The given splits of a stage directory (default: all). UserError for a missing one or a limit below 1."""
        if limit is not None and limit < 1:
            raise UserError(f"limit is {limit}: at least 1 question of each split")
        self.paths = split_files(input_dir, splits or (), expected="finqa_processed")
        self.limit = limit

    def read(self, split: str) -> Iterator[tuple[int, Question | BadLine]]:
        """Questions of a split, or faulty lines, with their line numbers."""
        return islice(read_questions(self.paths[split]), self.limit)

    def asked(self) -> Iterator[Asked]:
        """Every question once, whatever the number of its copies."""
        seen: set[str] = set()
        for split in self.paths:
            for _, question in self.read(split):
                if isinstance(question, Question) and (key := key_of(question)) not in seen:
                    seen.add(key)
                    yield Asked(key, question)
