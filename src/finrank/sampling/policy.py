"""Settings of `finrank sample`, and its policy for questions that get no completions: retry, reject, or stop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from finrank.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. Raises UserError for a value out of range."""

    num_candidates: int = 8
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_candidates < 1:
            raise UserError(f"num_candidates is {self.num_candidates}: a pool needs at least 1")
        if not (self.temperature >= 0.0 and math.isfinite(self.temperature)):
            raise UserError(f"temperature is {self.temperature}: it must be 0 (always the likeliest token) or above")
        if not 0.0 < self.top_p <= 1.0:
            raise UserError(f"top_p is {self.top_p}: it is a share of probability, above 0 and at most 1")


@dataclass(frozen=True)
class EndpointOptions:
    """How an endpoint is asked; only `url` and `max_tokens` affect its answers. Raises UserError if out of range."""

    url: str  # the part before /chat/completions, usually ending in /v1
    max_tokens: int = 512  # of a completion; 0 leaves the limit to the server
    api_key_env: str = "OPENAI_API_KEY"  # environment variable; without a key the server is asked all the same
    concurrency: int = 4  # questions at a time
    timeout: float = 120.0  # seconds for each attempt
    max_retries: int = 6
    max_failures: int = 5  # questions in a row without an answer that stop the run; 0: none do

    def __post_init__(self) -> None:
        if min(self.max_tokens, self.max_retries, self.max_failures) < 0:
            raise UserError("max_tokens, max_retries and max_failures must be 0 or above")
        if self.concurrency < 1:
            raise UserError(f"concurrency is {self.concurrency}: at least 1 question at a time")
        if not self.timeout > 0.0:
            raise UserError(f"timeout is {self.timeout}: it is in seconds, above 0")


class QuestionFault(Exception):
    """Why one question got no completions; other errors (a wrong key, model or URL) would fail all and stop the run."""

    attempts = 1  # times that a question is asked before it is rejected
    counts = True  # if the server may be at fault: `max_failures` such questions in a row stop the run


class Refused(QuestionFault):
    """The request will never be answered: too long a prompt, filtered content."""

    counts = False


class Forbidden(Refused):
    """A 403 from a server that has answered before: filtered content, or access was withdrawn."""

    counts = True


class Unanswered(QuestionFault):
    """No usable answer after all retries: the server is down, overloaded, or sent something else than an answer."""

    attempts = 2


class Attempt(NamedTuple):
    """The outcome of asking a question: a fault, or all its completions in the journal."""

    key: str
    fault: Exception | None = None
