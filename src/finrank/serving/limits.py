"""What the service takes at most, and the error for each limit: what was exceeded, by how much, what to do."""

from __future__ import annotations

from dataclasses import dataclass

from finrank.serving.error_responses import ServiceError


@dataclass(frozen=True)
class Limits:
    """Limits of one server; the defaults suit two cores and a small encoder."""

    body_bytes: int = 1024 * 1024
    """Of a request's body."""
    candidates: int = 256
    """Of one request."""
    characters: int = 200_000
    """Of one request's texts, with one more for each text and list: bounds the work before its tokens are known."""
    tokens: int = 16384
    """Of one request: its prefix once and all its candidates."""
    waiting: int = 256
    """Requests in the service at once, those being scored included."""
    seconds: float = 30.0
    """From a request's first byte to its answer."""
    batch_tokens: int = 2048
    """Tokens that are scored together: what fills a CPU, while a GPU wants more. A longer request is scored alone."""

    def body_too_large(self, size: int | None = None) -> ServiceError:
        """413; `size` is what the client announced, None where it was found out while reading."""
        given = "the body" if size is None else f"the body of {size} bytes"
        return ServiceError(
            413, "too_large", f"{given} is over the limit of {self.body_bytes} bytes: send a shorter page, or raise "
            "--max_body_kib where the server is started"
        )  # fmt: skip

    def check_candidates(self, count: int, field: str) -> None:
        """Raise a 413 when a request has more candidates than allowed."""
        if count > self.candidates:
            raise ServiceError(
                413,
                "too_large",
                f"{count} {field} are over the limit of {self.candidates}: send fewer, or raise --max_candidates where "
                "the server is started",
                field,
            )

    def check_characters(self, count: int) -> None:
        """Raise a 413 when a request's texts are longer than allowed."""
        if count > self.characters:
            raise ServiceError(
                413,
                "too_large",
                f"question, table, text and candidates have more than {self.characters} characters together, which is "
                "the limit: send a shorter page, or raise --max_characters where the server is started",
            )

    def check_tokens(self, count: int) -> None:
        """Raise a 413 when a request, written as tokens, is longer than allowed."""
        if count > self.tokens:
            raise ServiceError(
                413,
                "too_large",
                f"the request has {count} tokens, over the limit of {self.tokens}: send fewer or shorter candidates, "
                "or raise --max_tokens where the server is started",
            )

    def overloaded(self) -> ServiceError:
        """503: too many requests at once."""
        return ServiceError(
            503,
            "overloaded",
            f"{self.waiting} requests are being worked on or wait, which is the limit: try again in a second, or raise "
            "--max_waiting where the server is started",
            headers={"retry-after": "1"},
        )

    def body_too_slow(self) -> ServiceError:
        """408: the body did not arrive in time."""
        return ServiceError(
            408, "timeout", f"the body did not arrive within {self.seconds:g} s, which is the limit: send it faster"
        )

    def too_slow(self) -> ServiceError:
        """504: no answer in time."""
        return ServiceError(
            504,
            "timeout",
            f"no answer within {self.seconds:g} s, which is the limit: send fewer candidates or fewer requests at "
            "once, or raise --timeout_s where the server is started",
        )
