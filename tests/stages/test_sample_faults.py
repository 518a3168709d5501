"""Sampling from a server that misbehaves: a dead one makes no rejects, one bad question does not stop the others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from finrank.store import UserError
from tests.sources.stub_endpoint import Answer, error, serving
from tests.stages.sampling import (
    KEY,
    asked_id,
    contents,
    good,
    pools,
    question,
    rejects,
    run,
    shorten_waits,
    write,
    write_data,
)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.mark.parametrize(("given", "requests"), [(1, 4), (3, 2)])
def test_a_server_that_gives_fewer_is_asked_for_the_rest_with_other_seeds(
    tmp_path: Path, data: Path, given: int, requests: int
) -> None:
    with serving(lambda request, number: good({**request, "n": min(given, request["n"])}, number)) as stub:
        run(data, tmp_path / "out", stub, 4, splits=["dev"], limit=1)
    assert [request["n"] for request in stub.requests] == [4 - given * number for number in range(requests)]
    assert len({request["seed"] for request in stub.requests}) == requests
    (pool,) = pools(tmp_path / "out").values()
    assert len(pool.candidates) == len({one.program for one in pool.candidates}) == 4


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (error(400, "the context is too long"), "the server refused it with 400: .*too long"),
        (error(500), "the server answered 500"),
        (Answer(body=b"{"), "no chat completion"),
        (Answer([]), "choices: List should have at least 1 item"),
        (Answer(["", None, "?"], finish="content_filter"), "no candidate: none of its completions could be read"),
    ],
    ids=["400", "500", "broken JSON", "no choices", "filtered"],
)
def test_one_bad_question_is_left_out_and_the_others_are_not(
    tmp_path: Path, data: Path, bad: Answer, reason: str
) -> None:
    with serving(lambda request, number: bad if asked_id(request) == "d1" else good(request, number)) as stub:
        run(data, tmp_path / "out", stub, splits=["dev"], concurrency=1)
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


def test_a_dead_server_stops_the_run_and_makes_no_rejects(tmp_path: Path, data: Path) -> None:
    write(data / "dev.jsonl", [question(f"d{number}") for number in range(60)])
    with serving(lambda request, number: good(request, number) if number < 10 else error(503, "gone")) as stub:
        with pytest.raises(UserError, match=r"no answer 5 times in a row, .*503.*gone.*The same command goes on"):
            run(data, tmp_path / "out", stub)
        assert len(stub.requests) < 40
        assert not (tmp_path / "out").exists()
        stub.behave = good
        before = len(stub.requests)
        run(data, tmp_path / "out", stub)
        assert len(stub.requests) - before == 62 - 10
        assert len(pools(tmp_path / "out")) == 60


def test_a_server_that_dies_at_the_last_question_makes_no_reject_either(tmp_path: Path, data: Path) -> None:
    with serving(lambda request, number: good(request, number) if number < 6 else error(503)) as stub:
        for _ in range(2):
            with pytest.raises(UserError, match="no answer 2 times in a row"):
                run(data, tmp_path / "out", stub, concurrency=1)
        stub.behave = good
        run(data, tmp_path / "out", stub)
    assert len(pools(tmp_path / "out")) == 5


def test_with_max_failures_0_the_run_goes_on(tmp_path: Path, data: Path) -> None:
    with serving(lambda request, number: good(request, number) if number < 1 else error(503)) as stub:
        run(data, tmp_path / "out", stub, max_failures=0, splits=["dev"], concurrency=1)
    assert list(pools(tmp_path / "out")) == ["d0"]
    assert len(rejects(tmp_path / "out")) == 4


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_fault_of_the_user_ends_the_run_at_once(tmp_path: Path, data: Path, status: int) -> None:
    with serving(lambda request, number: error(status, KEY)) as stub:
        with pytest.raises(UserError, match=f"answered {status}") as raised:
            run(data, tmp_path / "out", stub, concurrency=1)
        assert len(stub.requests) == 1
    assert KEY not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_server_that_refuses_everything_ends_the_run(tmp_path: Path, data: Path) -> None:
    write(data / "dev.jsonl", [question(f"d{number}") for number in range(60)])
    with serving(lambda request, number: error(400, "temperature is not for this model")) as stub:
        with pytest.raises(UserError, match=r"all of the first 10 questions were refused: .*temperature is not"):
            run(data, tmp_path / "out", stub)
        assert len(stub.requests) < 60
    with (
        serving(lambda request, number: error(400, "no")) as stub,
        pytest.raises(UserError, match=r"no pool could be .*no"),
    ):
        run(data, tmp_path / "out", stub, splits=["train"])
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_key_is_in_no_file_and_in_no_output(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(
        lambda request, number: error(400, KEY) if asked_id(request) == "d1" else good(request, number)
    ) as stub:
        run(data, tmp_path / "out", stub)
        assert stub.headers[0]["authorization"] == f"Bearer {KEY}"
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"***" in written
    assert KEY.encode() not in written
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err


# A run of its own process, so that it can be killed.
