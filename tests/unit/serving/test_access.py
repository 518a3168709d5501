"""Who is served: hosts of this machine without a key, and holders of the key, with one; guessing is slow."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from finrank import Ranker
from finrank.serving.app import make_app
from tests.helpers.live_server import running, wait_until

ASKED: dict[str, Any] = {"question": "how ?", "candidates": ["add(1, 2)", "yes"]}
KEY = "sixteen-or-more-"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:80", "127.3.2.1", "[::1]:80"])
def test_names_of_this_machine(client: TestClient, host: str) -> None:
    assert client.post("/v1/rank", json=ASKED, headers={"host": host}).status_code == 200


OTHERS = [
    "[::1].evil.example",
    "localhost:evil.example",
    "localhost:80:80",
    "[localhost]",
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "0.0.0.0:80",
    "",
    "[::",
]


@pytest.mark.parametrize("host", [*OTHERS, "[2001:db8::1]:80", "192.168.1.5", "user@localhost"])
def test_a_name_that_was_bent_to_this_machine_is_refused(client: TestClient, host: str) -> None:
    for method, path in (("POST", "/v1/rank"), ("GET", "/"), ("GET", "/health"), ("HEAD", "/docs"), ("OPTIONS", "/")):
        response = client.request(method, path, json=ASKED, headers={"host": host})
        assert response.status_code == 403
        if method != "HEAD":
            assert response.json()["error"]["type"] == "forbidden"
            assert "FINRANK_API_KEY" in response.json()["error"]["message"]


def test_with_a_key_the_server_has_any_name(ranker: Ranker) -> None:
    with TestClient(make_app(ranker, "tiny", key=KEY), base_url="http://finrank.example") as client:
        assert client.get("/").status_code == 200
        assert client.post("/v1/rank", json=ASKED, headers={"authorization": f"Bearer {KEY}"}).status_code == 200


def test_wrong_keys_are_slowed_and_right_ones_are_not(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finrank.serving.access._SECONDS_FOR_WRONG_KEY", 1.0)

    def ask(key: str) -> tuple[int, float]:
        begun = time.monotonic()
        status = client.post(f"{live.url}/v1/rank", json=ASKED, headers={"authorization": f"Bearer {key}"}).status_code
        return status, time.monotonic() - begun

    # One client: to make a new one for each guess takes too long on a busy machine.
    with running(make_app(ranker, "tiny", key=KEY)) as live, ThreadPoolExecutor(24) as pool, httpx.Client() as client:
        status, seconds = ask("wrong")
        assert status == 401
        assert seconds >= 1
        wrong = pool.submit(ask, "wrong")
        status, seconds = ask(KEY)
        assert status == 200
        assert not wrong.done()
        guesses = [guess.result() for guess in [pool.submit(ask, f"guess {number}") for number in range(24)]]
        assert {status for status, _ in guesses} == {401, 429}
        assert sum(status == 401 for status, _ in guesses) <= 16, "many at once were tried"
        wait_until(lambda: ask(KEY)[0] == 200)


def test_a_missing_key_is_not_slowed_for_it_is_no_guess(ranker: Ranker) -> None:
    with running(make_app(ranker, "tiny", key=KEY)) as live:
        begun = time.monotonic()
        assert [httpx.post(f"{live.url}/v1/rank", json=ASKED).status_code for _ in range(5)] == [401] * 5
        assert time.monotonic() - begun < 1
