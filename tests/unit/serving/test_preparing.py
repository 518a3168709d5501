"""Large requests: they hold nobody up, stop once nobody waits for them, and get responses of a bounded size."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from finrank import Ranker
from finrank.pools.candidate import read_candidate
from finrank.serving.app import make_app
from finrank.serving.limits import Limits
from finrank.serving.preparing import Preparing
from tests.helpers.live_server import running, wait_until

ORDINARY: dict[str, Any] = {"question": "how ?", "candidates": ["add(1, 2)", "yes"]}
LARGE: dict[str, Any] = {**ORDINARY, "text": ["x" * 40_000]}


def test_an_ordinary_request_does_not_wait_behind_a_large_one(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    prepare = ranker.prepare

    def slow_if_large(request: Any) -> Any:
        if request["text"]:
            begun.set()
            assert go.wait(20)
        return prepare(request)

    monkeypatch.setattr(ranker, "prepare", slow_if_large)
    with running(make_app(ranker, "tiny")) as live, ThreadPoolExecutor(1) as pool:
        large = pool.submit(httpx.post, f"{live.url}/v1/rank", json=LARGE, timeout=30)
        assert begun.wait(20)
        assert httpx.post(f"{live.url}/v1/rank", json=ORDINARY).status_code == 200
        assert not large.done()
        go.set()
        assert large.result().status_code == 200


def test_a_request_whose_time_is_over_is_read_no_further(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    begun, go = threading.Event(), threading.Event()

    def read_or_stop(item: Any, table: Any) -> Any:
        read.append(item)
        begun.set()
        assert go.wait(20)
        return read_candidate(item, table)

    monkeypatch.setattr("finrank.ranker.requests.read_candidate", read_or_stop)
    with running(make_app(ranker, "tiny", Limits(seconds=0.3))) as live:
        assert httpx.post(f"{live.url}/v1/rank", json=ORDINARY).status_code == 504
        assert begun.is_set()
        go.set()
        wait_until(lambda: httpx.post(f"{live.url}/v1/rank", json={**ORDINARY, "candidates": ["no"]}).is_success)
    assert read[0] == "add(1, 2)"
    assert "yes" not in read, "the second candidate was read although nobody waited"


def test_work_that_goes_from_item_to_item_ends_when_its_caller_is_cancelled() -> None:
    seen: list[int] = []
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work(while_wanted: Any) -> None:
        try:
            for number in while_wanted(range(1000)):
                seen.append(number)
                begun.set()
                assert go.wait(20)
        finally:
            ended.set()

    async def run() -> None:
        preparing = Preparing()
        preparing.start()
        task = asyncio.create_task(preparing.run(1, work))
        await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        go.set()
        assert await asyncio.to_thread(ended.wait, 20)
        await asyncio.to_thread(preparing.stop, 20)

    asyncio.run(run())
    assert seen == [0]


def same_number_everywhere() -> Iterator[dict[str, Any]]:
    yield {"table": [["", *["2009"] * 9000], ["a"]], "candidates": ["table_sum(a, none)"]}
    yield {"table": [["", "2009"], ["a", *["5"] * 9_900]]}
    yield {"table": [["", "2009"], ["a", *["5"] * 9_900]], "candidates": ["table_max(a, none)", "table_min(a, none)"]}
    yield {"text": ["5 and 5"] * 9_900}


@pytest.mark.parametrize("page", list(same_number_everywhere()))
def test_a_number_that_fills_the_page_does_not_fill_the_response(ranker: Ranker, page: dict[str, Any]) -> None:
    asked = {"question": "how ?", "candidates": [f"add(5, {number})" for number in range(200)], **page}
    with TestClient(make_app(ranker, "tiny"), base_url="http://localhost") as client:
        response = client.post("/v1/rank", json=asked)
    assert response.status_code == 200
    body = response.json()
    evidence = [len(one["evidence"]["cells"]) + len(one["evidence"]["sentences"]) for one in body["answers"]]
    assert max(evidence) <= 100
    assert sum(evidence) <= 5_000
    assert len(response.content) < 150_000
    left_out = sum(count == 0 for count in evidence)
    if sum(evidence) == 5_000:
        assert evidence[0] == 100, "the most probable answers come first"
        assert body["warnings"] == [
            f"evidence: {left_out} answers without, because all have more than 5000 cells and sentences"
        ]
