"""Bodies of requests, looked at before they are validated: what is over a limit costs no more than reading it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from finrank.serving.error_responses import ServiceError
from finrank.serving.limits import Limits

# In one object; each unknown one is a fault of its own for pydantic.
_MOST_NAMES = 64


def checked_route(limits: Limits) -> type[APIRoute]:
    """The class of routes whose bodies have no name twice and are within the limits."""

    class CheckedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def check(request: Request) -> Response:
                request = _Request(request.scope, request.receive)
                with suppress(ValueError, RecursionError):  # no JSON: FastAPI's own reading says so
                    check_body(await request.json(), limits)
                return await handle(request)

            return check

    return CheckedRoute


def read_json(body: bytes) -> Any:
    """The body decoded; ServiceError (400) where an object has a name twice, of which json would keep the last."""
    return json.loads(body, object_pairs_hook=_without_repeats)


def check_body(body: Any, limits: Limits) -> None:
    """ServiceError for a decoded body with more candidates, characters or names than allowed, in whatever fields."""
    if not isinstance(body, dict):
        return
    for field in ("candidates", "documents"):
        if isinstance(body.get(field), list):
            limits.check_candidates(len(body[field]), field)
    characters = 0
    parts: list[Any] = [body]
    while parts:
        part = parts.pop()
        if isinstance(part, str | list):
            characters += len(part)
        elif isinstance(part, dict):
            if len(part) > _MOST_NAMES:
                raise ServiceError(
                    400, "invalid_request", f"an object of {len(part)} names: the fields are described at /docs"
                )
            characters += sum(map(len, part))
        limits.check_characters(characters)
        if isinstance(part, list | dict):
            parts.extend(part if isinstance(part, list) else part.values())


class _Request(Request):
    """A request whose JSON is read by `read_json`, once."""

    async def json(self) -> Any:
        if not hasattr(self, "_decoded"):
            self._decoded = read_json(await self.body())
        return self._decoded


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ServiceError(
            400, "invalid_request", f"the body is not clear: {twice[:80]!r} stands twice in one object; send it once"
        )
    return found
