"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def finqa_dir() -> Path:
    """The folder of the real FinQA files; tests that need it skip, saying where it was looked for."""
    looked = [os.environ.get("FINQA_DIR"), REPOSITORY.parent / "shared" / "data" / "finqa"]
    for place in looked:
        if place and (Path(place) / "dev.json").is_file():
            return Path(place)
    pytest.skip(f"real FinQA not found: set FINQA_DIR, or put it in {looked[1]}")
