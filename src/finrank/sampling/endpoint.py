"""Completions from an OpenAI-compatible endpoint: hosted services, and local servers such as vLLM, llama.cpp or Ollama.

The `openai` client sends the requests. After 408, 409, 429, 5xx, time-outs and broken connections it waits and retries,
twice as long each time (up to 8 s), or as long as Retry-After says (up to two minutes). Added here: the difference
between faults of the question, the server and the user, and limits on a reply's size and time.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import httpx2
import openai
from pydantic import BaseModel, Field, ValidationError

from finrank.console import warn
from finrank.errors import UserError
from finrank.pools.completion import INSTRUCTIONS, write_messages
from finrank.programs.reading.candidate_text import LONGEST_TEXT
from finrank.sampling.journal import Completion, Journal
from finrank.sampling.policy import Attempt, EndpointOptions, Forbidden, QuestionFault, Refused, Sampling, Unanswered
from finrank.sampling.question_files import Asked
from finrank.seeds import seed_of
from finrank.store.json_lines import describe, shorten

T = TypeVar("T")

_MOST_BYTES = 8_000_000  # of a reply; 100 completions of 1,000 tokens have 500,000
_LONGEST_MESSAGE = 300  # characters of a server's message
_LONGEST_FINISH = 60  # characters of the reason why a completion ended
_REFUSING = (400, 413, 422)  # statuses about this request: too long, filtered, an unknown parameter
_TEMPORARY = (408, 409, 425, 429)  # and all from 500 on


class Reply(NamedTuple):
    """At least one completion ("" if the server sent no text), and the tokens that it counted (None if it did not)."""

    completions: list[Completion]
    tokens: tuple[int | None, int | None]  # of the prompt, of the completions


class _Message(BaseModel):
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """The text of the message: some servers send it in parts, next to parts of reasoning and references."""
        if isinstance(self.content, list):
            parts = [part.get("text") for part in self.content if part.get("type") == "text"]
            return "".join(part for part in parts if isinstance(part, str))
        return self.content or ""


class _Choice(BaseModel):
    message: _Message
    finish_reason: Any = None

    @property
    def finish(self) -> str | None:
        return self.finish_reason[:_LONGEST_FINISH] if isinstance(self.finish_reason, str) else None


class _Body(BaseModel):
    """The parts of a reply that are read; others are ignored."""

    choices: list[_Choice] = Field(min_length=1)
    usage: Any = None

    @property
    def tokens(self) -> tuple[int | None, int | None]:
        """The counts in `usage`; None if missing or not a count."""
        counts = self.usage if isinstance(self.usage, dict) else {}
        prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
        return prompt if isinstance(prompt, int) else None, completion if isinstance(completion, int) else None


class Endpoint:
    """A chat model behind a URL: `run` connects, runs jobs that `ask`, and disconnects.

    The first question shows which forms of request the server accepts: some refuse `seed`, or `n` completions at once.
    `has_answered` decides whether a 403 is about one request or about the key; set it if the server has answered an
    earlier run.
    """

    def __init__(self, options: EndpointOptions, model: str, sampling: Sampling) -> None:
        """Raises UserError for anything but an http(s) URL without password and parameters, and for a malformed key."""
        _check_url(options.url)
        self.options, self.model, self.sampling = options, model, sampling
        self.name, self.max_failures = f"{model} at {options.url}", options.max_failures
        self.made_with = {
            "endpoint": options.url,
            "model": model,
            **asdict(sampling),
            "max_tokens": options.max_tokens,
            "instructions": hashlib.sha256(INSTRUCTIONS.encode()).hexdigest(),
        }
        self.has_answered = False
        self._key = _key_in(options.api_key_env)
        # (several completions in a request, a seed); the first that the server accepts stays.
        self._forms = [(True, True), (True, False), (False, False)]
        self._client: openai.AsyncOpenAI | None = None

    def ask_all(self, asked: Iterator[Asked], journal: Journal) -> Generator[Attempt]:
        """Complete several questions at a time, in the order in which the server answers."""
        self.has_answered |= not journal.is_empty
        return self.run((self._complete(one, journal) for one in asked), self.options.concurrency)

    async def _complete(self, asked: Asked, journal: Journal) -> Attempt:
        """Ask until a question has all its completions: a server may return fewer at a time than requested."""
        key, question = asked
        try:
            while (missing := self.sampling.num_candidates - journal.count(key)) > 0:
                # A new seed for each request, or the rest would be copies; below 2^31, which every server accepts.
                seed = seed_of(self.sampling.seed, question.id, journal.requests(key)) >> 33
                reply = await self.ask(write_messages(question), n=missing, seed=seed)
                # One more character than is read, so that a text that is too long is seen to be.
                texts = [(text[: LONGEST_TEXT + 1], finish) for text, finish in reply.completions]
                journal.add(key, texts, reply.tokens)
        except (QuestionFault, UserError) as fault:
            return Attempt(key, fault)
        return Attempt(key)

    def run(self, jobs: Iterator[Coroutine[Any, Any, T]], concurrency: int) -> Generator[T]:
        """Run jobs that call `ask`, `concurrency` at a time; yield their results as they finish, raise their errors.

        `jobs` is read as slots become free. Closing the iterator cancels the jobs that are still running.
        """
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            timeout, hooks = self.options.timeout, {"response": [self._bound]}
            self._client = openai.AsyncOpenAI(
                base_url=self.options.url,
                api_key=self._key or "none",  # the client insists on a key, local servers ignore it
                timeout=timeout,
                max_retries=self.options.max_retries,
                # The limit on bytes that arrive would not limit what they unpack to.
                default_headers={"Accept-Encoding": "identity"},
                http_client=openai.DefaultAsyncHttpxClient(timeout=timeout, event_hooks=hooks),
            )
            running: set[asyncio.Task[T]] = set()
            try:
                while True:
                    while len(running) < concurrency and (job := next(jobs, None)) is not None:
                        running.add(loop.create_task(job))
                    if not running:
                        return
                    done, running = runner.run(asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED))
                    for task in done:
                        yield task.result()
            finally:
                for task in running:
                    task.cancel()
                runner.run(self._client.close())

    async def ask(self, messages: list[dict[str, str]], *, n: int, seed: int) -> Reply:
        """From 1 to `n` completions of a chat: a server may return fewer than requested.

        Raises a QuestionFault, or UserError for a fault that every request would meet: a wrong key, model or URL.
        """
        refused: Refused | None = None
        forms = self._forms
        for several, seeded in forms:
            options = {name: value for name, value, sent in (("n", n, several), ("seed", seed, seeded)) if sent}
            try:
                body = await self._post(messages, **options)
            except Refused as error:
                refused = refused or error
                continue
            self.has_answered = True
            if self._forms is forms and len(forms) > 1:
                # A request for one completion does not show whether the server returns several.
                later = forms[forms.index((several, seeded)) :]
                self._forms = later[:1] if n > 1 else later
                if refused is not None:
                    without = "a seed" if several else "a seed, and for one completion at a time, which costs more"
                    warn(f"{self.options.url} refused the first request ({refused}): it is asked without {without}")
            completions = [(choice.message.text, choice.finish) for choice in body.choices[:n]]
            return Reply(completions, body.tokens)
        assert refused is not None
        raise refused

    async def _post(self, messages: list[dict[str, str]], **options: Any) -> _Body:
        assert self._client is not None
        options |= {"model": self.model, "temperature": self.sampling.temperature, "top_p": self.sampling.top_p}
        if self.options.max_tokens:
            options["max_tokens"] = self.options.max_tokens
        try:
            # Raw, because the client accepts a reply of any form as a completion.
            raw = await self._client.chat.completions.with_raw_response.create(
                messages=messages,  # type: ignore[arg-type]
                **options,
            )
            return _Body.model_validate_json(raw.content)
        except ValidationError as error:
            kind = raw.headers.get("content-type", "no content type")
            raise Unanswered(self._clean(f"the reply is not a chat completion ({kind}): {describe(error)}")) from error
        except openai.APIStatusError as error:
            raise self._fault(error) from error
        except openai.APITimeoutError as error:
            raise Unanswered(f"no answer within {self.options.timeout:g} s (--timeout)") from error
        except openai.OpenAIError as error:
            cause = error.__cause__ or error
            raise Unanswered(self._clean(f"no answer: {str(cause) or type(cause).__name__}")) from error

    def _fault(self, error: openai.APIStatusError) -> Exception:
        """The fault behind a status."""
        status, said = error.status_code, self._clean(error.message)
        if status in _REFUSING:
            return Refused(f"the server refused it with {status}: {said}")
        if status in _TEMPORARY or status >= 500:
            return Unanswered(f"the server answered {status}: {said}")
        if status == 403 and self.has_answered:
            return Forbidden(f"the server refused it with 403: {said}")
        if status in (401, 403):
            variable = self.options.api_key_env
            key = f"the key in {variable} was refused" if self._key else f"no key in {variable}"
            advice = f"{key}: put a key for this server and model into it, or name another variable with --api_key_env"
        elif status == 404:
            missing = f"no model {self.model!r} there, or no chat completions"
            advice = f"{missing}: check --model and --endpoint (often .../v1)"
        else:
            advice = "check --endpoint and what the server says"
        return UserError(f"{self.options.url} answered {status}: {advice}; it said: {said}")

    def _clean(self, text: str) -> str:
        """A server's text for messages and files: one short line without the key, which servers may repeat."""
        text = text.replace(self._key, "***") if self._key else text
        return shorten(" ".join(text.split()), _LONGEST_MESSAGE)

    async def _bound(self, response: httpx2.Response) -> None:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            if response.is_success:
                raise Unanswered(f"a reply compressed as {encoding[:_LONGEST_FINISH]!r}, which was not asked for")
            del response.headers["content-encoding"]  # only its status is read
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _BoundedStream(response.stream, time.monotonic() + self.options.timeout)


class _BoundedStream(httpx2.AsyncByteStream):
    """A reply's bytes, up to a size and a time: the client's timeout starts again with every byte that drips in."""

    def __init__(self, stream: httpx2.AsyncByteStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > _MOST_BYTES:
                raise Unanswered(f"a reply of more than {_MOST_BYTES} bytes")
            if time.monotonic() > self._deadline:
                raise Unanswered("a reply that was not whole within the seconds of --timeout")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _key_in(variable: str) -> str:
    """The key in an environment variable, "" if unset. UserError, which never shows it, if it is malformed."""
    key = os.environ.get(variable, "").strip()
    # Quotes and backslashes are escaped in messages, where the key could then not be masked.
    if any(not "!" <= character <= "~" or character in "\"'\\" for character in key):
        raise UserError(
            f"{variable}: its value is not a key: a key is ASCII without blanks, line breaks, quotes or backslashes; "
            "put the key alone into it"
        )
    return key


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound:
        raise UserError("--endpoint: expected a URL such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError(
            "--endpoint: the URL holds a password or parameters, which would be written to files: put the key into an "
            "environment variable (--api_key_env)"
        )
