"""Starting and stopping: the key, the port, a bad model, and a shutdown that loses nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from finrank import Ranker
from finrank.commands.serve import serve
from finrank.errors import UserError
from finrank.serving.access import read_key
from finrank.serving.app import make_app
from finrank.serving.limits import Limits
from finrank.serving.server import bind, on_passing_thread
from tests.helpers.live_server import SlowScoring, complaints, running, wait_until
from tests.helpers.strangers import stalled

KEY = "sixteen-or-more-"
ASKED: dict[str, Any] = {"question": "how ?", "candidates": ["add(1, 2)", "yes"]}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_without_a_key_no_other_machine_is_served(host: str) -> None:
    for environment in ({}, {"FINRANK_API_KEY": " "}):
        with pytest.raises(UserError, match="FINRANK_API_KEY is not set"):
            read_key(host, environment)
    assert read_key(host, {"FINRANK_API_KEY": KEY}) == KEY


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_on_loopback_a_key_is_optional(host: str) -> None:
    assert read_key(host, {}) is None
    assert read_key(host, {"FINRANK_API_KEY": KEY}) == KEY


@pytest.mark.parametrize("key", ["two words", "schlüssel", "a\nb"])
def test_a_key_that_no_header_holds_is_refused(key: str) -> None:
    with pytest.raises(UserError, match="printable ASCII"):
        read_key("127.0.0.1", {"FINRANK_API_KEY": key})


@pytest.mark.parametrize("key", ["secret", "x" * 15])
def test_a_short_key_is_refused(key: str) -> None:
    with pytest.raises(UserError, match=f"has {len(key)} characters: set it to a random text of 16 or more"):
        read_key("127.0.0.1", {"FINRANK_API_KEY": key})


def test_the_key_guards_every_post_and_nothing_else(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finrank.serving.access._SECONDS_FOR_WRONG_KEY", 0.0)
    with TestClient(make_app(ranker, "tiny", key="secret"), base_url="http://localhost") as client:
        for path in ("/v1/rank", "/v1/rerank", "/rerank", "/v2/rerank", "/nowhere"):
            for header in (None, "secret", "Bearer", "Bearer secre", "Bearer secret1", "Basic secret", "Bearer \xff"):
                headers = {} if header is None else {b"authorization": header.encode("latin-1")}
                response = client.post(path, json=ASKED, headers=headers)
                error = response.json()["error"]
                assert (response.status_code, error["type"]) == (401, "unauthorized")
                assert "Bearer KEY" in error["message"]
        for header in ("Bearer secret", "bearer secret"):
            assert client.post("/v1/rank", json=ASKED, headers={"authorization": header}).status_code == 200
        for path in ("/", "/health", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200


def test_keys_are_compared_in_constant_time(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr("hmac.compare_digest", lambda *texts: compared.append(texts) or True)
    with TestClient(make_app(ranker, "tiny", key="secret"), base_url="http://localhost") as client:
        client.post("/v1/rank", json=ASKED, headers={"authorization": "Bearer secres"})
    assert compared == [(b"secres", b"secret")]


def test_a_port_that_is_taken_is_said() -> None:
    with bind("127.0.0.1", 0) as other:
        other.listen()
        for port in (other.getsockname()[1], 99999):
            with pytest.raises(UserError, match="choose another --port"):
                bind("127.0.0.1", port)


def test_an_answer_does_not_wait_for_the_client_to_acknowledge_its_head(ranker: Ranker) -> None:
    with running(make_app(ranker, "tiny")) as live, httpx.Client() as client:
        assert client.get(f"{live.url}/health").status_code == 200
        (connection,) = live.server.server_state.connections
        transport = connection.transport
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_only_the_thread_that_scores_computes(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded_on: list[threading.Thread] = []
    alive_while_serving: list[bool] = []
    load = Ranker.from_pretrained

    def load_and_note(*args: Any, **options: Any) -> Ranker:
        loaded_on.append(threading.current_thread())
        return load(*args, **options)

    monkeypatch.setattr(Ranker, "from_pretrained", load_and_note)
    monkeypatch.setattr(
        "finrank.serving.server.DrainingServer.run",
        lambda server, sockets: alive_while_serving.append(loaded_on[0].is_alive()),
    )
    serve(str(model_dir), port=0)
    assert alive_while_serving == [False]


def test_what_fails_on_the_passing_thread_is_raised_here() -> None:
    def fail() -> None:
        raise UserError("no model")

    with pytest.raises(UserError, match="no model"):
        on_passing_thread(fail)
    assert on_passing_thread(lambda: 3) == 3


def serve_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "finrank", "serve", "--port", "0", *arguments]


def test_a_bad_model_or_a_missing_key_is_an_error_of_one_line(tmp_path: Path, model_dir: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "FINRANK_API_KEY"}
    for arguments, message in [
        (["--model", str(tmp_path)], f"No model in {tmp_path}"),
        (["--model", str(model_dir), "--host", "0.0.0.0"], "FINRANK_API_KEY is not set"),
    ]:
        done = subprocess.run(serve_command(*arguments), capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_the_command_serves_and_ends_well(model_dir: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FINRANK_API_KEY": KEY, "PYTHONUNBUFFERED": "1"}
    command = serve_command("--model", str(model_dir), "--name", "mine", "--max_candidates", "2")
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as server:
        try:
            url = server.stdout.readline().split(" is served on ")[1].split()[0]
            wait_until(lambda: is_up(url))
            assert httpx.post(f"{url}/v1/rank", json=ASKED).status_code == 401
            with httpx.Client(base_url=url, headers={"authorization": f"Bearer {KEY}"}) as client:
                answer = client.post("/v1/rank", json=ASKED)
                assert (answer.status_code, answer.json()["model"]) == (200, "mine")
                assert client.post("/v1/rank", json={**ASKED, "candidates": ["1", "2", "3"]}).status_code == 413
            server.send_signal(signal.SIGTERM)
            rest, errors = server.communicate(timeout=20)
        finally:
            server.kill()
    assert server.returncode == 0, errors
    assert rest.splitlines()[-1] == "stopped"
    assert "Traceback" not in errors


def test_signals_without_end_end_the_command_well(model_dir: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(serve_command("--model", str(model_dir)), env=environment, **pipes) as server:
        try:
            url = server.stdout.readline().split(" is served on ")[1].split()[0]
            wait_until(lambda: is_up(url))
            with stalled(url) as client:
                time.sleep(0.2)
                until = time.monotonic() + 10
                while server.poll() is None and time.monotonic() < until:
                    server.send_signal(signal.SIGTERM)
                    time.sleep(0.02)
                assert client.recv(65536).startswith(b"HTTP/1.1 503")
            rest, errors = server.communicate(timeout=20)
        finally:
            server.kill()
    assert (server.returncode, complaints(errors)) == (0, "")
    assert rest.splitlines()[-1] == "stopped"


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.ConnectError:
        return False


def test_a_shutdown_finishes_accepted_requests_and_refuses_new_ones(ranker: Ranker, slow: SlowScoring) -> None:
    with running(make_app(ranker, "tiny")) as live, ThreadPoolExecutor(8) as pool:
        accepted = [pool.submit(httpx.post, f"{live.url}/v1/rank", json=ASKED, timeout=30) for _ in range(8)]
        wait_until(lambda: live.service.traffic.waiting == 8)
        live.server.handle_exit(signal.SIGTERM, None)
        refused = httpx.post(f"{live.url}/v1/rank", json=ASKED)
        assert refused.status_code == 503
        assert refused.json()["error"]["type"] == "shutting_down"
        health = httpx.get(f"{live.url}/health")
        assert (health.status_code, health.json()["status"]) == (503, "draining")
        assert live.thread.is_alive()
        slow.go.set()
        assert [answer.result().status_code for answer in accepted] == [200] * 8
        live.thread.join(20)
        assert not live.thread.is_alive()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{live.url}/health")


def test_a_second_signal_does_not_wait(ranker: Ranker, slow: SlowScoring) -> None:
    with running(make_app(ranker, "tiny")) as live, ThreadPoolExecutor(1) as pool:
        lost = pool.submit(httpx.post, f"{live.url}/v1/rank", json=ASKED, timeout=30)
        wait_until(lambda: live.service.traffic.waiting == 1)
        live.server.handle_exit(signal.SIGTERM, None)
        live.server.handle_exit(signal.SIGTERM, None)
        live.thread.join(5)
        assert not live.thread.is_alive()
        slow.go.set()
        refused = lost.result()
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "shutting_down")


def test_a_shutdown_does_not_wait_beyond_the_time_limit(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finrank.serving.server._SECONDS_BEYOND_LIMIT", 0.2)
    with running(make_app(ranker, "tiny", Limits(seconds=0.2))) as live:
        live.service.traffic.waiting += 1  # a request that never ends
        live.server.handle_exit(signal.SIGTERM, None)
        live.thread.join(20)
        assert not live.thread.is_alive()
