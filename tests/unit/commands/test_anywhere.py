"""Parquet files and URLs on the command line: which commands take them, and what `finrank rank` makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from finrank.cli import main
from finrank.commands.rank import rank
from finrank.errors import UserError
from finrank.records import Question
from finrank.store.json_lines import encode
from finrank.store.parquet import write_parquet
from tests.helpers.endpoint_stub import Answer, serving
from tests.helpers.pools import make_pool
from tests.helpers.sampling import contents, good, write_data
from tests.helpers.sampling import run as run_sample
from tests.helpers.saved_ranker import save_tiny_ranker

FILES = ("--input", "memory://in/none.parquet", "--output", "memory://out/file.parquet")
FOLDERS = ("--input_dir", "memory://in/none", "--output_dir", "memory://out/folder")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    MemoryFileSystem.store.clear()


def run(*arguments: str) -> int | str | None:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


@pytest.mark.parametrize(
    "command",
    [
        ("rank", "--model", "finqa-minilm", *FILES),
        ("solve", *FILES),
        ("propose", *FILES),
        ("candidates", *FOLDERS),
        ("rewards", *FOLDERS),
        ("sample", "--model", "my-llm", *FOLDERS),
    ],
    ids=lambda command: command[0],
)
def test_commands_that_take_urls_name_one_that_is_not_there(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*command) == 2
    assert "memory://in/none" in capsys.readouterr().err
    assert MemoryFileSystem.store == {}


def test_ranking_by_url_gives_the_answers_of_local_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(save_tiny_ranker(tmp_path / "model"))
    pools = tmp_path / "pools.jsonl"
    pools.write_bytes(b"".join(encode(make_pool(number)) for number in range(5)) + encode(Question.of(make_pool(5))))
    rank(model, pools, tmp_path / "ranked.jsonl")
    write_parquet(pools, tmp_path / "pools.parquet")
    target = "memory://bucket/ranked.parquet"
    assert run("rank", "--model", model, "--input", f"file://{tmp_path}/pools.parquet", "--output", target) == 0
    shown = capsys.readouterr()
    assert f"{target}: 5 ranked" in shown.out
    assert f"{target}: written" in shown.out
    assert "see memory://bucket/ranked.rejects.jsonl" in shown.err
    assert MemoryFileSystem().exists("memory://bucket/ranked.rejects.jsonl")
    with MemoryFileSystem().open(target) as stream:
        rows = pq.read_table(stream).to_pylist()
    lines = [json.loads(line) for line in (tmp_path / "ranked.jsonl").read_bytes().splitlines()]
    assert [row["id"] for row in rows] == [line["id"] for line in lines]
    assert [[one["answer"] for one in row["answers"]] for row in rows] == [
        [one["answer"] for one in line["answers"]] for line in lines
    ]
    assert run("rank", "--model", model, "--input", str(pools), "--output", target) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_sampling_to_a_url_asks_for_nothing_twice(tmp_path: Path) -> None:
    data, target = write_data(tmp_path / "data"), Path("memory://bucket/sampled")
    with serving(good) as stub:
        run_sample(data, tmp_path / "local", stub)
    with serving(lambda request, number: good(request, number) if number < 4 else Answer(status=401)) as stub:
        with pytest.raises(UserError):
            run_sample(data, target, stub, concurrency=1)
        assert MemoryFileSystem.store == {}
        stub.behave = good
        asked = len(stub.requests)
        run_sample(data, target, stub, concurrency=1)
        assert len(stub.requests) == asked + 3
        with pytest.raises(UserError, match=r"memory://bucket/sampled exists: .*--overwrite"):
            run_sample(data, target, stub)
        assert len(stub.requests) == asked + 3
    written = {name: MemoryFileSystem().cat(f"memory://bucket/sampled/{name}") for name in contents(tmp_path / "local")}
    assert written == contents(tmp_path / "local")
