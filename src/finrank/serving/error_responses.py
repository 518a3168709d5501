"""The one shape of all errors: {"error": {"type", "message", "field"}}, with a 4xx, 503 or 504."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from finrank.errors import UserError
from finrank.ranker.requests import CandidateError
from finrank.serving.schemas import ErrorBody

# For the OpenAPI description: what a route gives instead of its answer.
ErrorResponses: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}
# What stands in these lists may have several forms, of which pydantic would report each one's fault.
_FORMS = {
    "candidates": "expected a program, a value (a number, yes or no), or an object with program, answer or both, and "
    "its origin (gold, corrupted, proposed, sampled, imported) where it is known",
    "documents": 'expected a text, or an object {"text": …}',
}
_TYPES = {400: "invalid_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class ServiceError(Exception):
    """A fault that the client is told of."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.field = status, kind, message, field
        self.headers = headers

    def response(self) -> JSONResponse:
        """The error as it is sent."""
        error = {"type": self.kind, "message": _encodable(self.message), "field": _encodable(self.field)}
        return JSONResponse({"error": error}, self.status, headers=self.headers)


def _encodable(text: str | None) -> str | None:
    """The text with lone surrogates written out, which UTF-8 cannot hold: a body may contain any text as a key."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")


def add_error_handlers(app: FastAPI) -> None:
    """Give every error of the app the one shape."""

    @app.exception_handler(ServiceError)
    async def known(_: Request, error: ServiceError) -> JSONResponse:
        return error.response()

    @app.exception_handler(UserError)
    async def unreadable(_: Request, error: UserError) -> JSONResponse:
        return ServiceError(400, "invalid_request", str(error)).response()

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        return from_validation(error.errors()).response()

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        kind = _TYPES.get(error.status_code, "invalid_request")
        message = f"{request.method} {request.url.path[:200]}: {error.detail}"
        if error.status_code == 400:  # FastAPI's word for a body that json does not take, beyond its syntax
            message = "the body cannot be read: send JSON in UTF-8, without nesting or numbers beyond reason"
        if error.status_code in (404, 405):
            message += "; the routes are listed at /docs"
        return ServiceError(error.status_code, kind, message, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        message = f"the server failed on this request ({type(error).__name__}); its log says why"
        return ServiceError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", message).response()


def of_candidate(error: UserError, field: str) -> UserError | ServiceError:
    """The fault of a request as the client is told of it: of a single candidate, by its place in `field`."""
    candidate = error.__cause__
    if not isinstance(candidate, CandidateError):
        return error
    place = f"{field}.{candidate.index}"
    return ServiceError(400, "invalid_request", f"{place}: {candidate.reason}", place)


def from_validation(errors: Sequence[Mapping[str, Any]]) -> ServiceError:
    """A 400 that names the first field at fault and what was expected there.

    >>> error = from_validation([{"loc": ("body", "candidates", 3, "str"), "msg": "Input should be a valid string"}])
    >>> error.field, error.message[:40]
    ('candidates.3', 'candidates.3: expected a program, a valu')
    """
    first = errors[0]
    if first.get("type") == "json_invalid":
        reason, place = first["ctx"]["error"], first["loc"][-1]
        return ServiceError(400, "invalid_request", f"the body is no JSON: {reason} at character {place}")
    path = list(first["loc"][1:])
    reason = str(first["msg"])
    if len(path) > 2 and path[0] in _FORMS:
        path, reason = path[:2], _FORMS[path[0]]
    field = ".".join(map(str, path))[:200] or None
    others = len({error["loc"][:3] for error in errors}) - 1
    more = f" (and {others} more {'fault' if others == 1 else 'faults'})" if others else ""
    return ServiceError(
        400, "invalid_request", f"{field or 'the body'}: {reason}{more}; the fields are described at /docs", field
    )
