"""A server that listens on loopback in a thread of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from finrank import Ranker
from finrank.serving.app import Service
from finrank.serving.batching import Scores
from finrank.serving.server import DrainingServer, bind


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
    wait_until(lambda: server.started)
    try:
        yield Live(f"http://127.0.0.1:{opened.getsockname()[1]}", server, thread, app.state.service)
    finally:
        server.handle_exit(15, None)
        thread.join(20)
        opened.close()
        assert not thread.is_alive(), "the server did not stop"


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail after 20 seconds."""
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    assert condition()


class SlowScoring:
    """Scoring in place of a ranker's own that waits for `go`; `batches` are the sizes of those that it has begun."""

    def __init__(self, ranker: Ranker) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.batches: list[int] = []
        self._ranker = Ranker(ranker._loaded)

    def __call__(self, prepared: Sequence[Any], before_pass: Callable[[], None]) -> list[Scores]:
        self.batches.append(len(prepared))
        self.begun.set()
        assert self.go.wait(20)
        return self._ranker.score(prepared, before_pass)


def complaints(stderr: str) -> str:
    """What a command wrote to stderr, without the note that the model of a test has its base weights elsewhere."""
    lines = stderr.splitlines(keepends=True)
    return "".join(line for line in lines if "names base weights outside of its folder" not in line)
