"""Sampling from a server that misbehaves: a dead one makes no rejects, one bad question does not stop the others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from finrank.errors import UserError
from tests.helpers.endpoint_stub import Answer, Behaviour, error, serving
from tests.helpers.sampling import KEY, asked_id, contents, good, pools, question, rejects, run, write


def failing(bad: set[str], answer: Answer) -> Behaviour:
    """A server with this answer to some questions, and good ones to all others."""
    return lambda request, number: answer if asked_id(request) in bad else good(request, number)


def failing_after(count: int, answer: Answer) -> Behaviour:
    """A server with so many good answers, and only this one from then on."""
    return lambda request, number: good(request, number) if number < count else answer


@pytest.mark.parametrize(("given", "requests"), [(1, 4), (3, 2)])
def test_a_server_that_sends_fewer_is_asked_for_the_rest_with_other_seeds(
    tmp_path: Path, data: Path, given: int, requests: int
) -> None:
    with serving(lambda request, number: good({**request, "n": min(given, request["n"])}, number)) as stub:
        run(data, tmp_path / "out", stub, 4, split=["dev"], limit=1)
    assert [request["n"] for request in stub.requests] == [4 - given * number for number in range(requests)]
    assert len({request["seed"] for request in stub.requests}) == requests
    (pool,) = pools(tmp_path / "out").values()
    assert len(pool.candidates) == len({one.program for one in pool.candidates}) == 4


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (error(400, "the context is too long"), "the server refused it with 400: .*too long"),
        (error(500), "the server answered 500"),
        (Answer(body=b"{"), "not a chat completion"),
        (Answer([]), "choices: List should have at least 1 item"),
        (Answer(["", None, "?"], finish="content_filter"), "no candidate: none of its completions could be read"),
        (error(403, "moderated"), "refused it with 403: .*moderated"),
    ],
    ids=["400", "500", "broken JSON", "no choices", "filtered", "403"],
)
def test_one_bad_question_is_left_out_and_the_others_are_not(
    tmp_path: Path, data: Path, bad: Answer, reason: str
) -> None:
    with serving(failing({"d1"}, bad)) as stub:
        run(data, tmp_path / "out", stub, split=["dev"], concurrency=1)
    assert list(pools(tmp_path / "out")) == ["d0", "d2", "d3", "d4"]
    last = rejects(tmp_path / "out")[-1]
    assert last[:3] == ("dev.jsonl", 2, "d1")
    assert re.search(reason, last[3])


def test_a_server_that_was_away_for_a_moment_loses_no_question(tmp_path: Path, data: Path) -> None:
    with serving(lambda request, number: error(503) if 2 <= number < 8 else good(request, number)) as stub:
        run(data, tmp_path / "out", stub, concurrency=1)
    with serving(good) as stub:
        run(data, tmp_path / "whole", stub)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("concurrency", [1, 3])
def test_too_many_failures_in_a_row_stop_the_run_and_0_leaves_them_out(
    tmp_path: Path, data: Path, concurrency: int
) -> None:
    write(data / "dev.jsonl", [question(f"d{number}") for number in range(20)])
    bad = {f"d{number}" for number in range(4, 11)}
    with serving(failing(bad, error(500))) as stub:
        for _ in range(2):
            with pytest.raises(UserError, match=r"no answer 3 times in a row.*--max_failures 0"):
                run(data, tmp_path / "out", stub, concurrency=concurrency, max_failures=3)
        run(data, tmp_path / "out", stub, concurrency=concurrency, max_failures=0)
    assert set(pools(tmp_path / "out")) == {f"d{number}" for number in range(20)} - bad
    assert {row[2] for row in rejects(tmp_path / "out")} == bad


@pytest.mark.parametrize(
    ("behave", "max_failures", "reason"),
    [
        (failing_after(3, error(503, "gone")), 5, "no answer 5 times in a row, .*503.*gone.*The same command resumes"),
        (failing_after(3, error(403, "blocked")), 3, "no answer 3 times in a row, .*403: .*blocked"),
        (failing({"t0", "d4"}, error(503)), 2, "no answer 2 times in a row"),  # while they are asked again
    ],
    ids=["dead", "forbidding", "dies later"],
)
def test_a_server_that_fails_for_good_stops_the_run_and_makes_no_rejects(
    tmp_path: Path, data: Path, behave: Behaviour, max_failures: int, reason: str
) -> None:
    write(data / "dev.jsonl", [question(f"d{number}") for number in range(20)])
    with serving(behave) as stub:
        for _ in range(2):
            with pytest.raises(UserError, match=reason):
                run(data, tmp_path / "out", stub, concurrency=1, max_failures=max_failures)
        assert not (tmp_path / "out").exists()
        stub.behave = good
        run(data, tmp_path / "out", stub)
        assert len(stub.requests) < 60
    assert len(pools(tmp_path / "out")) == 20
    assert rejects(tmp_path / "out") == []


def test_fewer_failures_than_max_failures_are_left_out(tmp_path: Path, data: Path) -> None:
    with serving(failing({"d1", "d3"}, error(500))) as stub:
        run(data, tmp_path / "out", stub, concurrency=1)
    asked = [asked_id(request) for request in stub.requests]
    assert [row[2] for row in rejects(tmp_path / "out")] == ["d1", "d3"]
    assert asked[-5:] == ["d4", "d1", "d1", "d3", "d3"]  # once more after all others, each with its retry


def test_a_forbidden_question_is_left_out_when_a_stopped_run_resumes(tmp_path: Path, data: Path) -> None:
    with serving(failing_after(3, error(401))) as stub:
        with pytest.raises(UserError, match="401"):
            run(data, tmp_path / "out", stub, concurrency=1)
        stub.behave = failing({"d1"}, error(403))
        run(data, tmp_path / "out", stub, concurrency=1)
    assert [row[2] for row in rejects(tmp_path / "out")] == ["d1"]


def test_an_endless_completion_is_cut_before_it_is_kept(tmp_path: Path, data: Path) -> None:
    with serving(Answer(["x" * 2_000_000])) as stub:
        with pytest.raises(UserError, match="no pool could be made"):
            run(data, tmp_path / "out", stub, 1, split=["train"], limit=1)
        assert 100_000 < (tmp_path / "out.journal.jsonl").stat().st_size < 110_000
        stub.behave = good
        run(data, tmp_path / "out", stub, 1, split=["train"])
    assert "a text of 100001 characters" in rejects(tmp_path / "out")[0][3]


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_fault_of_the_user_ends_the_run_at_once(tmp_path: Path, data: Path, status: int) -> None:
    with serving(error(status, KEY)) as stub:
        with pytest.raises(UserError, match=f"answered {status}") as raised:
            run(data, tmp_path / "out", stub, concurrency=1)
        assert len(stub.requests) == 1
    assert KEY not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_server_that_refuses_everything_ends_the_run(tmp_path: Path, data: Path) -> None:
    write(data / "dev.jsonl", [question(f"d{number}") for number in range(60)])
    with serving(error(400, "temperature is not for this model")) as stub:
        with pytest.raises(UserError, match=r"all of the first 10 questions were refused: .*temperature is not"):
            run(data, tmp_path / "out", stub)
        assert len(stub.requests) < 60
        with pytest.raises(UserError, match=r"no pool could be .*temperature is not"):
            run(data, tmp_path / "out", stub, split=["train"])
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_key_is_in_no_file_and_in_no_output(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(failing({"d1"}, error(400, KEY))) as stub:
        run(data, tmp_path / "out", stub)
        assert stub.headers[0]["authorization"] == f"Bearer {KEY}"
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"***" in written
    assert KEY.encode() not in written
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err
