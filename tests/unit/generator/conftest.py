"""The tiny causal model of the tests of this folder, and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finrank.generator.model import load_generation_tokenizer
from tests.helpers.tiny_generator import save_tiny_causal_lm


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_causal_lm(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def tokenizer(base: Path) -> Any:
    return load_generation_tokenizer(str(base))
