"""The journal: nothing is asked for twice, and nothing of other settings is mixed in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finrank.errors import UserError
from tests.helpers.endpoint_stub import Answer, Stub, error, serving
from tests.helpers.sampling import asked_id, good, pools, question, run, write


def test_a_question_that_was_answered_in_part_is_asked_for_the_rest_only(tmp_path: Path, data: Path) -> None:
    with serving(lambda request, number: good({**request, "n": 2}, number) if number == 0 else error(503)) as stub:
        with pytest.raises(UserError, match="in a row"):
            run(data, tmp_path / "out", stub, concurrency=1, max_failures=1)
        stub.behave = good
        before = len(stub.requests)
        run(data, tmp_path / "out", stub, concurrency=1)
        assert [request["n"] for request in stub.requests[before:]] == [1, 3, 3, 3, 3, 3, 3]


def stopped(data: Path, out: Path, stub: Stub, **options: Any) -> Path:
    """Let the server end a run after two answers, and return its journal."""
    stub.behave = lambda request, number: good(request, number) if number < 2 else error(401)
    with pytest.raises(UserError, match="401"):
        run(data, out, stub, concurrency=1, **options)
    stub.behave = good
    return out.with_name(f"{out.name}.journal.jsonl")


def test_other_settings_are_refused_with_what_differs(tmp_path: Path, data: Path) -> None:
    with serving(good) as stub:
        journal = stopped(data, tmp_path / "out", stub)
        kept = journal.read_bytes()
        with pytest.raises(UserError, match=r"other settings: num_candidates: 3, now 5; temperature: 1.0, now 0.5;"):
            run(data, tmp_path / "out", stub, 5, temperature=0.5)
        assert (journal.read_bytes(), len(stub.requests)) == (kept, 3)
        run(data, tmp_path / "out", stub, 5, temperature=0.5, overwrite=True)
        assert {len(pool.candidates) for pool in pools(tmp_path / "out").values()} == {5}


def test_an_empty_journal_holds_no_settings(tmp_path: Path, data: Path) -> None:
    with serving(error(401)) as stub:
        with pytest.raises(UserError, match="401"):
            run(data, tmp_path / "out", stub)
        (tmp_path / "out.journal.jsonl").write_text('{"journal": "finrank sample", "settings": {}}\n')
        stub.behave = good
        run(data, tmp_path / "out", stub, 5)


def test_questions_that_changed_are_asked_again(tmp_path: Path, data: Path) -> None:
    with serving(good) as stub:
        stopped(data, tmp_path / "x", stub, split=["dev"])
        write(data / "dev.jsonl", [question("d0"), question("d1", text=["changed ."])])
        before = len(stub.requests)
        run(data, tmp_path / "x", stub, split=["dev"])
        assert [asked_id(request) for request in stub.requests[before:]] == ["d1"]


@pytest.mark.parametrize(
    "damage", [b"no JSON\n", b'{"key": 7}\n', b"[]\n", b'{"key": "a", "completions": [], "tokens": [1]}\n']
)
def test_a_damaged_journal_is_not_resumed(tmp_path: Path, data: Path, damage: bytes) -> None:
    with serving(good) as stub:
        journal = stopped(data, tmp_path / "out", stub)
        with journal.open("ab") as file:
            file.write(damage)
        with pytest.raises(UserError, match=r"journal\.jsonl:4 is damaged .*--overwrite"):
            run(data, tmp_path / "out", stub)
        run(data, tmp_path / "out", stub, overwrite=True)


def test_two_runs_at_once_are_refused(tmp_path: Path, data: Path) -> None:
    def second(request: dict[str, Any], number: int) -> Answer:
        with pytest.raises(UserError, match="another finrank sample is writing"):
            run(data, tmp_path / "out", stub)
        tried.append(number)
        return good(request, number)

    tried: list[int] = []
    with serving(second) as stub:
        run(data, tmp_path / "out", stub, split=["dev"], limit=1)
    assert tried == [0]


def test_a_finished_result_is_kept_without_overwrite(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(good) as stub:
        first = run(data, tmp_path / "out", stub, limit=1)
        assert run(data, tmp_path / "out", stub, limit=1, concurrency=2) == first
        assert "nothing to do" in capsys.readouterr().out
        with pytest.raises(UserError, match=r"other settings: limit: 1, now None; .*--overwrite"):
            run(data, tmp_path / "out", stub)
        write(data / "dev.jsonl", [question("d0", answer=95.0)])
        with pytest.raises(UserError, match="other settings: input: "):
            run(data, tmp_path / "out", stub, limit=1)
        assert len(stub.requests) == 2
        run(data, tmp_path / "out", stub, overwrite=True)
        assert len(stub.requests) == 2 + 3
