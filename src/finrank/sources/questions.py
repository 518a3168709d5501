"""The questions of a stage's split, whether its records are questions, pools or rewarded pools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from finrank.console import Reading
from finrank.records import Pool, Question, RewardedPool
from finrank.store.json_lines import BadLine, read_lines, read_record


def read_questions(path: Path, reading: Reading | None = None) -> Iterator[tuple[int, Question | BadLine]]:
    """Stream the questions of a split, each with the number of its line; candidates and rewards are left out."""
    model: type[Question] | None = None
    for line in read_lines(path, reading):
        model = model or _record_type(line.content)
        record = read_record(line, model)
        yield line.number, record if isinstance(record, BadLine) else Question.of(record)


def _record_type(line: bytes) -> type[Question]:
    try:
        keys = json.loads(line).keys()
    except (ValueError, AttributeError, RecursionError):
        return Question  # read_record says what is wrong with the line
    return RewardedPool if "rewards" in keys else Pool if "candidates" in keys else Question
