"""Completions from an OpenAI-compatible endpoint: hosted services, and local servers such as vLLM, llama.cpp or Ollama.

The `openai` client sends the requests. After 408, 409, 429, 5xx, time-outs and broken connections it waits and tries
again, twice as long each time (up to 8 s), or as long as Retry-After says (up to two minutes). Added here: which faults
are the question's, which the server's and which the user's, and bounds on a reply's size and time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import openai
from pydantic import BaseModel, Field, ValidationError

from finrank.console import warn
from finrank.errors import UserError
from finrank.store.json_lines import describe, shorten

T = TypeVar("T")

_MOST_BYTES = 8_000_000  # of a reply; 100 completions of 1,000 tokens have 500,000
_LONGEST_MESSAGE = 300  # characters of a server's message
_LONGEST_FINISH = 60  # characters of the reason why a completion ended
_REFUSING = (400, 413, 422)  # statuses that mean this request: too long, filtered, a parameter not known
_TEMPORARY = (408, 409, 425, 429)  # and all from 500 on
_WITHOUT_KEY = "none"  # what local servers are sent, which ask for no key


class Refused(Exception):
    """The server will not answer this request, however often it is asked: too long a prompt, filtered content."""


class Forbidden(Refused):
    """A 403 from a server that has answered before: filtered content, or a door that was shut; others will show."""


class Unanswered(Exception):
    """No usable answer after all retries: the server is down, overloaded, or sent something else than an answer."""


@dataclass(frozen=True)
class Reply:
    """The completions of one request, one at least, and the tokens that the server counted (None: it did not say).

    A completion is its text (empty where the server gave none), and why it ended, such as "stop" or "length".
    """

    completions: list[tuple[str, str | None]]
    prompt_tokens: int | None
    completion_tokens: int | None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: Any = None


class _Body(BaseModel):
    """What is read of a reply; whatever else a server adds is left alone."""

    choices: list[_Choice] = Field(min_length=1)
    usage: Any = None

    def tokens(self, name: str) -> int | None:
        """A count of `usage`; no reply is lost because one is missing or odd."""
        count = self.usage.get(name) if isinstance(self.usage, dict) else None
        return count if isinstance(count, int) else None


class Endpoint:
    """A model behind a URL. `finished` opens it, runs its requests, and closes it.

    Several `ask` may run at once. How the server is asked for several completions is found out with the first question:
    those that know no `seed`, or only one completion per request, refuse the others. `has_answered` tells a 403 for one
    request from one for the key; whoever knows that the server has answered an earlier run sets it.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_tokens: int | None = 512,
        timeout: float = 120.0,
        max_retries: int = 6,
    ) -> None:
        """`url` is the part before /chat/completions, mostly ending in /v1; `timeout` in seconds for each attempt.

        The key comes from the environment variable `api_key_env`; without one the server is asked all the same. Raises
        UserError for something else than an http(s) URL, or one that holds a password or parameters, and for a key that
        no header can hold.
        """
        _check_url(url)
        self.url, self.model = url, model
        self.has_answered = False
        self._key_env, self._key = api_key_env, _key_in(api_key_env)
        self._timeout, self._max_retries = timeout, max_retries
        self._options: dict[str, Any] = {"model": model, "temperature": temperature, "top_p": top_p}
        if max_tokens is not None:
            self._options["max_tokens"] = max_tokens
        # (several completions in a request, a seed); the first that the server takes stays.
        self._forms = [(True, True), (True, False), (False, False)]
        self._client: openai.AsyncOpenAI | None = None

    def open(self) -> None:
        """Make ready to send requests; nothing is sent yet."""
        self._client = openai.AsyncOpenAI(
            base_url=self.url,
            api_key=self._key or _WITHOUT_KEY,
            timeout=self._timeout,
            max_retries=self._max_retries,
            # A bound on the bytes that arrive says nothing of what they would unpack to.
            default_headers={"Accept-Encoding": "identity"},
            http_client=openai.DefaultAsyncHttpxClient(timeout=self._timeout, event_hooks={"response": [self._bound]}),
        )

    async def close(self) -> None:
        """Close the connections."""
        assert self._client is not None
        await self._client.close()
        self._client = None

    async def ask(self, messages: list[dict[str, str]], *, n: int, seed: int) -> Reply:
        """Up to `n` completions, one at least: a server may give fewer than it is asked for.

        Raises Refused (Forbidden where others may be too) or Unanswered for what concerns this request, UserError for
        what would meet every other too: a wrong key, model or URL.
        """
        refused: Refused | None = None
        forms = self._forms
        for several, seeded in forms:
            options = {"n": n} if several else {}
            try:
                body = await self._post(messages, {**options, **({"seed": seed} if seeded else {})})
            except Refused as error:
                refused = refused or error
                continue
            self.has_answered = True
            if self._forms is forms and len(forms) > 1:
                # One completion, wherever it was asked for, does not tell whether the server gives several.
                later = forms[forms.index((several, seeded)) :]
                self._settle(later[:1] if n > 1 else later, refused)
            completions = [(one.message.content or "", _text(one.finish_reason)) for one in body.choices]
            return Reply(completions[:n], body.tokens("prompt_tokens"), body.tokens("completion_tokens"))
        assert refused is not None
        raise refused

    def _settle(self, forms: list[tuple[bool, bool]], refused: Refused | None) -> None:
        """Keep to the first form, which the server has taken, and to those that it may need later."""
        self._forms = forms
        if refused is not None:
            without = "a seed" if forms[0][0] else "a seed, and for one completion at a time, which costs more"
            warn(f"{self.url} refused the first request ({refused}): it is asked without {without}")

    async def _post(self, messages: list[dict[str, str]], options: dict[str, Any]) -> _Body:
        assert self._client is not None
        try:
            # Raw, because the client takes a reply of any form for a completion.
            raw = await self._client.chat.completions.with_raw_response.create(
                messages=messages,  # type: ignore[arg-type]
                **self._options,
                **options,
            )
            return _Body.model_validate_json(raw.content)
        except ValidationError as error:
            kind = raw.headers.get("content-type", "no content type")
            raise Unanswered(self._clean(f"the reply is no chat completion ({kind}): {describe(error)}")) from error
        except openai.APIStatusError as error:
            raise self._fault(error) from error
        except openai.APITimeoutError as error:
            raise Unanswered(f"no answer within {self._timeout:g} s (--timeout)") from error
        except openai.OpenAIError as error:
            cause = error.__cause__ or error
            raise Unanswered(self._clean(f"no answer: {str(cause) or type(cause).__name__}")) from error

    def _fault(self, error: openai.APIStatusError) -> Exception:
        """What a status means, for the question or for the whole run."""
        status, said = error.status_code, self._clean(error.message)
        if status in _REFUSING:
            return Refused(f"the server refused it with {status}: {said}")
        if status in _TEMPORARY or status >= 500:
            return Unanswered(f"the server answered {status}: {said}")
        if status == 403 and self.has_answered:
            return Forbidden(f"the server refused it with 403: {said}")
        if status in (401, 403):
            key = f"the key in {self._key_env} was refused" if self._key else f"there is no key in {self._key_env}"
            what = f"{key}: put a key for this server and model into it, or name another variable with --api_key_env"
        elif status == 404:
            what = f"no model {self.model!r} there, or no chat completions: check --model and --endpoint (often .../v1)"
        else:
            what = "check --endpoint and what the server says"
        return UserError(f"{self.url} answered {status}: {what}; it said: {said}")

    def _clean(self, text: str) -> str:
        """A text for messages and files: one line, not long, and without the key, which servers may repeat."""
        text = text.replace(self._key, "***") if self._key else text
        return shorten(" ".join(text.split()), _LONGEST_MESSAGE)

    async def _bound(self, response: httpx2.Response) -> None:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            if response.is_success:
                raise Unanswered(f"a reply packed as {encoding[:_LONGEST_FINISH]!r}, which was not asked for")
            del response.headers["content-encoding"]  # its status counts; what it says is not unpacked
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _BoundedStream(response.stream, time.monotonic() + self._timeout)


