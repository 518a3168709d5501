"""The service among very many strangers: stalled bodies, idle connections, and requests without end."""

from __future__ import annotations

import gc
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from finrank import Ranker
from finrank.serving.app import make_app
from finrank.serving.limits import Limits
from tests.helpers.live_server import Live, running, wait_until
from tests.helpers.serving_model import ASKED, CANDIDATES
from tests.helpers.strangers import connected, is_closed, stalled, written

REQUEST: dict[str, Any] = {**ASKED, "candidates": CANDIDATES}


def test_stalled_bodies_hold_no_places(ranker: Ranker) -> None:
    with running(make_app(ranker, "tiny", Limits(waiting=2))) as live, ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(stalled(live.url))
        wait_until(lambda: len(live.service.traffic.arriving) == 10)
        assert live.service.traffic.waiting == 0
        assert httpx.post(f"{live.url}/v1/rank", json=REQUEST).status_code == 200


def test_of_too_many_bodies_the_slowest_of_the_largest_crowd_is_given_up(ranker: Ranker) -> None:
    with running(make_app(ranker, "tiny", Limits(connections=80))) as live, ExitStack() as stack:
        other = stack.enter_context(stalled(live.url, "127.0.0.2"))
        wait_until(lambda: len(live.service.traffic.arriving) == 1)
        many = [stack.enter_context(stalled(live.url)) for _ in range(30)]
        wait_until(lambda: len(live.service.traffic.arriving) == 20)
        assert httpx.post(f"{live.url}/v1/rank", json=REQUEST).status_code == 200
        first = many[0].recv(65536).decode()
        assert first.startswith("HTTP/1.1 408")
        assert "bodies arrive at once" in first
        assert not is_closed(other, 0.1)


def test_a_shutdown_waits_for_bodies_that_are_arriving(ranker: Ranker) -> None:
    content = written(REQUEST)
    with running(make_app(ranker, "tiny")) as live, connected(live.url) as client:
        client.sendall(content[:-10])
        wait_until(lambda: len(live.service.traffic.arriving) == 1)
        live.server.handle_exit(15, None)
        time.sleep(0.3)
        client.sendall(content[-10:])
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def usual_seconds(live: Live, requests: int = 30) -> float:
    """The median time of a request on a connection of its own."""
    seconds = []
    for _ in range(requests):
        begun = time.perf_counter()
        assert httpx.post(f"{live.url}/v1/rank", json=REQUEST, timeout=30).status_code == 200
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


@pytest.mark.slow
def test_2000_idle_connections_and_64_stalled_bodies_slow_no_request(ranker: Ranker) -> None:
    with running(make_app(ranker, "tiny")) as live, ExitStack() as stack:
        usual_seconds(live)
        before = usual_seconds(live)
        for _ in range(2000):
            stack.enter_context(connected(live.url))
        for _ in range(64):
            stack.enter_context(stalled(live.url))
        wait_until(lambda: len(live.service.traffic.arriving) == 64)
        held = usual_seconds(live)
        assert len(live.server.server_state.connections) > 500, "they were gone already"
        assert held < 2 * before, f"{held:.4f} s, usually {before:.4f} s"


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of the process from Linux")
def test_100_000_small_requests_keep_memory_flat(ranker: Ranker) -> None:
    """Pipelined: malformed, refused, unknown and ranked requests, on new connections all the time."""
    small = b"POST /v1/rank HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nContent-Length: 2\r\n\r\n{}"
    kinds = [small % b"application/json", small % b"text/plain", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    kinds += [b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"]
    block = b"".join(kinds * 20) + written({"question": "how ?", "candidates": ["yes"]}, b"Connection: close\r\n")
    with running(make_app(ranker, "tiny")) as live:

        def send(requests: int) -> None:
            for _ in range(requests // 101):
                with connected(live.url) as client:
                    client.sendall(block)
                    answers = b""
                    while piece := client.recv(1 << 20):
                        answers += piece
                    assert answers.count(b"HTTP/1.1 ") == 101

        send(10_000)
        before = resident_bytes()
        send(90_000)
        grown = resident_bytes() - before
        assert live.service.batcher.requests >= 980
        assert not live.service.traffic.exchanges
    assert grown < 8 * 2**20, f"{grown} bytes more after 90,000 requests"
