"""A local server that talks like an OpenAI-compatible endpoint, and misbehaves as a test tells it to."""

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
    """What the server sends: a body of one chat completion with these texts, unless told otherwise."""

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
    """A fault in the form that OpenAI's own server gives it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, headers=named, body=json.dumps({"error": {"message": message}}).encode())


def completions(request: dict[str, Any], text: str = GOOD) -> Answer:
    """As many good completions as were asked for."""
    return Answer([text] * request.get("n", 1))


class Stub:
    """The running server: its URL, and all requests that it has had. `behave(request, number)` gives its answers."""

    def __init__(self, behave: Callable[[dict[str, Any], int], Answer]) -> None:
        self.behave = behave
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self.released = threading.Event()  # ends what hangs
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                stub.handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that give up are part of these tests."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
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
        if answer.hang:
            self.released.wait(30)
            handler.close_connection = True
            return
        content = answer.content()
        handler.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content) if answer.length is None else answer.length))
        handler.end_headers()
        if answer.drip:
            for byte in content:
                if self.released.wait(answer.drip):
                    break
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
        else:
            handler.wfile.write(content)
        if answer.length is not None and answer.length != len(content):
            handler.close_connection = True  # midway

    def asked(self) -> list[str]:
        """The question of each request, in the order of arrival."""
        return [request["messages"][1]["content"].rpartition("Question: ")[2] for request in self.requests]


@contextmanager
def serving(behave: Callable[[dict[str, Any], int], Answer]) -> Iterator[Stub]:
    """Run a server while the block lasts."""
    stub = Stub(behave)
    thread = threading.Thread(target=stub.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.released.set()
        stub.server.shutdown()
        stub.server.server_close()
        thread.join()
