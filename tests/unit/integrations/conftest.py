"""A tiny ranker for the pipelines of other libraries."""

from __future__ import annotations

import pytest

from finrank import Ranker
from tests.helpers.saved_ranker import save_tiny_ranker


@pytest.fixture(scope="session")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """A model with random weights."""
    return Ranker.from_pretrained(save_tiny_ranker(tmp_path_factory.mktemp("reranking")), device="cpu")
