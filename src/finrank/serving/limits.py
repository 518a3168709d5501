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

_MOST_NAMES = 64  # in one object of a body: each unknown one would be a fault of its own for pydantic


@dataclass(frozen=True)
class Limits:
    """Maxima of one server; the defaults suit two cores and a small encoder."""

    body_bytes: int = 1024 * 1024  # size of a request's body
    candidates: int = 256  # of a request
    characters: int = 200_000  # of a request's texts, plus one per text and list; checked before tokens are known
    tokens: int = 16384  # of a request: its prefix once and all its candidates
    waiting: int = 256  # requests in the service, those being scored included
    seconds: float = 30.0  # from a request's first byte to its response
    batch_tokens: int = 2048  # scored together, enough to fill a CPU; a longer request is scored alone

    def check_body(self, body: Any) -> None:
        """Raise for a decoded body with too many candidates, characters or names, in whatever fields."""
        if not isinstance(body, dict):
            return
        for field in ("candidates", "documents"):
            if isinstance(body.get(field), list) and len(body[field]) > self.candidates:
                message = f"{len(body[field])} {field} are over the limit of {self.candidates}: send fewer"
                raise _over(413, message, "--max_candidates", field)
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
                message = f"question, table, text and candidates have more than {self.characters} characters together"
                raise _over(413, f"{message}, which is the limit: send a shorter page", "--max_characters")
            if isinstance(part, list | dict):
                parts.extend(part if isinstance(part, list) else part.values())

    def check_tokens(self, count: int) -> None:
        """Raise for a request of too many tokens."""
        if count > self.tokens:
            message = f"the request has {count} tokens, over the limit of {self.tokens}"
            raise _over(413, f"{message}: send fewer or shorter candidates", "--max_tokens")

    def body_too_large(self, announced: int | None = None) -> ServiceError:
        """413; without the size that the client announced if the limit was reached while reading."""
        body = "the body" if announced is None else f"the body of {announced} bytes"
        message = f"{body} is over the limit of {self.body_bytes} bytes: send a shorter page"
        return _over(413, message, "--max_body_kib")

    def overloaded(self) -> ServiceError:
        """503: too many requests at once."""
        message = f"{self.waiting} requests are being worked on or wait, which is the limit: try again in a second"
        return _over(503, message, "--max_waiting")

    def body_too_slow(self) -> ServiceError:
        """408: the body did not arrive in time."""
        message = f"the body did not arrive within {self.seconds:g} s, which is the limit: send it faster"
        return ServiceError(408, message)

    def too_slow(self) -> ServiceError:
        """504: no response in time."""
        message = f"no answer within {self.seconds:g} s, which is the limit"
        return _over(504, f"{message}: send fewer candidates or fewer requests at once", "--timeout_s")


def _over(status: int, message: str, option: str, field: str | None = None) -> ServiceError:
    headers = {"retry-after": "1"} if status == 503 else None
    message = f"{message}, or raise {option} where the server is started"
    return ServiceError(status, message, field, headers=headers)


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
