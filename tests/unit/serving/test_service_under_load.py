"""64 clients of a real server process, which gets SIGTERM in the middle: no accepted request is lost or wrong.

15 seconds; 60 with FINRANK_FUZZ=full.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from finrank import Ranker
from tests.helpers.json_mutations import rounds
from tests.helpers.live_server import complaints, wait_until
from tests.helpers.serving_model import ASKED, CANDIDATES

pytestmark = pytest.mark.slow

CLIENTS = 64
SECONDS = 60.0 if rounds(10) == 10 else 15.0
REQUESTS = [{**ASKED, "id": f"q{n}", "candidates": [*CANDIDATES, f"add({n}, 0.5)"][: 2 + n % 4]} for n in range(40)]


class Load:
    """Clients that ask one request after the other, on connections that they keep, until the server is gone."""

    def __init__(self, url: str, expected: dict[str, list[float]]) -> None:
        self.url = url
        self._expected = expected
        self.counts: Counter[str] = Counter()
        self.stopping = threading.Event()
        self._lock = threading.Lock()

    def ask_until_refused(self, number: int) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            until = time.monotonic() + SECONDS
            while time.monotonic() < until and self._ask(client, REQUESTS[number % len(REQUESTS)]) != "refused":
                number += 1

    def _ask(self, client: httpx.Client, request: dict[str, Any]) -> str:
        before = not self.stopping.is_set()
        try:
            outcome = self._read(client.post("/v1/rank", json=request), request)
        except httpx.TransportError as error:
            # Sent while the server ends: refused, or reset before it was read. What was sent before has an answer.
            outcome = f"lost: {error!r}" if before else "refused"
        with self._lock:
            self.counts[outcome] += 1
        return outcome

    def _read(self, response: httpx.Response, request: dict[str, Any]) -> str:
        body = response.json()
        if response.status_code == 503:
            return "503" if body["error"]["type"] in ("shutting_down", "overloaded") else f"503: {body}"
        if response.status_code != 200:
            return f"{response.status_code}: {body}"
        scores = [answer["score"] for answer in body["answers"]]
        right = body["id"] == request["id"] and scores == pytest.approx(self._expected[request["id"]], abs=1e-4)
        return "answered" if right else f"wrong: {body}"


def test_a_shutdown_under_load_answers_every_accepted_request(model_dir: Path, ranker: Ranker) -> None:
    expected = {asked["id"]: [one.score for one in ranker.rank_many([asked])[0]] for asked in REQUESTS}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "finrank", "serve", "--port", "0", "--model", str(model_dir)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as server, ThreadPoolExecutor(CLIENTS) as pool:
        try:
            load = Load(server.stdout.readline().split(" is served on ")[1].split()[0], expected)
            wait_until(lambda: answers(load.url))
            clients = [pool.submit(load.ask_until_refused, number) for number in range(CLIENTS)]
            time.sleep(SECONDS / 2)
            answered = load.counts["answered"]
            load.stopping.set()
            server.send_signal(signal.SIGTERM)
            rest, errors = server.communicate(timeout=120)
            for client in clients:
                client.result(timeout=120)
        finally:
            server.kill()
    print(json.dumps(load.counts))
    assert (server.returncode, complaints(errors)) == (0, "")
    assert rest.splitlines()[-1] == "stopped"
    assert set(load.counts) <= {"answered", "503", "refused"}
    assert answered > CLIENTS
    assert load.counts["answered"] > answered  # those that were accepted before the signal


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False
