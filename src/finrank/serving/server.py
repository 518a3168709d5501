"""Starting and stopping the server: `finrank serve`."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import FrameType
from typing import TypeVar

import uvicorn
from fastapi import FastAPI

from finrank.console import say
from finrank.errors import UserError
from finrank.serving.app import make_app
from finrank.serving.guard import Traffic
from finrank.serving.keys import VARIABLE, read_key
from finrank.serving.limits import Limits

_SECONDS_BEYOND_LIMIT = 10.0  # how much longer than one request may take a shutdown waits for those it has accepted
_SECONDS_FOR_LAST_BYTES = 5  # for answers that are on their way when everything else is done

T = TypeVar("T")


class DrainingServer(uvicorn.Server):
    """A server that, told to stop, answers new requests with a 503 until those that it has accepted are answered.

    uvicorn alone would close its socket at once, and clients would see refused connections. A second signal stops it
    without waiting.
    """

    def __init__(self, app: FastAPI) -> None:
        config = uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=_SECONDS_FOR_LAST_BYTES,
        )
        super().__init__(config)
        self._traffic: Traffic = app.state.service.traffic
        self._longest_drain: float = app.state.service.limits.seconds + _SECONDS_BEYOND_LIMIT
        self._draining_since = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by the signals that mean stop."""
        if self._traffic.draining:
            self.should_exit = self.force_exit = True
        else:
            self._draining_since = time.monotonic()
        self._traffic.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: stops once nothing that was accepted is left, or is taking too long."""
        if self._traffic.draining:
            late = time.monotonic() - self._draining_since > self._longest_drain
            self.should_exit = self.should_exit or late or self._traffic.waiting == 0
        return await super().on_tick(counter)


def bind(host: str, port: int) -> socket.socket:
    """A socket bound there, which the server will listen on; port 0 takes a free one. UserError where it cannot be."""
    # TCP by name: only then does asyncio set TCP_NODELAY on its connections. Without it an answer's body, written after
    # its head, waits until the client has acknowledged the head, which many clients delay by 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        return opened
    except (OSError, OverflowError, UnicodeError) as error:
        opened.close()
        raise UserError(f"cannot listen on {host} port {port} ({error}): choose another --port or --host") from error


def on_passing_thread(work: Callable[[], T]) -> T:
    """What `work` gives or raises, run on a thread of its own that has ended by then: for work that computes.

    OpenMP keeps a team of threads for every Python thread that has computed, as long as that one lives. With more
    threads in teams than cores, GNU's lets each of them sleep between any two steps of a model, and waking them takes
    longer than waiting awake. So a model that is loaded here leaves the cores to the thread that scores with it.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    # A daemon: Ctrl-C during a long download ends the process at once.
    thread = threading.Thread(target=run, name="loading", daemon=True)
    thread.start()
    result = done.result()
    thread.join()
    return result


def serve(
    model: str,
    *,
    host: str,
    port: int,
    limits: Limits,
    name: str | None = None,
    revision: str | None = None,
    base_model: str | None = None,
) -> None:
    """Load a model and answer requests until SIGTERM or SIGINT; what was accepted by then is still answered.

    `name` is how answers name the model (default: the name of its folder, or its hub id). Raises UserError, before the
    model is loaded, where no API key is set for a host that other machines reach or the port is taken.
    """
    key = read_key(host, os.environ)
    with bind(host, port) as opened:
        from finrank.ranker.ranker import Ranker

        ranker = on_passing_thread(
            lambda: Ranker.from_pretrained(model, revision=revision, base_model=base_model, merge=True)
        )
        name = name or (Path(model).resolve().name if Path(model).is_dir() else model)
        server = DrainingServer(make_app(ranker, name, limits, key))
        shown = f"[{host}]" if ":" in host else host
        say(f"{name} is served on http://{shown}:{opened.getsockname()[1]} (page: /, routes: /docs); Ctrl-C stops it")
        say(f"device: {ranker.device}; attention route: {ranker.route}")
        say(f"key: {f'clients send {VARIABLE}' if key else 'none needed, this machine alone can reach it'}")
        say(
            f"limits: body {limits.body_bytes // 1024} KiB, {limits.characters} characters, {limits.candidates} "
            f"candidates, {limits.tokens} tokens, {limits.seconds:g} s; {limits.waiting} requests at once, in "
            f"batches of {limits.batch_tokens} tokens"
        )
        server.run(sockets=[opened])
    say("stopped")
