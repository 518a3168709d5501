"""The server behind `finrank serve`: its socket, its shutdown, and the thread that loads the model."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI

from finrank.errors import UserError
from finrank.serving.connections import ACCEPTED_AT_ONCE, Patience, WatchedConnection, connections_possible, watched
from finrank.serving.guard import Traffic
from finrank.serving.limits import Limits

_SECONDS_BEYOND_LIMIT = 10.0  # a shutdown waits for accepted requests that much longer than one may take
_SECONDS_FOR_HEADERS = 10.0
_SECONDS_TO_READ = 15.0  # beyond the time limit of a request, until its answer must have been read
_CONNECTIONS_THAT_WAIT = 1024  # for the event loop to accept them
_SECONDS_FOR_REFUSALS = 0.2  # after a second signal
_SECONDS_FOR_LAST_BYTES = 5  # for responses still being sent when everything else is done

T = TypeVar("T")


class DrainingServer(uvicorn.Server):
    """A server that shuts down by answering new requests with a 503 until the accepted ones are finished.

    uvicorn alone would close its socket at once, and clients would see refused connections. A second signal stops the
    server without waiting: what is left gets a 503.
    """

    def __init__(self, app: FastAPI) -> None:
        limits: Limits = app.state.service.limits
        patience = Patience(
            connections_possible(limits.connections), _SECONDS_FOR_HEADERS, limits.seconds + _SECONDS_TO_READ
        )
        config = uvicorn.Config(
            app,
            http=watched(patience),
            backlog=ACCEPTED_AT_ONCE,
            access_log=False,
            log_level="error",  # a warning for every malformed request would let clients fill the log
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=_SECONDS_FOR_LAST_BYTES,
        )
        super().__init__(config)
        self._traffic: Traffic = app.state.service.traffic
        self._traffic.most_arriving = max(1, patience.most // 4)
        self._longest_drain = limits.seconds + _SECONDS_BEYOND_LIMIT
        self._draining_since = 0.0

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs, and ignore further ones once it has begun to stop: the process ends."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        with super().capture_signals():
            yield
        if not self._traffic.draining:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by the signals that mean stop."""
        if self._traffic.draining:
            self.should_exit, self.force_exit = True, not self._traffic.abandoned
        else:
            self._draining_since = time.monotonic()
        self._traffic.draining = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn to listen."""
        asyncio.get_running_loop().set_exception_handler(_report)
        await super().startup(sockets)
        for listening in sockets or []:  # uvicorn's backlog is also how many asyncio accepts at once
            listening.listen(_CONNECTIONS_THAT_WAIT)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: closes late connections; stops once no accepted request is left or it is late."""
        if counter % 5 == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, WatchedConnection):
                    connection.close_if_late()
        if self._traffic.draining:
            late = time.monotonic() - self._draining_since > self._longest_drain
            self.should_exit = self.should_exit or late or not (self._traffic.waiting or len(self._traffic.arriving))
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn to end."""
        if self.force_exit:
            self._traffic.abandon()
            await asyncio.sleep(_SECONDS_FOR_REFUSALS)
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            self.force_exit = False  # there is nothing left to wait for
        await super().shutdown(sockets)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error of the event loop, unless it is one of the many that a lack of descriptors causes in a second."""
    error = context.get("exception")
    if not (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)):
        loop.default_exception_handler(context)


def bind(host: str, port: int) -> socket.socket:
    """A socket for the server to listen on, at a free port for port 0; UserError if the address cannot be used."""
    # Only with TCP by name does asyncio set TCP_NODELAY. Without it the body of a response, written after its head,
    # waits until the client has acknowledged the head, which many clients delay by 40 ms.
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
    """Run work on a new thread, wait for the thread to end, and return or raise the result.

    OpenMP keeps a team of threads for every living Python thread that has computed. With more threads in teams than
    cores, GNU's OpenMP lets each of them sleep between any two steps of a model, and waking them takes longer than
    waiting awake. A model that is loaded here leaves the cores to the thread that scores with it.
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
    thread.join()
    return done.result()
