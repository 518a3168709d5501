"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from finrank.records import Question
from finrank.sources.finqa import Example
from finrank.sources.made_up import generate
from tests.helpers.questions import Questions, as_questions, finqa_questions

REPOSITORY = Path(__file__).resolve().parents[1]
# A shell starts what runs in its background deaf to ctrl-C, and the processes that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def finqa_dir() -> Path:
    """The folder of the real FinQA files; tests that need it skip where it is missing."""
    looked = [os.environ.get("FINQA_DIR"), REPOSITORY.parent / "shared" / "data" / "finqa"]
    for folder in looked:
        if folder and (Path(folder) / "dev.json").is_file():
            return Path(folder)
    pytest.skip(f"real FinQA not found: set FINQA_DIR, or put it in {looked[1]}")


@pytest.fixture(scope="session")
def sample() -> Questions:
    """400 train and 200 dev questions of the embedded data."""
    splits = generate(train=400, dev=200, test=0)
    return Questions(*(as_questions(map(Example.model_validate, splits[split])) for split in ("train", "dev")))


@pytest.fixture(scope="session")
def finqa_dev(finqa_dir: Path) -> list[Question]:
    """The dev questions of real FinQA."""
    return finqa_questions(finqa_dir / "dev.json")
