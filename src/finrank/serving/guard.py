"""Middleware in front of every endpoint: key, limits on size, number and time of requests, shutdown, and headers."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finrank.errors import UserError
from finrank.serving.error_responses import ServiceError
from finrank.serving.limits import Limits

KEY_VARIABLE = "FINRANK_API_KEY"
_HEADERS = {
    # The page and /docs load nothing from other servers, and no other site may frame them.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
# Beyond the time limit, for a response that has begun: a client that does not read it must not count forever.
_SECONDS_TO_SEND = 5.0


@dataclass
class Traffic:
    """The requests in the service, and whether new ones are accepted."""

    waiting: int = 0  # requests accepted and not yet answered
    draining: bool = False  # true once the server shuts down: new requests get a 503


class Guard:
    """ASGI middleware: checks every POST before its body is read, and drops it once its client has gone."""

    def __init__(self, app: ASGIApp, *, limits: Limits, key: str | None, traffic: Traffic) -> None:
        self._app, self._limits, self._key, self._traffic = app, limits, key, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        response = _Response(send, "no-cache" if scope["method"] in ("GET", "HEAD") else "no-store")
        if scope["method"] != "POST":
            return await self._app(scope, receive, response.send)
        try:
            self._admit(Headers(scope=scope))
        except ServiceError as error:
            return await error.response()(scope, receive, response.send)
        self._traffic.waiting += 1
        try:
            await self._handle(scope, receive, response)
        except ServiceError as error:
            if not response.started:
                sending = asyncio.ensure_future(error.response()(scope, receive, response.send))
                await _finish(sending, _SECONDS_TO_SEND)
        except _ClientGone:
            pass
        finally:
            self._traffic.waiting -= 1

    def _admit(self, headers: Headers) -> None:
        if self._key is not None:
            _check_key(self._key, headers.get("authorization"))
        if self._traffic.draining:
            raise ServiceError(
                503,
                "the server is shutting down and only finishes what it has accepted: ask again when it is up",
                kind="shutting_down",
                headers={"retry-after": "5", "connection": "close"},
            )
        if self._traffic.waiting >= self._limits.waiting:
            raise self._limits.exceeded("waiting")
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

    async def _handle(self, scope: Scope, receive: Receive, response: _Response) -> None:
        """Read the body and run the app on it, within the time limit and while the client is connected."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.seconds
        try:
            body = await asyncio.wait_for(self._read(receive), self._limits.seconds)
        except TimeoutError:
            late = f"the body did not arrive within {self._limits.seconds:g} s"
            raise ServiceError(408, f"{late}, which is the limit: send it faster") from None
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
            handling.cancel()
            gone.cancel()

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


def read_key(host: str, environment: Mapping[str, str]) -> str | None:
    """The key that clients must send; None for a server on loopback without one.

    Raises UserError if a required key is missing, and for a key that no header can hold.
    """
    key = environment.get(KEY_VARIABLE, "").strip()
    if not key:
        with suppress(ValueError):  # for another name than localhost, which may resolve to anything
            if host == "localhost" or ipaddress.ip_address(host).is_loopback:
                return None
        raise UserError(
            f"--host {host} can be reached from other machines, and {KEY_VARIABLE} is not set: set it to a long random "
            "text that clients send as Authorization: Bearer KEY, or listen on --host 127.0.0.1"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"{KEY_VARIABLE} must be printable ASCII without spaces: it is sent in a header")
    return key


def _check_key(key: str, header: str | None) -> None:
    """Raise a 401 unless the Authorization header holds the key as a bearer token."""
    scheme, _, sent = (header or "").partition(" ")
    # Takes equally long wherever the texts differ, so that the key cannot be found letter by letter.
    same = hmac.compare_digest(sent.strip().encode("utf-8", "surrogateescape"), key.encode())
    if scheme.lower() != "bearer" or not same:
        problem = "the API key is wrong" if header else "an API key is needed"
        message = f"{problem}: send it as Authorization: Bearer KEY; the key is the server's {KEY_VARIABLE}"
        raise ServiceError(401, message, headers={"www-authenticate": "Bearer"})
