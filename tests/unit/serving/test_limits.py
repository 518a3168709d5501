"""Each limit, what it says, and that requests below it pass."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from starlette.responses import JSONResponse
from starlette.types import Message

from finrank import Ranker
from finrank.serving.app import make_app
from finrank.serving.guard import Guard, Traffic
from finrank.serving.limits import Limits
from tests.helpers.live_server import Live, SlowScoring, running, wait_until

ASKED: dict[str, Any] = {"question": "how ?", "candidates": ["add(1, 2)", "yes"]}


@contextmanager
def limited(ranker: Ranker, **limits: Any) -> Iterator[TestClient]:
    app = make_app(ranker, "tiny", Limits(**limits))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        assert client.post("/v1/rank", json=ASKED).status_code == 200
        yield client


def ask(live: Live, timeout: float | httpx.Timeout = 30.0) -> httpx.Response:
    return httpx.post(f"{live.url}/v1/rank", json=ASKED, timeout=timeout)


def refused(response: Any, status: int, kind: str, *said: str) -> None:
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (status, kind)
    assert [text for text in said if text not in error["message"]] == []


LONG = "x" * 300
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("limits", "path", "body", "said"),
    [
        ({"body_bytes": 400}, "/v1/rank", {"text": ["x" * 500]}, ["limit of 400 bytes", "--max_body_kib"]),
        ({"candidates": 2}, "/v1/rank", {"candidates": ["1", "2", "3"]}, ["3 candidates", "limit of 2"]),
        ({"candidates": 2}, "/rerank", {"query": "a", "documents": ["1", "2", "3"]}, ["3 documents", "limit of 2"]),
        ({"parts": 5}, "/v1/rank", {"table": [["a", "b"], []], "text": ["c"] * 2}, ["6 rows, cells", "--max_parts"]),
        ({"parts": 9}, "/rerank", {"query": "table:\na|b|c\nd\ne\nhow ?", "documents": ["1"]}, ["12 rows, cells"]),
        ({"tokens": 60}, "/v1/rank", {"candidates": ["add(1, 2)"] * 10}, ["limit of 60", "--max_tokens"]),
    ],
)
def test_sizes(ranker: Ranker, limits: dict[str, int], path: str, body: dict[str, Any], said: list[str]) -> None:
    with limited(ranker, **limits) as client:
        refused(client.post(path, json={**ASKED, **body}), 413, "too_large", *said)


def test_bytes_of_a_body_of_unknown_or_wrongly_announced_length(ranker: Ranker) -> None:
    with limited(ranker, body_bytes=400) as client:
        chunks = (piece for piece in [b'{"question": "', b"x" * 500, b'"}'])
        refused(client.post("/v1/rank", content=chunks, headers=JSON), 413, "too_large", "limit of 400 bytes")
        for length in ("9" * 5000, "99999"):
            announced = client.post("/v1/rank", content=b"{}", headers={**JSON, "content-length": length})
            refused(announced, 413, "too_large", "400 bytes")


def test_candidates_are_counted_before_they_are_validated(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def validated(*_: Any) -> None:
        pytest.fail("the body was validated")

    monkeypatch.setattr("finrank.serving.error_responses.from_validation", validated)
    for path, field in (("/v1/rank", "candidates"), ("/rerank", "documents")):
        body = f'{{"question": "a", "query": "a", "{field}": [{",".join(["[]"] * 300_000)}]}}'
        response = client.post(path, content=body, headers=JSON)
        refused(response, 413, "too_large", f"300000 {field}", "limit of 256")
        assert response.json()["error"]["field"] == field


CHANGES: list[dict[str, Any]] = [{"question": LONG}, {"candidates": [{"program": LONG}]}, {"text": ["x" * 150] * 2}]
CHANGES += [{"text": [""] * 300}, {"table": [["x" * 150] * 2]}, {"table": [[]] * 300}, {"table": [[""] * 300]}]


@pytest.mark.parametrize("change", CHANGES)
def test_characters(ranker: Ranker, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    with limited(ranker, characters=300) as client:
        assert client.post("/v1/rank", json={**ASKED, "text": ["x" * 150]}).status_code == 200
        monkeypatch.setattr(ranker, "prepare", lambda *_: pytest.fail("the page was prepared"))
        response = client.post("/v1/rank", json={**ASKED, **change})
        refused(response, 413, "too_large", "more than 300 characters", "--max_characters")


def test_preparing_that_takes_too_long(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    prepare = ranker.prepare
    monkeypatch.setattr("finrank.serving.app._SECONDS_TO_STOP", 0.2)
    monkeypatch.setattr(ranker, "prepare", lambda request: go.wait(60) and prepare(request))
    try:
        with running(make_app(ranker, "tiny", Limits(seconds=0.3))) as live:
            refused(ask(live), 504, "timeout", "0.3 s")
            assert httpx.get(f"{live.url}/health").status_code == 200
            live.server.handle_exit(15, None)
            live.thread.join(20)
            assert not live.thread.is_alive(), "the shutdown waited for it"
            threads = [live.service.preparing._ordinary.thread, live.service.batcher._model_thread]
            assert threads[0].is_alive()
            assert all(thread.daemon for thread in threads), "the process would wait for it"
    finally:
        go.set()


def test_a_client_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finrank.serving.guard._SECONDS_TO_SEND", 0.1)
    traffic = Traffic()
    guard = Guard(JSONResponse({}), limits=Limits(seconds=0.1), key=None, traffic=traffic)
    kept: list[int] = []

    async def receive() -> Message:
        if not kept:
            kept.append(len(traffic.arriving))
            return {"type": "http.request", "body": b"{}", "more_body": False}
        await asyncio.sleep(60)
        raise AssertionError("unreachable")

    async def send(_: Message) -> None:
        await asyncio.sleep(60)

    async def run() -> None:
        headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        await asyncio.wait_for(guard(scope, receive, send), 20)

    asyncio.run(run())
    assert (kept, traffic.waiting, len(traffic.arriving)) == ([1], 0, 0)


def test_requests_at_once(ranker: Ranker, slow: SlowScoring) -> None:
    with running(make_app(ranker, "tiny", Limits(waiting=2))) as live, ThreadPoolExecutor(2) as pool:
        accepted = [pool.submit(ask, live) for _ in range(2)]
        wait_until(lambda: live.service.traffic.waiting == 2)
        third = ask(live)
        refused(third, 503, "overloaded", "2 requests", "--max_waiting")
        assert third.headers["retry-after"] == "1"
        slow.go.set()
        assert [response.result().status_code for response in accepted] == [200, 200]
        assert ask(live).status_code == 200


def test_seconds(ranker: Ranker, slow: SlowScoring) -> None:
    with running(make_app(ranker, "tiny", Limits(seconds=0.3))) as live:
        refused(ask(live), 504, "timeout", "0.3 s", "--timeout_s")
        wait_until(lambda: live.service.traffic.waiting == 0)
        # One more waits behind the first, which holds the model: it leaves the queue and is never scored.
        refused(ask(live), 504, "timeout", "0.3 s")
        slow.go.set()
        assert ask(live).status_code == 200
        assert slow.batches == [1, 1]


def test_a_body_that_does_not_arrive(ranker: Ranker) -> None:
    def slowly() -> Iterator[bytes]:
        yield b"{"
        time.sleep(1)
        yield b"}"

    with running(make_app(ranker, "tiny", Limits(seconds=0.3))) as live:
        response = httpx.post(f"{live.url}/v1/rank", content=slowly(), headers=JSON, timeout=5)
        refused(response, 408, "timeout", "within 0.3 s")


def test_a_client_that_goes_leaves_the_queue(ranker: Ranker, slow: SlowScoring) -> None:
    with running(make_app(ranker, "tiny")) as live, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, live)
        assert slow.begun.wait(20)
        with pytest.raises(httpx.ReadTimeout):
            ask(live, timeout=httpx.Timeout(5, read=0.2))
        wait_until(lambda: live.service.traffic.waiting == 1)
        slow.go.set()
        assert first.result().status_code == 200
        assert ask(live).status_code == 200
        assert slow.batches == [1, 1], "the request of the client that went was scored"
