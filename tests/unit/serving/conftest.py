"""A served tiny model: its ranker, an app in this process, and a live server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from finrank import Ranker
from finrank.serving.app import make_app
from finrank.serving.limits import Limits
from tests.helpers.live_server import Live, SlowScoring, running
from tests.helpers.saved_ranker import save_tiny_ranker


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights."""
    return save_tiny_ranker(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def ranker(model_dir: Path) -> Ranker:
    """That model, loaded."""
    return Ranker.from_pretrained(model_dir, device="cpu")


@pytest.fixture(scope="module")
def client(ranker: Ranker) -> Iterator[TestClient]:
    """A client of the app with its default limits; an error in the app becomes a 500, as on a real server."""
    with TestClient(make_app(ranker, "tiny"), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def live(ranker: Ranker) -> Iterator[Live]:
    """A live server of the tiny model that takes 12 candidates at most."""
    with running(make_app(ranker, "tiny", Limits(candidates=12))) as served:
        yield served


@pytest.fixture
def url(live: Live) -> str:
    return live.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A running browser; its tests skip where there is none."""
    from tests.helpers.browser import launched

    with launched() as running_browser:
        yield running_browser


@pytest.fixture
def visit(browser: Any, url: str) -> tuple[Any, list[str]]:
    """The page, ready, and the list of what it says on the console or asks of other hosts."""
    from tests.helpers.browser import opened

    return opened(browser, url)


@pytest.fixture
def page(visit: tuple[Any, list[str]]) -> Any:
    """The page, ready."""
    return visit[0]


@pytest.fixture
def silence(visit: tuple[Any, list[str]]) -> Iterator[None]:
    """The page says nothing on the console and asks no other host during the test."""
    yield
    assert visit[1] == []


@pytest.fixture
def slow(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> SlowScoring:
    """The ranker scores only once `slow.go` is set."""
    scoring = SlowScoring(ranker)
    monkeypatch.setattr(ranker, "score", scoring)
    return scoring
