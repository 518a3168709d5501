"""Middleware in front of every endpoint: access, limits on size, number and time of requests, shutdown, and headers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finrank.serving.access import KeyCheck, check_host
from finrank.serving.connections import ByAddress, network_of
from finrank.serving.error_responses import ServiceError
from finrank.serving.limits import Limits

METRICS_PATH = "/metrics"  # says how much the service is used, so that it needs the key where there is one

_HEADERS = {
    # The page and /docs load nothing from other servers, and no other site may frame them.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
# Beyond the time limit, for a response that has begun: a client that does not read it must not count forever. The
# connection (`connections.py`) gives up before; this is for an app behind another server.
_SECONDS_TO_SEND = 20.0


@dataclass
class Traffic:
    """The requests in the service, and whether new ones are accepted."""

    waiting: int = 0  # requests that have arrived and are not yet answered
    arriving: ByAddress[asyncio.Future[bytes]] = field(default_factory=ByAddress)  # bodies that are being read
    most_arriving: int = 256
    draining: bool = False  # true once the server shuts down: new requests get a 503
    abandoned: bool = False  # true once it ends without waiting for requests
    exchanges: set[asyncio.Task[Any]] = field(default_factory=set)  # the tasks of all these requests

    def abandon(self) -> None:
        """Answer all requests with a 503 now."""
        self.abandoned = True
        for exchange in self.exchanges:
            exchange.cancel()


class Guard:
    """ASGI middleware: checks every POST before its body is read, and drops it once its client has gone."""

    def __init__(self, app: ASGIApp, *, limits: Limits, key: str | None, traffic: Traffic) -> None:
        self._app, self._limits, self._traffic = app, limits, traffic
        self._key = None if key is None else KeyCheck(key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        is_post = scope["method"] == "POST"
        response = _Response(send, "no-cache" if scope["method"] in ("GET", "HEAD") else "no-store")
        headers, address = Headers(scope=scope), _address(scope)
        try:
            if self._key is None:
                check_host(headers.get("host"))
            elif is_post or scope["path"] == METRICS_PATH:
                await self._key.check(address, headers.get("authorization"))
            if not is_post:
                return await self._app(scope, receive, response.send)
            self._admit(headers)
        except ServiceError as error:
            return await error.response()(scope, receive, response.send)
        exchange = cast("asyncio.Task[Any]", asyncio.current_task())
        self._traffic.exchanges.add(exchange)
        try:
            await self._handle(scope, receive, response)
        except ServiceError as error:
            await _answer(error, scope, receive, response)
        except asyncio.CancelledError:
            if not self._traffic.abandoned:
                raise
            exchange.uncancel()
            await _answer(_shutting_down("ends without waiting for requests"), scope, receive, response)
        except _ClientGone:
            pass
        finally:
            self._traffic.exchanges.discard(exchange)

    def _admit(self, headers: Headers) -> None:
        if self._traffic.draining:
            raise _shutting_down("is shutting down and only finishes what it has accepted")
        self._check_waiting()
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ServiceError(415, f"Content-Type is {kind[:80]!r}: send JSON with Content-Type: application/json")
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise ServiceError(415, f"Content-Encoding is {encoding[:80]!r}: send the body as it is, not compressed")
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > self._limits.body_bytes):
            body = f"the body of {length} bytes" if len(length) <= 18 else "the body"
            raise self._limits.exceeded("body_bytes", body=body)

    def _check_waiting(self) -> None:
        if self._traffic.waiting >= self._limits.waiting:
            raise self._limits.exceeded("waiting")

    async def _handle(self, scope: Scope, receive: Receive, response: _Response) -> None:
        """Read the body and run the app on it, within the time limit and while the client is connected."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.seconds
        body = await self._receive_body(_address(scope), receive)
        self._check_waiting()  # a body that is slow to arrive holds no place meanwhile
        self._traffic.waiting += 1
        handling = asyncio.ensure_future(self._app(scope, _replay(body, receive), response.send))
        gone = asyncio.ensure_future(_wait_until_gone(receive))
        try:
            left = max(0.0, deadline - loop.time())
            await asyncio.wait({handling, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if handling.done() or response.started:
                return await _finish(handling, max(0.0, deadline - loop.time()) + _SECONDS_TO_SEND)
            handling.cancel()
            await asyncio.wait({handling})
            raise _ClientGone if gone.done() else self._limits.exceeded("seconds")
        finally:
            self._traffic.waiting -= 1
            handling.cancel()
            gone.cancel()

    async def _receive_body(self, address: str, receive: Receive) -> bytes:
        """The body, within the time limit; where too many arrive at once the slowest of one client are given up."""
        reading = asyncio.ensure_future(self._read(receive))
        arriving = self._traffic.arriving
        arriving.add(address, reading)
        if len(arriving) > self._traffic.most_arriving:
            largest = arriving.largest()
            slowest = arriving.oldest(largest)
            arriving.discard(largest, slowest)
            slowest.cancel()
        try:
            return await asyncio.wait_for(reading, self._limits.seconds)
        except TimeoutError:
            late = f"the body did not arrive within {self._limits.seconds:g} s"
            raise ServiceError(408, f"{late}, which is the limit: send it faster") from None
        except asyncio.CancelledError:
            if cast("asyncio.Task[Any]", asyncio.current_task()).cancelling():
                raise
            message = f"more than {self._traffic.most_arriving} bodies arrive at once, and this one is the slowest"
            raise ServiceError(408, f"{message}: send it faster") from None
        finally:
            arriving.discard(address, reading)

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGone
            body += message.get("body", b"")
            if len(body) > self._limits.body_bytes:
                raise self._limits.exceeded("body_bytes", body="the body")
            if not message.get("more_body", False):
                return bytes(body)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return network_of(client[0]) if client else ""


def _shutting_down(what: str) -> ServiceError:
    headers = {"retry-after": "5", "connection": "close"}
    return ServiceError(503, f"the server {what}: ask again when it is up", kind="shutting_down", headers=headers)


async def _answer(error: ServiceError, scope: Scope, receive: Receive, response: _Response) -> None:
    """Send an error, unless an answer has begun."""
    if not response.started:
        await _finish(asyncio.ensure_future(error.response()(scope, receive, response.send)), _SECONDS_TO_SEND)


class _ClientGone(Exception):
    """The client has disconnected."""


class _Response:
    """Sends a response with the common headers, and knows whether it has begun."""

    def __init__(self, send: Send, caching: str) -> None:
        self._send, self._caching = send, caching
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(raw=list(message["headers"]))
            headers.update(_HEADERS)
            headers.setdefault("cache-control", self._caching)
            message = {**message, "headers": headers.raw}
        await self._send(message)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that first returns the body, which has been read already."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


async def _finish(sending: asyncio.Future[None], seconds: float) -> None:
    """Wait for a response to be sent, then abandon it."""
    with suppress(TimeoutError):
        await asyncio.wait_for(sending, seconds)


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
