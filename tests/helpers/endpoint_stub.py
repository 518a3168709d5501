"""A local server that behaves like an OpenAI-compatible endpoint, and misbehaves as a test demands."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = '{"answer": 94, "program": "subtract(5829, 5735)"}'


@dataclass
class Answer:
    """A response of the server: one chat completion with these texts, unless there is a body."""

    texts: list[Any] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    length: int | None = None  # the Content-Length that is claimed
    hang: bool = False
    drip: float = 0.0  # seconds between bytes
    finish: str = "stop"

    def content(self) -> bytes:
        """The bytes of the body."""
        if self.body is not None:
            return self.body
        choices = [
            {"index": index, "finish_reason": self.finish, "message": {"role": "assistant", "content": text}}
            for index, text in enumerate(self.texts)
        ]
        usage = {"prompt_tokens": 100, "completion_tokens": 10 * len(choices)}
        return json.dumps({"id": "x", "object": "chat.completion", "choices": choices, "usage": usage}).encode()


def error(status: int, message: str = "out of order", **headers: str) -> Answer:
    """An error in the form of OpenAI's own server."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, headers=named, body=json.dumps({"error": {"message": message}}).encode())


def completions(request: dict[str, Any], number: int = 0, text: str = GOOD) -> Answer:
    """As many good completions as were asked for."""
    return Answer([text] * request.get("n", 1))


Behaviour = Callable[[dict[str, Any], int], Answer]  # the answer to a request with this number


class Stub:
    """The running server: its URL, its behaviour, and all requests so far."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        self.released = threading.Event()  # ends whatever hangs
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                stub.handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that give up are part of these tests."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        request = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            self.paths.append(handler.path)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self._send(handler, self.behave(request, number))
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True
        finally:
            with self._lock:
                self._at_once -= 1

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        content = answer.content()
        handler.close_connection = answer.hang or answer.length not in (None, len(content))  # midway
        if answer.hang:
            self.released.wait(30)
            return
        handler.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content) if answer.length is None else answer.length))
        handler.end_headers()
        if not answer.drip:
            handler.wfile.write(content)
            return
        for byte in content:
            if self.released.wait(answer.drip):
                return
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()


@contextmanager
def serving(behave: Behaviour | Answer) -> Iterator[Stub]:
    """Run a server while the block lasts; with an Answer, every request gets this one."""
    stub = Stub(behave if callable(behave) else lambda request, number: behave)
    thread = threading.Thread(target=stub.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.released.set()
        stub.server.shutdown()
        stub.server.server_close()
        thread.join()
