"""Fetching the official files, from a local server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from finrank.commands.sample_data import sample_data
from finrank.errors import UserError
from finrank.sources.download import fetch_official

NAMES = ("train.json", "dev.json", "test.json")


class _Handler(BaseHTTPRequestHandler):
    bodies: dict[str, bytes]
    broken_off = ""

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        if name not in self.bodies:
            self.send_error(404)
            return
        body = self.bodies[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + (100 if name == self.broken_off else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the screen."""


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def server() -> Iterator[tuple[str, type[_Handler]]]:
    """The address of a server, and the handler that holds its responses."""
    handler = type("Handler", (_Handler,), {"bodies": {name: f'["{name}"]'.encode() for name in NAMES}})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}/dataset", handler
    running.shutdown()
    running.server_close()


def test_all_three_files_arrive_and_replace_earlier_ones(tmp_path: Path, server: tuple[str, type[_Handler]]) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "dev.json").write_text("old")
    paths = fetch_official(tmp_path / "raw", server[0])
    assert [path.read_text() for path in paths] == [f'["{name}"]' for name in NAMES]
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("fault", ["missing", "broken off", "a web page"])
def test_a_bad_response_leaves_no_file_and_names_alternatives(
    tmp_path: Path, server: tuple[str, type[_Handler]], fault: str
) -> None:
    address, handler = server
    if fault == "missing":
        del handler.bodies["test.json"]
    elif fault == "broken off":
        handler.broken_off = "test.json"
    else:
        handler.bodies["test.json"] = b"<html>sign in</html>"
    with pytest.raises(UserError) as error:
        fetch_official(tmp_path, address)
    assert f"{address}/test.json  ->  {tmp_path / 'test.json'}" in str(error.value)
    assert "finrank sample-data --output_dir" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_connection_is_a_clear_error(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(UserError, match="could not be fetched"):
        fetch_official(tmp_path, f"http://127.0.0.1:{port}")


def test_embedded_data_are_not_mixed_with_the_real_files(tmp_path: Path, server: tuple[str, type[_Handler]]) -> None:
    sample_data(tmp_path / "raw", train=3, dev=0, test=0)
    with pytest.raises(UserError, match="embedded data"):
        fetch_official(tmp_path / "raw", server[0])
