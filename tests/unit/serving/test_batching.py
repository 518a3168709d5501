"""Concurrent requests are scored together, in the order of arrival, within the token budget, and as if alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from finrank import Ranker
from finrank.serving.app import make_app
from finrank.serving.batching import Batcher, Scores
from finrank.serving.limits import Limits
from tests.helpers.live_server import SlowScoring, running, wait_until
from tests.helpers.serving_model import ASKED


class Request(NamedTuple):
    """The part of a prepared request that a batcher needs."""

    number: int
    tokens: int


class Held:
    """Scoring that is held up at its first batch, so that others gather; returns the number of each request."""

    def __init__(self, fails_on: int | None = None) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self._fails_on = fails_on

    def __call__(self, requests: Sequence[Any]) -> list[Scores]:
        self.threads.add(threading.get_ident())
        self.batches.append([request.number for request in requests])
        self.begun.set()
        assert self.go.wait(20)
        if self._fails_on in self.batches[-1]:
            raise MemoryError("too large")
        return [np.array([float(request.number)]) for request in requests]


def run_held(held: Held, sizes: list[int], budget: int, cancelled: Sequence[int] = ()) -> list[Any]:
    """Send request 0, and once it is being scored the others; return the scores or the error of each."""

    async def run() -> list[Any]:
        batcher = Batcher(held, budget)
        batcher.start()
        tasks = []
        for number, tokens in enumerate(sizes):
            tasks.append(asyncio.create_task(batcher.score(Request(number, tokens))))  # type: ignore[arg-type]
            if number == 0:
                await asyncio.to_thread(held.begun.wait, 20)
        await asyncio.sleep(0)
        for number in cancelled:
            tasks[number].cancel()
        await asyncio.sleep(0)
        held.go.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(batcher.stop, 20)
        return [one if isinstance(one, BaseException) else one.tolist() for one in found]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([10, 10, 10, 10], [[0], [1, 2, 3]]),
        ([10, 60, 50, 10], [[0], [1], [2, 3]]),
        ([10, 500, 10, 100], [[0], [1], [2], [3]]),
        ([10, 40, 60, 1], [[0], [1, 2], [3]]),
    ],
)
def test_batches_fill_the_budget_in_the_order_of_arrival(sizes: list[int], expected: list[list[int]]) -> None:
    held = Held()
    assert run_held(held, sizes, budget=100) == [[float(number)] for number in range(len(sizes))]
    assert held.batches == expected
    assert len(held.threads) == 1, "one thread owns the model"


@pytest.mark.parametrize(
    ("held", "cancelled", "error", "batches"),
    [
        (Held(), [2], asyncio.CancelledError, [[0], [1, 3]]),
        (Held(fails_on=2), [], MemoryError, [[0], [1, 2, 3], [1], [2], [3]]),
    ],
    ids=["cancelled", "failing"],
)
def test_a_request_that_is_cancelled_or_fails_does_not_harm_its_batch(
    held: Held, cancelled: list[int], error: type[BaseException], batches: list[list[int]]
) -> None:
    results = run_held(held, [10] * 4, budget=100, cancelled=cancelled)
    assert isinstance(results.pop(2), error)
    assert results == [[0.0], [1.0], [3.0]]
    assert held.batches == batches


def test_concurrent_requests_get_what_they_get_alone(ranker: Ranker, slow: SlowScoring) -> None:
    requests = [
        {**ASKED, "question": f"what is number {number} ?", "candidates": ["add(1, 2)", f"add({number}, 11)", number]}
        for number in range(12)
    ]
    with running(make_app(ranker, "tiny", Limits(batch_tokens=100_000))) as live, ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(httpx.post, f"{live.url}/v1/rank", json=body, timeout=30) for body in requests]
        wait_until(lambda: sum(slow.batches) + len(live.service.batcher._waiting) == 12)
        slow.go.set()
        for request, answer in zip(requests, answers, strict=True):
            alone = Ranker(ranker._loaded).rank(**request)
            together = answer.result().json()["answers"]
            assert [one["index"] for one in together] == [one.index for one in alone]
            assert [one["score"] for one in together] == pytest.approx([one.score for one in alone], abs=1e-4)
        health = httpx.get(f"{live.url}/health").json()
        assert health["requests"] == 12
        assert health["batches"] == 2, "what came first, and all that gathered meanwhile"
