"""An endpoint that misbehaves: what is tried again, what is the question's fault, what ends the run."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from finrank.errors import UserError
from finrank.sampling.endpoint import Endpoint, Reply
from finrank.sampling.policy import EndpointOptions, Forbidden, Refused, Sampling, Unanswered
from tests.helpers.endpoint_stub import GOOD, Answer, Stub, completions, error, serving

MESSAGES = [{"role": "user", "content": "Question: what ?"}]
KEY = "sk-a-very-secret-key"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)


def new_endpoint(url: str, **options: Any) -> Endpoint:
    sampling = Sampling(**{name: options.pop(name) for name in ("temperature", "top_p") if name in options})
    return Endpoint(EndpointOptions(url, **({"api_key_env": "TEST_KEY"} | options)), "my-llm", sampling)


def ask_once(endpoint: Endpoint, n: int = 2, seed: int = 7) -> Reply:
    (reply,) = endpoint.run(iter([endpoint.ask(MESSAGES, n=n, seed=seed)]), 1)
    return reply


def ask(stub: Stub, n: int = 2, **options: Any) -> Reply:
    return ask_once(new_endpoint(stub.url, **({"timeout": 5.0, "max_retries": 2} | options)), n)


def first(answer: Answer) -> Callable[[dict[str, Any], int], Answer]:
    """One bad answer, good ones after it."""
    return lambda request, number: answer if number == 0 else completions(request)


def always(answer: Answer) -> Callable[[dict[str, Any], int], Answer]:
    return lambda request, number: answer


def test_a_request_holds_everything_that_decides_the_answer() -> None:
    with serving(lambda request, number: completions(request)) as stub:
        reply = ask(stub, temperature=0.5, top_p=0.9, max_tokens=64)
        ask(stub, max_tokens=0)
    assert reply == Reply([(GOOD, "stop")] * 2, 100, 20)
    drawn = {"n": 2, "seed": 7, "temperature": 0.5, "top_p": 0.9, "max_tokens": 64}
    assert stub.requests[0] == {"model": "my-llm", "messages": MESSAGES, **drawn}
    assert "max_tokens" not in stub.requests[1]
    assert stub.paths[0] == "/v1/chat/completions"
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"


BROKEN = Answer(body=b'{"choices": [', length=1000)
HANGING = Answer(hang=True)


@pytest.mark.parametrize("bad", [error(429), error(500), error(503), error(408), BROKEN, HANGING])
def test_faults_that_may_pass_are_retried(bad: Answer) -> None:
    with serving(first(bad)) as stub:
        assert len(ask(stub, timeout=0.3 if bad.hang else 5.0).completions) == 2
    assert len(stub.requests) == 2
    assert stub.requests[0] == stub.requests[1]


def test_retry_after_is_waited_for() -> None:
    with serving(first(error(429, Retry_After="0.4"))) as stub:
        began = time.monotonic()
        ask(stub)
        assert time.monotonic() - began >= 0.4
    with serving(always(error(429, "come back tomorrow", Retry_After="86400"))) as stub:
        with pytest.raises(Unanswered, match=r"429: .*come back tomorrow"):
            ask(stub)
        assert len(stub.requests) == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (error(429, "slow down"), "the server answered 429: .*slow down"),
        (error(502, "bad gateway"), "the server answered 502: .*bad gateway"),
        (HANGING, "no answer within 0.2 s"),
        (BROKEN, "no answer: "),
    ],
)
def test_after_all_retries_there_is_no_answer(bad: Answer, reason: str) -> None:
    with serving(always(bad)) as stub:
        with pytest.raises(Unanswered, match=reason):
            ask(stub, timeout=0.2)
        assert len(stub.requests) == 3


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"choices": [', r"not a chat completion \(application/json\): .*JSON"),
        (b"", "not a chat completion"),
        (b"[]", "not a chat completion"),
        (b"\xff\xfe", "not a chat completion"),
        (b'{"choices": []}', "choices: List should have at least 1 item"),
        (b'{"choices": null}', "choices: "),
        (b'{"choices": [{"text": "a completion of another kind"}]}', "message: Field required"),
        (b'{"choices": [{"message": {"content": ["a", "list"]}}]}', "content: "),
        (b'{"error": {"message": "no model is loaded"}}', "choices: Field required"),
    ],
)
def test_anything_but_a_chat_completion_is_not_an_answer(body: bytes, reason: str) -> None:
    with serving(always(Answer(body=body))) as stub, pytest.raises(Unanswered, match=reason):
        ask(stub)


def test_the_content_type_of_another_answer_is_named() -> None:
    page = Answer(body=b"<html>log in</html>", headers={"Content-Type": "text/html"})
    with serving(always(page)) as stub, pytest.raises(Unanswered, match=r"not a chat completion \(text/html\)"):
        ask(stub)


def test_odd_parts_beside_the_text_do_no_harm() -> None:
    choices = b'[{"message": {"content": null}, "finish_reason": 7}, {"message": {"content": "a"}}]'
    body = b'{"choices": ' + choices + b', "usage": "x"}'
    with serving(lambda request, number: Answer(body=body)) as stub:
        assert ask(stub) == Reply([("", None), ("a", None)], None, None)


def test_more_than_was_asked_for_is_cut() -> None:
    with serving(lambda request, number: Answer(["a", "b", "c"])) as stub:
        assert [text for text, _ in ask(stub).completions] == ["a", "b"]


def test_a_huge_or_endless_reply_is_given_up() -> None:
    with serving(lambda request, number: Answer(["x" * 9_000_000])) as stub:
        with pytest.raises(Unanswered, match="more than 8000000 bytes"):
            ask(stub)
        assert len(stub.requests) == 1
    with serving(lambda request, number: Answer(["slow"], drip=0.02)) as stub:
        began = time.monotonic()
        with pytest.raises(Unanswered, match="not whole within"):
            ask(stub, timeout=0.3)
        assert time.monotonic() - began < 3.0


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_is_the_questions_fault(status: int) -> None:
    bad = error(status, "the prompt is too long")
    with serving(always(bad)) as stub, pytest.raises(Refused, match=f"{status}: .*prompt is too long"):
        ask(stub)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "the key in TEST_KEY was refused: put a key .* --api_key_env"),
        (403, "the key in TEST_KEY was refused"),
        (404, "no model 'my-llm' there, .* check --model and --endpoint"),
        (405, "check --endpoint"),
        (402, "check --endpoint and what the server says; it said: .*out of order"),
    ],
)
def test_what_would_meet_every_question_is_the_users_to_mend(status: int, message: str) -> None:
    with serving(always(error(status))) as stub:
        with pytest.raises(UserError, match=f"{stub.url} answered {status}: {message}"):
            ask(stub)
        assert len(stub.requests) == 1


def test_without_a_key_401_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY")
    with serving(always(error(401))) as stub, pytest.raises(UserError, match="no key in TEST_KEY"):
        ask(stub)


@pytest.mark.parametrize("status", [400, 401, 429, 200])
def test_the_key_is_in_no_message(status: int) -> None:
    bad = error(status, f"wrong key {KEY} " + "x" * 5000)
    with serving(always(bad)) as stub, pytest.raises((Refused, UserError, Unanswered)) as raised:
        ask(stub)
    assert KEY not in str(raised.value)
    assert len(str(raised.value)) < 700


@pytest.mark.parametrize(
    ("takes", "form"),
    [
        (lambda request: True, {"n", "seed"}),
        (lambda request: "seed" not in request, {"n"}),
        (lambda request: "seed" not in request and "n" not in request, set()),
    ],
)
def test_a_server_that_knows_no_seed_or_one_completion_only_is_asked_without(
    takes: Callable[[dict[str, Any]], bool], form: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(
        lambda request, number: completions(request) if takes(request) else error(400, "no such thing")
    ) as stub:
        endpoint = new_endpoint(stub.url)
        jobs: list[Coroutine[Any, Any, Reply]] = [endpoint.ask(MESSAGES, n=3, seed=1) for _ in range(3)]
        replies = list(endpoint.run(iter(jobs), 1))
    assert [len(reply.completions) for reply in replies] == [3 if "n" in form else 1] * 3
    assert [set(request) & {"n", "seed"} for request in stub.requests[-2:]] == [form, form]
    assert len(stub.requests) == 3 + 2 - len(form)
    assert capsys.readouterr().err.count("asked without") == (form != {"n", "seed"})


def test_one_question_that_is_refused_does_not_change_how_others_are_asked() -> None:
    with serving(lambda request, number: error(400) if number < 3 else completions(request)) as stub:
        endpoint = new_endpoint(stub.url)
        with pytest.raises(Refused):
            ask_once(endpoint)
        ask_once(endpoint)
    assert [set(request) & {"n", "seed"} for request in stub.requests] == [{"n", "seed"}, {"n"}, set(), {"n", "seed"}]


def test_one_completion_does_not_show_whether_a_server_sends_several() -> None:
    with serving(
        lambda request, number: completions(request) if request.get("n", 1) == 1 else error(400, "one only")
    ) as stub:
        endpoint = new_endpoint(stub.url)
        assert [len(ask_once(endpoint, n).completions) for n in (1, 3, 3)] == [1, 1, 1]
    assert len(stub.requests) == 1 + 3 + 1


def test_403_is_the_keys_fault_until_the_server_has_answered() -> None:
    with serving(lambda request, number: error(403, "moderated") if number != 1 else completions(request)) as stub:
        endpoint = new_endpoint(stub.url)
        with pytest.raises(UserError, match="the key in TEST_KEY was refused"):
            ask_once(endpoint)
        ask_once(endpoint)
        with pytest.raises(Forbidden, match=r"refused it with 403: .*moderated"):
            ask_once(endpoint)
        endpoint = new_endpoint(stub.url)
        endpoint.has_answered = True
        with pytest.raises(Forbidden):
            ask_once(endpoint)


@pytest.mark.parametrize("part", ["\n", " ", "ü", "\u200b", "\x7f", '"', "\\"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setenv("TEST_KEY", f"sk-first{part}second")
    with pytest.raises(UserError, match=r"^TEST_KEY: ") as raised:
        new_endpoint("http://127.0.0.1:9/v1")
    assert not any(part in str(raised.value) for part in ("sk", "first", "rst", "second"))


def test_a_key_may_end_in_a_line_break_as_files_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", f"{KEY}\n")
    with serving(lambda request, number: completions(request)) as stub:
        ask(stub)
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"


def packed(answer: Answer, encoding: str = "gzip") -> Answer:
    return Answer(status=answer.status, headers={"Content-Encoding": encoding}, body=gzip.compress(answer.content()))


def test_a_packed_reply_is_not_unpacked() -> None:
    with serving(lambda request, number: packed(Answer(["x" * 9_000_000]))) as stub:
        with pytest.raises(Unanswered, match="compressed as 'gzip', which was not asked for"):
            ask(stub)
        assert stub.headers[0]["accept-encoding"] == "identity"
        assert len(stub.requests) == 1
    with serving(lambda request, number: packed(error(400, "x" * 9_000_000))) as stub, pytest.raises(Refused) as raised:
        ask(stub)
    assert "xxx" not in str(raised.value)  # only its status is read
    with serving(lambda request, number: Answer(["a"], headers={"Content-Encoding": "identity"})) as stub:
        assert ask(stub, n=1).completions == [("a", "stop")]


def test_a_long_reason_for_the_end_is_cut() -> None:
    with serving(lambda request, number: Answer(["a"], finish="x" * 100_000)) as stub:
        assert ask(stub).completions == [("a", "x" * 60)]


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8000", "ftp://host/v1", "http://", "http://host:port/v1", "http://host:99999/v1", "http://[::1"],
)
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="expected a URL"):
        new_endpoint(url)


@pytest.mark.parametrize("url", ["http://me:secret@host/v1", "https://host/v1?key=secret", "https://host/v1#secret"])
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UserError, match="--api_key_env") as raised:
        new_endpoint(url)
    assert "secret" not in str(raised.value)


def test_jobs_run_within_the_concurrency_and_are_cancelled_when_the_iterator_is_closed() -> None:
    started: list[int] = []
    cancelled: list[int] = []

    async def job(number: int, seconds: float) -> int:
        started.append(number)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    endpoint = new_endpoint("http://127.0.0.1:9/v1")
    results = endpoint.run((job(number, 0.01 if number else 30.0) for number in range(10)), 3)
    assert next(results) in (1, 2)
    assert len(started) == 3
    assert {next(results), next(results)} <= {1, 2, 3, 4}
    results.close()
    assert 0 in cancelled
    assert len(started) <= 7
