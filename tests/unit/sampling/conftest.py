"""Questions to sample from, and retries without their waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.sampling import KEY, write_data


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their waits, and a key in the environment."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder that `write_data` writes."""
    return write_data(tmp_path / "data")
