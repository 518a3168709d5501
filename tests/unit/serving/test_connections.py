"""Connections that send nothing, send slowly, do not read or are many: they end, and others are served."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from finrank import Ranker
from finrank.serving.app import make_app
from finrank.serving.connections import connections_possible, network_of
from finrank.serving.limits import Limits
from tests.helpers.live_server import Live, complaints, running, wait_until
from tests.helpers.strangers import HEADERS, connected, ends_unread, is_closed, written

ASKED: dict[str, Any] = {"question": "how ?", "candidates": ["add(1, 2)", "yes"]}
SHORT = 0.4


@pytest.fixture
def hasty(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """A server that waits for headers, and for readers of its answers, only a moment."""
    monkeypatch.setattr("finrank.serving.server._SECONDS_FOR_HEADERS", SHORT)
    monkeypatch.setattr("finrank.serving.server._SECONDS_TO_READ", SHORT)
    with running(make_app(ranker, "tiny", Limits(seconds=SHORT))) as live:
        yield live


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        HEADERS,
        written(ASKED),
        written(ASKED) + b"P",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1",
    ],
    ids=["nothing", "a letter", "no end of headers", "nothing after an answer", "a letter after it", "unasked body"],
)
def test_silence_closes(hasty: Live, sent: bytes) -> None:
    with connected(hasty.url) as connection:
        connection.sendall(sent)
        assert is_closed(connection, 10)
    wait_until(lambda: not hasty.server.server_state.connections)


def test_headers_that_trickle_have_no_more_time(hasty: Live) -> None:
    begun = time.monotonic()
    with connected(hasty.url) as connection:
        assert ends_unread(connection, b"G", pause=0.05)
    assert time.monotonic() - begun < 5


TWO_LENGTHS = (
    b"POST /v1/rank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
)


def answers_to(live: Live, sent: bytes) -> bytes:
    """All that comes back until the connection is closed."""
    received = b""
    with connected(live.url) as connection, suppress(OSError):
        connection.settimeout(10)
        connection.sendall(sent)
        while part := connection.recv(65536):
            received += part
    return received


def test_no_request_hides_behind_a_body_with_two_lengths(hasty: Live) -> None:
    received = answers_to(hasty, TWO_LENGTHS)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("chunks", "status"),
    [([b" "] * 2000, 400), ([b" "] * 900, 200), ([b" " * 256] * 2000, 200)],
    ids=["a byte in each", "few", "large ones"],
)
def test_a_body_in_tiny_chunks_is_refused(ranker: Ranker, chunks: list[bytes], status: int) -> None:
    head = HEADERS + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    pieces = [*chunks, json.dumps(ASKED).encode()]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    with running(make_app(ranker, "tiny")) as live:
        assert answers_to(live, head + body).startswith(b"HTTP/1.1 %d " % status)
        assert httpx.post(f"{live.url}/v1/rank", json=ASKED).status_code == 200


GET = b"GET /docs HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("asked", [GET, written({**ASKED, "id": "x" * 150_000})], ids=["page", "ranking"])
def test_answers_that_nobody_reads_are_given_up(hasty: Live, asked: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with connected(hasty.url) as connection:
        assert ends_unread(connection, asked)
    wait_until(lambda: not hasty.server.server_state.connections)
    assert httpx.post(f"{hasty.url}/v1/rank", json=ASKED).status_code == 200
    assert [record.getMessage() for record in caplog.records if record.name != "httpx"] == []


@contextmanager
def crowd(live: Live, count: int, source: str = "127.0.0.1") -> Iterator[list[Any]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connected(live.url, source)) for _ in range(count)]


def test_idle_connections_make_room_for_new_ones_the_oldest_first(ranker: Ranker) -> None:
    with running(make_app(ranker, "tiny", Limits(connections=20))) as live, httpx.Client(base_url=live.url) as kept:
        assert kept.get("/health").status_code == 200
        with crowd(live, 40) as connections:
            assert all(is_closed(connection, 10) for connection in connections[:25])
            wait_until(lambda: len(live.server.server_state.connections) <= 15)
            assert not is_closed(connections[-1], 0.1)
            assert httpx.post(f"{live.url}/v1/rank", json=ASKED).status_code == 200
            (first,) = kept._transport._pool.connections  # type: ignore[attr-defined]
            assert kept.get("/health").status_code == 200
            assert kept._transport._pool.connections == [first], "a client that had asked lost its connection"


def test_one_address_does_not_push_out_another(ranker: Ranker) -> None:
    with (
        running(make_app(ranker, "tiny", Limits(connections=20))) as live,
        crowd(live, 5, "127.0.0.2") as others,
        crowd(live, 60) as many,
    ):
        assert all(is_closed(connection, 10) for connection in many[:45])
        assert not any(is_closed(connection, 0.05) for connection in others)
        with crowd(live, 60, "127.0.0.3"):
            assert not any(is_closed(connection, 0.05) for connection in others), "not of the largest crowd"


def test_a_client_has_an_address_or_a_network() -> None:
    assert network_of("10.1.2.3") == "10.1.2.3"
    assert network_of("::ffff:10.1.2.3") == "10.1.2.3"
    assert network_of("2001:db8::1") == network_of("2001:db8::2:3") == "2001:db8::/64"
    assert network_of("fe80::1%eth0") == "fe80::/64"


def test_no_more_connections_than_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed, expected in ((1_000_000, 1024), (resource.RLIM_INFINITY, 1024), (10, 16)):
        monkeypatch.setattr("resource.getrlimit", lambda _, allowed=allowed: (allowed, allowed))
        assert connections_possible(1024) == expected
    monkeypatch.setattr("resource.getrlimit", lambda _: (300, 300))
    assert 16 < connections_possible(1024) < 300


@pytest.mark.slow
def test_at_the_descriptor_limit_others_are_served_and_nothing_is_logged(model_dir: Path) -> None:
    serve = f"ulimit -n 256; exec {sys.executable} -m finrank serve --port 0 --model {model_dir}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(["bash", "-c", serve], env=environment, **pipes) as server, ExitStack() as stack:
        try:
            url = server.stdout.readline().split(" is served on ")[1].split()[0]
            wait_until(lambda: is_up(url))
            for _ in range(600):
                stack.enter_context(connected(url))
            for _ in range(100):
                stack.enter_context(connected(url)).sendall(b"what\r\n\r\n")
            for _ in range(3):
                assert httpx.post(f"{url}/v1/rank", json=ASKED, timeout=10).status_code == 200
        finally:
            server.terminate()
            _, errors = server.communicate(timeout=20)
    assert (server.returncode, complaints(errors)) == (0, "")


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False
