"""Questions that several tests of pools share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from finrank.records import Question
from finrank.sources.finqa import Example
from finrank.sources.sample import generate
from tests.candidates.questions import as_questions, finqa_questions


class Questions(NamedTuple):
    """Two lists of questions that share no page."""

    train: list[Question]
    dev: list[Question]


@pytest.fixture(scope="session")
def sample() -> Questions:
    """400 train and 200 dev questions of the embedded sample."""
    splits = generate(train=400, dev=200, test=0)
    return Questions(*(as_questions(map(Example.model_validate, splits[split])) for split in ("train", "dev")))


@pytest.fixture(scope="session")
def finqa_dev(finqa_dir: Path) -> list[Question]:
    """The dev questions of real FinQA."""
    return finqa_questions(finqa_dir / "dev.json")
