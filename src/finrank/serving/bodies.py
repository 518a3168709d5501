"""JSON of requests, checked before it is validated: a body over a limit costs no more than reading it."""

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


def limited_bodies(limits: Limits) -> type[APIRoute]:
    """A route class for endpoints whose bodies stay within the limits and repeat no name in an object."""

    class LimitedBodies(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def check(request: Request) -> Response:
                request = _Request(request.scope, request.receive)
                with suppress(ValueError, RecursionError):  # not JSON: FastAPI reports it
                    limits.check_body(await request.json())
                return await handle(request)

            return check

    return LimitedBodies


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
