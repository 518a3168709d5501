"""A served tiny model: its ranker, an app in this process, and a live server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from finrank import Ranker
from finrank.serving.app import Service, make_app
from finrank.serving.server import DrainingServer, bind
from tests.serving.serving_model import save_tiny_model


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights."""
    return save_tiny_model(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def ranker(model_dir: Path) -> Ranker:
    """That model, loaded."""
    return Ranker.from_pretrained(model_dir, device="cpu")


@pytest.fixture(scope="module")
def client(ranker: Ranker) -> Iterator[TestClient]:
    """A client of the app with its default limits; an error in the app becomes a 500, as on a real server."""
    with TestClient(make_app(ranker, "tiny"), raise_server_exceptions=False) as client:
        yield client


@dataclass(frozen=True)
class Live:
    """A server that listens on loopback in a thread of this process."""

    url: str
    server: DrainingServer
    thread: threading.Thread
    service: Service


@contextmanager
def running(app: FastAPI) -> Iterator[Live]:
    """Serve the app on a free port until the block ends."""
    opened = bind("127.0.0.1", 0)
    server = DrainingServer(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    assert server.started
    try:
        yield Live(f"http://127.0.0.1:{opened.getsockname()[1]}", server, thread, app.state.service)
    finally:
        server.handle_exit(15, None)
        thread.join(20)
        opened.close()
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture(scope="module")
def live(ranker: Ranker) -> Iterator[Live]:
    """A live server of the tiny model."""
    with running(make_app(ranker, "tiny")) as served:
        yield served