class _BoundedStream(httpx2.AsyncByteStream):
    """A reply's bytes, up to a size and a time: a timeout alone counts anew with every byte that drips in."""

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


def _text(value: Any) -> str | None:
    return value[:_LONGEST_FINISH] if isinstance(value, str) else None


def finished(jobs: Iterator[Coroutine[Any, Any, T]], concurrency: int, endpoint: Endpoint) -> Generator[T]:
    """Run jobs that ask the endpoint, so many at a time; give their results in the order in which they finish.

    `jobs` is read as places become free. The endpoint is open until they end or the iterator is closed; jobs that still
    run then are cancelled. Raises what a job raises.
    """
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        endpoint.open()
        running: set[asyncio.Task[T]] = set()
        try:
            while True:
                while len(running) < concurrency and (job := next(jobs, None)) is not None:
                    running.add(loop.create_task(job))
                if not running:
                    return
                done, running = runner.run(_first_of(running))
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            runner.run(endpoint.close())


async def _first_of(tasks: set[asyncio.Task[T]]) -> tuple[set[asyncio.Task[T]], set[asyncio.Task[T]]]:
    return await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


def _key_in(variable: str) -> str:
    """The key in an environment variable, "" without one; UserError, which never shows it, where it can be none."""
    key = os.environ.get(variable, "").strip()
    # Quotes and backslashes are written in another way in messages, where the key could then not be found.
    if any(not "!" <= character <= "~" or character in "\"'\\" for character in key):
        raise UserError(
            f"{variable}: what it holds is no key: a key has no blanks, line breaks, quotes or backslashes, and only "
            "ASCII characters; put the key alone into it"
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
            "--endpoint: the URL holds a password or parameters, which would stand in files: give the key in an "
            "environment variable (--api_key_env)"
        )
