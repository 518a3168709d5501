"""Limits of the service, and the error for each: what was exceeded, by how much, and what to do.

Bodies are checked before they are validated, so that one over a limit costs no more than reading it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from finrank.serving.error_responses import ServiceError

_MOST_NAMES = 64  # in one object of a body: pydantic would report each unknown one
# The message for each limit.
_EXCEEDED = {
    "body_bytes": "{body} is over the limit of {body_bytes} bytes: send a shorter page, or raise --max_body_kib",
    "candidates": "{count} {field} are over the limit of {candidates}: send fewer, or raise --max_candidates",
    "characters": "question, table, text and candidates have more than {characters} characters together, which is the "
    "limit: send a shorter page, or raise --max_characters",
    "parts": "{count} rows, cells and sentences are over the limit of {parts}: send a shorter page, or raise "
    "--max_parts",
    "tokens": "the request has {count} tokens, over the limit of {tokens}: send fewer or shorter candidates, or raise "
    "--max_tokens",
    "waiting": "{waiting} requests are being worked on or wait, which is the limit: try again in a second, or raise "
    "--max_waiting",
    "seconds": "no answer within {seconds:g} s, which is the limit: send fewer candidates or fewer requests at once, "
    "or raise --timeout_s",
}


@dataclass(frozen=True)
class Limits:
    """Maxima of one server; the defaults suit two cores and a small encoder."""

    body_bytes: int = 1024 * 1024  # size of a request's body
    candidates: int = 256  # of a request
    characters: int = 200_000  # of a request's texts, plus one per text and list; checked before tokens are known
    parts: int = 10_000  # rows, cells and sentences of a page
    tokens: int = 16384  # of a request: its prefix once and all its candidates
    waiting: int = 256  # requests in the service, those being scored included
    connections: int = 1024  # three quarters of them from one address
    seconds: float = 30.0  # from a request's first byte to its response
    batch_tokens: int = 2048  # scored together, enough to fill a CPU; a longer request is scored alone

    def __str__(self) -> str:
        """The limits as the server prints them."""
        return (
            f"body {self.body_bytes // 1024} KiB, {self.characters} characters, {self.candidates} candidates, "
            f"{self.parts} parts, {self.tokens} tokens, {self.seconds:g} s; {self.waiting} requests at once, in "
            f"batches of {self.batch_tokens} tokens"
        )

    def exceeded(self, limit: str, field: str | None = None, **figures: Any) -> ServiceError:
        """The error of a request beyond this limit; `figures` complete its message."""
        message = f"{_EXCEEDED[limit].format(**vars(self), field=field, **figures)} where the server is started"
        status = {"waiting": 503, "seconds": 504}.get(limit, 413)
        return ServiceError(status, message, field, headers={"retry-after": "1"} if status == 503 else None)

    def check_body(self, body: Any) -> None:
        """Raise for a decoded body with too many candidates, parts, characters or names, in whatever fields."""
        if not isinstance(body, dict):
            return
        for field in ("candidates", "documents"):
            if isinstance(body.get(field), list) and len(body[field]) > self.candidates:
                raise self.exceeded("candidates", field, count=len(body[field]))
        table, text = ([] if not isinstance(body.get(field), list) else body[field] for field in ("table", "text"))
        self.check_parts(len(table) + sum(len(row) for row in table if isinstance(row, list)) + len(text))
        characters = 0
        parts: list[Any] = [body]
        while parts:
            part = parts.pop()
            if isinstance(part, str | list):
                characters += len(part)
            elif isinstance(part, dict):
                if len(part) > _MOST_NAMES:
                    raise ServiceError(400, f"an object of {len(part)} names: the fields are described at /docs")
                characters += sum(map(len, part))
            if characters > self.characters:
                raise self.exceeded("characters")
            if isinstance(part, list | dict):
                parts.extend(part if isinstance(part, list) else part.values())

    def check_parts(self, count: int) -> None:
        """Raise for a page of too many rows, cells and sentences, each of which costs time whatever it holds."""
        if count > self.parts:
            raise self.exceeded("parts", count=count)


async def body_size(request: Request) -> int:
    """Bytes of a request's body."""
    return len(await request.body())


class LimitedRoute(APIRoute):
    """An endpoint whose bodies stay within the service's limits and repeat no name in an object."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of valid bodies behind the check."""
        handle = super().get_route_handler()

        async def check(request: Request) -> Response:
            request = _Request(request.scope, request.receive)
            with suppress(ValueError, RecursionError):  # not JSON: FastAPI reports it
                request.app.state.service.limits.check_body(await request.json())
            return await handle(request)

        return check


class _Request(Request):
    """A request whose JSON is decoded once."""

    async def json(self) -> Any:
        if not hasattr(self, "_decoded"):
            self._decoded = json.loads(await self.body(), object_pairs_hook=_without_repeats)
        return self._decoded


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; ServiceError (400) for a repeated name, whose last value json would keep."""
    decoded = dict(pairs)
    if len(decoded) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ServiceError(400, f"the body is not clear: {twice[:80]!r} occurs twice in one object; send it once")
    return decoded
