"""Concurrent requests are scored together, in the order of arrival, within the token budget, and as if alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from finrank import Ranker
from finrank.ranker.attention.tuning import CPU
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

    def __call__(self, requests: Sequence[Any], before_pass: Callable[[], None]) -> list[Scores]:
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


@pytest.mark.parametrize(("cancelled", "ends"), [([1, 2], True), ([1], False)])
def test_passes_end_once_nobody_waits_for_the_batch(cancelled: list[int], ends: bool) -> None:
    passes: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def score(requests: Sequence[Any], before_pass: Callable[[], None]) -> list[Scores]:
        for number in range(4):
            before_pass()
            passes.append(number)
            if len(requests) == 2 and number == 1:
                begun.set()
                assert go.wait(20)
        return [np.array([float(request.number)]) for request in requests]

    async def run() -> list[Any]:
        batcher = Batcher(score, 100)
        tasks = [asyncio.create_task(batcher.score(Request(number, 10))) for number in (1, 2)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        batcher.start()
        await asyncio.to_thread(begun.wait, 20)
        for number in cancelled:
            tasks[number - 1].cancel()
        await asyncio.sleep(0)
        go.set()
        scores = await asyncio.gather(*tasks, batcher.score(Request(3, 10)), return_exceptions=True)  # type: ignore[arg-type]
        await asyncio.to_thread(batcher.stop, 20)
        return scores

    scores = asyncio.run(run())
    assert scores[2].tolist() == [3.0]
    assert ends or scores[1].tolist() == [2.0]
    assert passes == [0, 1, *([] if ends else [2, 3]), 0, 1, 2, 3]


def test_work_on_a_request_ends_when_its_time_is_over(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[float] = []

    def slow_pass(*_: Any) -> None:
        passes.append(time.monotonic())
        time.sleep(0.2)

    model = ranker._loaded.model
    monkeypatch.setattr(model, "tuning", replace(CPU, one_pass_tokens=1, chunk_tokens=1))
    many = {**ASKED, "candidates": [f"add({number}, 1)" for number in range(20)]}
    with running(make_app(ranker, "tiny", Limits(seconds=1.0))) as live:
        hook = model.encoder.register_forward_pre_hook(slow_pass)
        assert httpx.post(f"{live.url}/v1/rank", json=many, timeout=30).status_code == 504
        time.sleep(1.5)
        hook.remove()
        assert httpx.post(f"{live.url}/v1/rank", json=ASKED | {"candidates": [1]}, timeout=30).status_code == 200
    assert 2 <= len(passes) <= 10, "21 passes without an end"


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
