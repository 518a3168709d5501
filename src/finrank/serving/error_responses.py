"""The one shape of all errors: {"error": {"type", "message", "field"}}, with a 4xx, 500, 503 or 504."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from finrank.serving.schemas import ErrorBody

# For the OpenAPI description: what an endpoint sends instead of its result.
ErrorResponses: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}
_KINDS = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    429: "overloaded",
    500: "internal",
    503: "overloaded",
    504: "timeout",
}


class ServiceError(Exception):
    """A fault that is reported to the client; its `type` follows from the status unless `kind` replaces it."""

    def __init__(
        self,
        status: int,
        message: str,
        field: str | None = None,
        *,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.field = status, message, field
        self.kind = kind or _KINDS.get(status, "invalid_request")
        self.headers = headers

    def response(self) -> JSONResponse:
        """The error as it is sent."""
        error = {"type": self.kind, "message": self.message, "field": self.field}
        # Any text may be a key of a body; lone surrogates, which UTF-8 cannot hold, are written out.
        encodable = {name: text and text.encode("utf-8", "backslashreplace").decode() for name, text in error.items()}
        return JSONResponse({"error": encodable}, self.status, headers=self.headers)


def add_error_handlers(app: FastAPI) -> None:
    """Give every error of the app the one shape."""

    @app.exception_handler(ServiceError)
    async def known(_: Request, error: ServiceError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        return from_validation(error.errors()).response()

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method[:20]} {request.url.path[:200]}: {error.detail}"
        if error.status_code == 400:  # FastAPI's word for a body that json refuses for more than its syntax
            message = "the body cannot be read: send JSON in UTF-8, without nesting or numbers beyond reason"
        if error.status_code in (404, 405):
            message += "; the endpoints are listed at /docs"
        return ServiceError(error.status_code, message, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        message = f"the server failed on this request ({type(error).__name__}); its log says why"
        return ServiceError(500, message).response()


def from_validation(errors: Sequence[Mapping[str, Any]]) -> ServiceError:
    """A 400 that names the first field at fault and what was expected there.

    >>> error = from_validation([{"loc": ("body", "text", 3), "msg": "Input should be a valid string"}])
    >>> error.field, error.message[:38]
    ('text.3', 'text.3: Input should be a valid string')
    """
    first = errors[0]
    if first.get("type") == "json_invalid":
        return ServiceError(400, f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}")
    path = list(first["loc"][1:])
    reason = str(first["msg"])
    field = ".".join(map(str, path))[:200] or None
    others = len({error["loc"][:3] for error in errors}) - 1
    more = f" (and {others} more {'fault' if others == 1 else 'faults'})" if others else ""
    return ServiceError(400, f"{field or 'the body'}: {reason}{more}; the fields are described at /docs", field)
