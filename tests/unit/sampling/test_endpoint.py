"""An endpoint that misbehaves: what is tried again, what is the question's fault, what ends the run."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable
from typing import Any

import pytest

from finrank.errors import UserError
from finrank.sampling.endpoint import Endpoint, Reply
from finrank.sampling.policy import EndpointOptions, Forbidden, Refused, Sampling, Unanswered
from tests.helpers.endpoint_stub import GOOD, Answer, Stub, completions, error, serving

MESSAGES = [{"role": "user", "content": "Question: what ?"}]
KEY = "sk-a-very-secret-key"
BROKEN = Answer(body=b'{"choices": [', length=1000)
HANGING = Answer(hang=True)


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


def failing(bad: Answer, fault: Any, reason: str | None = None, **options: Any) -> tuple[Stub, str]:
    """Ask a server with this one answer, which must raise the fault; return the server and the message."""
    with serving(bad) as stub, pytest.raises(fault, match=reason) as raised:
        ask(stub, **options)
    return stub, str(raised.value)


def test_a_request_holds_everything_that_decides_the_answer() -> None:
    with serving(completions) as stub:
        reply = ask(stub, temperature=0.5, top_p=0.9, max_tokens=64)
        ask(stub, max_tokens=0)
    assert reply == Reply([(GOOD, "stop")] * 2, (100, 20))
    drawn = {"n": 2, "seed": 7, "temperature": 0.5, "top_p": 0.9, "max_tokens": 64}
    assert stub.requests[0] == {"model": "my-llm", "messages": MESSAGES, **drawn}
    assert "max_tokens" not in stub.requests[1]
    assert stub.paths[0] == "/v1/chat/completions"
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "bad", [error(429), error(500), error(503), error(408), BROKEN, HANGING, error(429, Retry_After="0.4")]
)
def test_faults_that_may_pass_are_retried(bad: Answer) -> None:
    with serving(lambda request, number: bad if number == 0 else completions(request)) as stub:
        began = time.monotonic()
        assert len(ask(stub, timeout=0.3 if bad.hang else 5.0).completions) == 2
        assert time.monotonic() - began >= float(bad.headers.get("Retry-After", 0))
    assert len(stub.requests) == 2
    assert stub.requests[0] == stub.requests[1]


@pytest.mark.parametrize(
    ("bad", "fault", "reason", "requests"),
    [
        (error(429, "slow down"), Unanswered, "the server answered 429: .*slow down", 3),
        (error(502, "bad gateway"), Unanswered, "the server answered 502: .*bad gateway", 3),
        (HANGING, Unanswered, "no answer within 0.2 s", 3),
        (BROKEN, Unanswered, "no answer: ", 3),
        (error(429, "come back tomorrow", Retry_After="86400"), Unanswered, "429: .*come back tomorrow", 1),
        (error(400, "the prompt is too long"), Refused, "400: .*prompt is too long", 3),
        (error(413, "the prompt is too long"), Refused, "413: .*prompt is too long", 3),
        (error(422, "the prompt is too long"), Refused, "422: .*prompt is too long", 3),
        (error(401), UserError, "/v1 answered 401: the key in TEST_KEY was refused: put a key .* --api_key_env", 1),
        (error(403), UserError, "/v1 answered 403: the key in TEST_KEY was refused", 1),
        (error(404), UserError, "/v1 answered 404: no model 'my-llm' there, .* check --model and --endpoint", 1),
        (error(405), UserError, "/v1 answered 405: check --endpoint", 1),
        (error(402), UserError, "/v1 answered 402: check --endpoint .* it said: .*out of order", 1),
    ],
)
def test_a_fault_is_the_servers_the_questions_or_the_users(
    bad: Answer, fault: type[Exception], reason: str, requests: int
) -> None:
    stub, _ = failing(bad, fault, reason, timeout=0.2 if bad.hang else 5.0)
    assert len(stub.requests) == requests  # the attempt and two retries, or one attempt in each of three forms


def answer_of(body: bytes, **headers: str) -> Answer:
    return Answer(body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (answer_of(b'{"choices": ['), r"not a chat completion \(application/json\): .*JSON"),
        (answer_of(b"<html>log in</html>", Content_Type="text/html"), r"not a chat completion \(text/html\)"),
        (answer_of(b""), "not a chat completion"),
        (answer_of(b"[]"), "not a chat completion"),
        (answer_of(b"\xff\xfe"), "not a chat completion"),
        (answer_of(b'{"choices": []}'), "choices: List should have at least 1 item"),
        (answer_of(b'{"choices": null}'), "choices: "),
        (answer_of(b'{"choices": [{"text": "a completion of another kind"}]}'), "message: Field required"),
        (answer_of(b'{"choices": [{"message": {"content": ["a", "list"]}}]}'), "content"),
        (answer_of(b'{"error": {"message": "no model is loaded"}}'), "choices: Field required"),
    ],
)
def test_anything_but_a_chat_completion_is_not_an_answer(bad: Answer, reason: str) -> None:
    failing(bad, Unanswered, reason)


def test_odd_parts_next_to_the_text_do_no_harm() -> None:
    choices = b'[{"message": {"content": null}, "finish_reason": 7}, {"message": {"content": "a"}}]'
    with serving(answer_of(b'{"choices": ' + choices + b', "usage": "x"}')) as stub:
        assert ask(stub) == Reply([("", None), ("a", None)], (None, None))


def test_a_message_in_parts_is_its_text_without_thoughts_and_references() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "add(9, 9) ?"}]},
        {"type": "text", "text": '{"program": '},
        {"type": "reference", "reference_ids": [1]},
        {"type": "text", "text": '"add(1, 2)"}'},
        {"type": "text"},
    ]
    with serving(Answer([parts, []])) as stub:
        assert ask(stub).completions == [('{"program": "add(1, 2)"}', "stop"), ("", "stop")]


def test_more_than_was_asked_for_is_cut() -> None:
    with serving(Answer(["a", "b", "c"], finish="x" * 100_000)) as stub:
        assert ask(stub).completions == [("a", "x" * 60), ("b", "x" * 60)]


def test_a_huge_or_endless_reply_is_given_up() -> None:
    stub, _ = failing(Answer(["x" * 9_000_000]), Unanswered, "more than 8000000 bytes")
    assert len(stub.requests) == 1
    began = time.monotonic()
    failing(Answer(["slow"], drip=0.02), Unanswered, "not whole within", timeout=0.3)
    assert time.monotonic() - began < 3.0


def test_without_a_key_401_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY")
    failing(error(401), UserError, "no key in TEST_KEY")


@pytest.mark.parametrize("status", [400, 401, 429, 200])
def test_the_key_is_in_no_message(status: int) -> None:
    _, message = failing(error(status, f"wrong key {KEY} " + "x" * 5000), (Refused, UserError, Unanswered))
    assert KEY not in message
    assert len(message) < 700


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
    with serving(lambda request, _: completions(request) if takes(request) else error(400, "no such thing")) as stub:
        endpoint = new_endpoint(stub.url)
        replies = list(endpoint.run((endpoint.ask(MESSAGES, n=3, seed=1) for _ in range(3)), 1))
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
    with serving(lambda request, _: error(400) if request.get("n", 1) > 1 else completions(request)) as stub:
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
    with serving(completions) as stub:
        ask(stub)
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_packed_reply_is_not_unpacked() -> None:
    def packed(answer: Answer) -> Answer:
        return Answer(status=answer.status, headers={"Content-Encoding": "gzip"}, body=gzip.compress(answer.content()))

    huge = "x" * 9_000_000
    stub, _ = failing(packed(Answer([huge])), Unanswered, "compressed as 'gzip', which was not asked for")
    assert stub.headers[0]["accept-encoding"] == "identity"
    assert len(stub.requests) == 1
    _, message = failing(packed(error(400, huge)), Refused)
    assert "xxx" not in message  # only its status is read
    with serving(Answer(["a"], headers={"Content-Encoding": "identity"})) as stub:
        assert ask(stub, n=1).completions == [("a", "stop")]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        *((url, "expected a URL") for url in ("", "127.0.0.1:8000", "ftp://host/v1", "http://", "http://[::1")),
        *((f"http://host:{port}/v1", "expected a URL") for port in ("port", "99999")),
        ("http://me:secret@host/v1", "--api_key_env"),
        ("https://host/v1?key=secret", "--api_key_env"),
        ("https://host/v1#secret", "--api_key_env"),
    ],
)
def test_a_wrong_url_or_one_with_a_secret_is_refused_and_not_repeated(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
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
