"""Fetching the official files, from a local server."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from finrank.commands import download as fetching
from finrank.commands.download import Pin, download
from finrank.commands.sample_data import sample_data
from finrank.errors import UserError
from finrank.sources.finqa import FILES

ARRIVING = {"a web page": b"<html>login</html>", "another file": b'["tEst.json"]', "too long": b'["test.json"] '}
NAMES = ("train.json", "dev.json", "test.json")


class _Handler(BaseHTTPRequestHandler):
    bodies: dict[str, bytes]
    broken_off = ""
    endless = ""

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        if name not in self.bodies:
            self.send_error(404)
            return
        body = self.bodies[name]
        if name == self.endless:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):  # the client hangs up
                while True:
                    self.wfile.write(body * 10_000)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + (100 if name == self.broken_off else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the screen."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Handler]]:
    """The handler of a server in place of the official one; it holds the responses."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    handler = type("Handler", (_Handler,), {"bodies": {name: f'["{name}"]'.encode() for name in NAMES}})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    pins = {name: Pin(len(body), hashlib.sha256(body).hexdigest()) for name, body in handler.bodies.items()}
    monkeypatch.setattr(fetching, "PINS", pins)
    monkeypatch.setattr(fetching, "OFFICIAL", f"http://127.0.0.1:{running.server_port}/dataset")
    yield handler
    running.shutdown()
    running.server_close()


def test_all_three_files_arrive_and_replace_earlier_ones(tmp_path: Path, server: type[_Handler]) -> None:
    (tmp_path / "dev.json").write_text("old")
    download(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: f'["{name}"]' for name in NAMES}


@pytest.mark.parametrize(
    "fault", ["missing", "broken off", "a web page", "another file", "too long", "endless", "refused"]
)
def test_a_failed_fetch_leaves_no_file_and_names_alternatives(
    tmp_path: Path, server: type[_Handler], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "missing":
        del server.bodies["test.json"]
    elif fault == "broken off":
        server.broken_off = "test.json"
    elif fault == "endless":
        server.endless = "test.json"
    elif fault in ARRIVING:
        server.bodies["test.json"] = ARRIVING[fault]
    else:
        monkeypatch.setattr(fetching, "OFFICIAL", "http://127.0.0.1:1")  # nothing listens there
    with pytest.raises(UserError, match="could not be fetched") as error:
        download(tmp_path)
    assert f"{fetching.OFFICIAL}/test.json  ->  {tmp_path / 'test.json'}" in str(error.value)
    assert "finrank sample-data --output_dir" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_pins_are_of_the_files_that_the_stages_read() -> None:
    assert fetching.PINS.keys() == set(FILES.values())
    assert "/main/" not in fetching.OFFICIAL


def test_embedded_data_are_not_mixed_with_the_real_files(tmp_path: Path) -> None:
    sample_data(tmp_path / "raw", train=3, dev=0, test=0)
    with pytest.raises(UserError, match="embedded data"):
        download(tmp_path / "raw")
