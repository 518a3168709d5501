"""Parquet files and URLs as input and output: the results of local JSON lines, resumed, and never half there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from finrank.commands.candidates import candidates
from finrank.commands.rewards import rewards
from finrank.errors import UserError
from finrank.records import Pool, Question
from finrank.store import BadLine, read_json
from finrank.store.json_lines import Line, encode, read_record
from finrank.store.parquet import write_parquet
from finrank.store.remote import _work_folder, anywhere
from finrank.store.result_files import Block, open_results
from tests.helpers.pools import make_pool

COUNT = 30
_worked_on: list[int] = []  # numbers of the lines that the command below was given
_stop: list[Callable[[], Any]] = []  # what happens after so many lines


@anywhere
def first_candidates(input_path: Path, output_path: Path, *, overwrite: bool = False) -> None:
    """A command as `finrank rank` is one: a line per pool, which keeps one candidate."""

    def work(block: list[Line]) -> Block:
        made = Block([], [], {})
        for line in block:
            _worked_on.append(line.number)
            if _stop and len(_worked_on) > COUNT // 2:
                _stop[0]()
            pool = read_record(line, Pool)
            if isinstance(pool, BadLine):
                made.rejects.append(pool)
            else:
                made.lines.append(encode(Pool.of(pool, candidates=pool.candidates[:1])))
        return made

    if not input_path.is_file():
        raise UserError(f"no such file: {input_path}")
    with open_results(input_path, output_path, "first", {}, overwrite=overwrite) as files:
        if not files.complete:
            files.transform(partial(map, work), "first")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr("finrank.store.result_files._LINES_PER_BLOCK", 4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _worked_on.clear()
    _stop.clear()
    MemoryFileSystem.store.clear()
    yield
    MemoryFileSystem.store.clear()


def pools_in(path: Path, count: int = COUNT) -> Path:
    """Pools as JSON lines, one of which is no pool; as Parquet where the path says so."""
    lines = path.with_suffix(".jsonl")
    lines.write_bytes(b"".join(encode(make_pool(number)) for number in range(count)))
    if path.suffix == ".parquet":
        write_parquet(lines, path)
        lines.unlink()
    return path


def put(path: Path, url: str) -> Path:
    """A file in the memory file system, as a command is given its URL."""
    MemoryFileSystem().put_file(str(path), url)
    return Path(url)


def content(target: Path, folder: Path) -> bytes:
    """The records of an output as JSON lines, wherever and in whatever form it is."""
    url = str(target)
    if url.startswith("memory:"):
        MemoryFileSystem().get_file("memory://" + url.removeprefix("memory:/"), str(folder / "got"))
        got = folder / "got"
    else:
        got = Path(url.removeprefix("file:"))
    if target.suffix != ".parquet":
        return got.read_bytes()
    first_candidates(got.rename(folder / "got.parquet"), folder / "again.jsonl")
    return (folder / "again.jsonl").read_bytes()


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    """What local JSON lines give."""
    (tmp_path / "plain").mkdir()
    first_candidates(pools_in(tmp_path / "plain" / "pools.jsonl"), tmp_path / "plain" / "out.jsonl")
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == [
        "out.jsonl", "out.jsonl.manifest.json", "pools.jsonl",
    ]  # fmt: skip
    _worked_on.clear()
    return (tmp_path / "plain" / "out.jsonl").read_bytes()


@pytest.mark.parametrize("source", ["pools.parquet", "memory://in/pools.parquet", "memory://in/pools.jsonl", "file:"])
@pytest.mark.parametrize(
    "target", ["out.jsonl", "out.parquet", "memory://b/out.jsonl", "memory://b/c/out.parquet", "file:"]
)
def test_the_result_is_that_of_local_json_lines(source: str, target: str, tmp_path: Path, expected: bytes) -> None:
    given = pools_in(tmp_path / Path(source if "pools" in source else "pools.parquet").name)
    given = (
        put(given, source) if source.startswith("memory:") else Path(f"file://{given}") if source == "file:" else given
    )
    if target == "file:":
        target = f"file://{tmp_path}/new/folder/out.parquet"
    elif not target.startswith("memory:"):
        target = str(tmp_path / target)
    first_candidates(given, Path(target))
    assert _worked_on == list(range(1, COUNT + 1))
    assert list(tmp_path.rglob("*.work")) == []
    assert [name for name in MemoryFileSystem.store if "partial" in name] == []
    assert content(Path(target), tmp_path) == expected


def test_a_folder_of_parts_is_one_file(tmp_path: Path, expected: bytes) -> None:
    """As Spark and Ray write it."""
    table = pq.read_table(pools_in(tmp_path / "whole.parquet"))
    parts = tmp_path / "pools.parquet"
    parts.mkdir()
    pq.write_table(table.slice(0, 11), parts / "part-00000-ab.snappy.parquet")
    pq.write_table(table.slice(11), parts / "part-00001-cd.snappy.parquet")
    (parts / "_SUCCESS").touch()
    (parts / "_temporary").mkdir()
    pq.write_table(table, parts / "_temporary" / "part-00000-ef.snappy.parquet")
    first_candidates(parts, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == expected
    for path in parts.glob("part-*"):
        path.unlink()
    with pytest.raises(UserError, match=r"pools\.parquet is a folder without \.parquet files"):
        first_candidates(parts, tmp_path / "other.jsonl")


@pytest.mark.parametrize("target", ["out.parquet", "out.jsonl", "memory://b/out.parquet"])
def test_bad_rows_are_rejected_with_file_and_row(target: str, tmp_path: Path) -> None:
    rows = pq.read_table(pools_in(tmp_path / "pools.parquet")).to_pylist()
    rows[6]["question"], rows[20]["candidates"] = None, []
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pools.parquet")
    source = put(tmp_path / "pools.parquet", "memory://in/pools.parquet")
    where = Path(target if target.startswith("memory:") else tmp_path / target)
    first_candidates(source, where)
    if target.startswith("memory:"):
        rejects = MemoryFileSystem().cat("memory://b/out.rejects.jsonl")
    else:
        rejects = (tmp_path / "out.rejects.jsonl").read_bytes()
    bad = [json.loads(line) for line in rejects.splitlines()]
    assert [(one["file"], one["line"]) for one in bad] == [("memory://in/pools.parquet", row) for row in (7, 21)]
    assert "question" in bad[0]["reason"]


def test_a_full_disk_under_the_working_copies_is_no_fault_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source = put(pools_in(tmp_path / "pools.jsonl"), "memory://in/pools.jsonl")
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(UserError, match=r"no room for a working copy of memory://in/pools\.jsonl: make room"):
        first_candidates(source, tmp_path / "out.jsonl")


def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("target", ["out.parquet", "memory://b/out.jsonl"])
def test_an_interrupted_run_resumes_from_its_working_copies(
    target: str, tmp_path: Path, expected: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    source = put(pools_in(tmp_path / "pools.parquet"), "memory://in/pools.parquet")
    where = Path(target if target.startswith("memory:") else tmp_path / target)
    _stop.append(interrupted)
    with pytest.raises(KeyboardInterrupt):
        first_candidates(source, where)
    work = _work_folder(where)
    assert str(work) in capsys.readouterr().out
    assert [path.name for path in work.iterdir() if path.name != "lock"] == ["output"]
    assert not where.exists()
    assert list(MemoryFileSystem.store) == ["/in/pools.parquet"]
    _stop.clear()
    _worked_on.clear()
    first_candidates(source, where)
    assert _worked_on == list(range(13, COUNT + 1)), "whole blocks of 4 lines are done"
    assert content(where, tmp_path) == expected
    assert not work.exists()


def test_a_killed_run_resumes_as_well(tmp_path: Path, expected: bytes) -> None:
    source, target = pools_in(tmp_path / "pools.parquet"), tmp_path / "out.parquet"
    code = (
        "import os, signal; from pathlib import Path; from tests.unit.store import test_remote as t;"
        "t._stop.append(lambda: os.kill(os.getpid(), signal.SIGKILL));"
        "import finrank.store.result_files as r; r._LINES_PER_BLOCK = 4;"
        f"t.first_candidates(Path({str(source)!r}), Path({str(target)!r}))"
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    first_candidates(source, target)
    assert _worked_on == list(range(13, COUNT + 1))
    assert content(target, tmp_path) == expected


@pytest.mark.parametrize("fails", ["put_file", "mv"])
def test_a_result_that_cannot_be_put_is_kept_and_put_by_the_next_run(
    fails: str, tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pools_in(tmp_path / "pools.parquet"), Path("memory://b/out.parquet")

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError("403 Forbidden")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, fails, denied)
        with pytest.raises(UserError, match=r"memory://b cannot be written: PermissionError: 403 Forbidden") as failed:
            first_candidates(source, target)
    assert str(_work_folder(target) / "output") in str(failed.value)
    assert all(name.endswith(".partial") for name in MemoryFileSystem.store)
    _worked_on.clear()
    first_candidates(source, target)
    assert _worked_on == []
    assert content(target, tmp_path) == expected


@pytest.mark.parametrize("target", ["out.parquet", "memory://b/out.parquet"])
def test_a_result_that_exists_is_replaced_only_when_told(target: str, tmp_path: Path, expected: bytes) -> None:
    where = Path(target if target.startswith("memory:") else tmp_path / target)
    source = pools_in(tmp_path / "pools.jsonl", 3)
    source.write_bytes(b"{}\n" + source.read_bytes())
    first_candidates(source, where)
    # With the results of a bad line, which the next ones do not have.
    rejects = [*map(str, tmp_path.glob("*.rejects.jsonl")), *(x for x in MemoryFileSystem.store if "rejects" in x)]
    assert len(rejects) == 1
    pools_in(tmp_path / "pools.jsonl")
    _worked_on.clear()
    with pytest.raises(UserError, match=r"out\.parquet exists: .*--overwrite"):
        first_candidates(source, where)
    assert _worked_on == []
    assert not _work_folder(where).exists()
    first_candidates(source, where, overwrite=True)
    assert content(where, tmp_path) == expected
    assert not list(tmp_path.glob("*.rejects.jsonl"))
    assert not any("rejects" in name for name in MemoryFileSystem.store)


def test_a_local_output_in_json_lines_grows_in_its_place(tmp_path: Path, expected: bytes) -> None:
    source, target = pools_in(tmp_path / "pools.parquet"), tmp_path / "out.jsonl"
    _stop.append(interrupted)
    with pytest.raises(KeyboardInterrupt):
        first_candidates(source, target)
    assert expected.startswith(target.read_bytes())
    assert not list(tmp_path.glob("*.work"))
    _stop.clear()
    first_candidates(source, target)
    assert target.read_bytes() == expected
    _worked_on.clear()
    first_candidates(source, target)
    assert _worked_on == [], "it is complete"


def test_only_one_command_works_on_an_output(tmp_path: Path) -> None:
    source, target = pools_in(tmp_path / "pools.jsonl"), tmp_path / "out.parquet"

    def second() -> None:
        _stop.clear()
        with pytest.raises(UserError, match=r"another command is writing .*out\.parquet"):
            first_candidates(source, target)

    _stop.append(second)
    first_candidates(source, target)
    assert target.is_file()


WRONG = {
    "nosuch://bucket/pools.jsonl": r"nosuch://bucket/pools\.jsonl cannot be read: .*nosuch.*pip install",
    "s3://bucket/pools.parquet": r"s3://bucket/pools\.parquet cannot be read: .*s3fs",
    "memory://in/none.jsonl": r"memory://in/none\.jsonl cannot be read: no such file",
    "none.parquet": r"none\.parquet cannot be read: no such file",
}


@pytest.mark.parametrize("source", WRONG)
def test_a_source_that_cannot_be_read_is_one_error(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    where = Path(source if "://" in source else tmp_path / source)
    with pytest.raises(UserError, match=WRONG[source]):
        first_candidates(where, tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_denied_and_unknown_places_are_errors_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = put(pools_in(tmp_path / "pools.jsonl"), "memory://in/pools.jsonl")
    with pytest.raises(UserError, match=r"nosuch://b/out\.jsonl cannot be written: .*nosuch"):
        first_candidates(source, Path("nosuch://b/out.jsonl"))
    with pytest.raises(UserError, match="would replace the input"):
        first_candidates(source, source, overwrite=True)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"finrank\[parquet\]"):
        first_candidates(source, tmp_path / "out.parquet")
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *_, **__: (_ for _ in ()).throw(PermissionError("denied")))
    with pytest.raises(UserError, match=r"memory://in/pools\.jsonl cannot be read: PermissionError: denied"):
        first_candidates(source, tmp_path / "out.jsonl")
    assert _worked_on == []


def questions_in(folder: Path) -> Path:
    """Questions of two splits as JSON lines."""
    folder.mkdir()
    for split, numbers in {"train": range(20), "dev": range(20, 28)}.items():
        lines = [encode(Question.of(make_pool(number))) for number in numbers]
        (folder / f"{split}.jsonl").write_bytes(b"".join(lines))
    return folder


def test_stages_read_and_write_folders_anywhere(tmp_path: Path) -> None:
    local = questions_in(tmp_path / "questions")
    candidates(local, tmp_path / "pools")
    rewards(tmp_path / "pools", tmp_path / "rewarded")
    write_parquet(local / "train.jsonl", tmp_path / "train.parquet")
    put(tmp_path / "train.parquet", "memory://in/q/train.parquet")
    put(local / "dev.jsonl", "memory://in/q/dev.jsonl")
    candidates(Path("memory://in/q"), Path("memory://out/pools"))
    rewards(Path("memory://out/pools"), Path("memory://out/rewarded"))
    memory = MemoryFileSystem()
    for folder in ("pools", "rewarded"):
        for name in ("train.jsonl", "dev.jsonl", "rejects.jsonl"):
            assert memory.cat(f"memory://out/{folder}/{name}") == (tmp_path / folder / name).read_bytes()
    manifest = json.loads(memory.cat("memory://out/pools/manifest.json"))
    assert manifest["arguments"]["input_dir"] == "memory://in/q"
    assert manifest["arguments"]["output_dir"] == "memory://out/pools"
    assert manifest["outputs"] == read_json(tmp_path / "pools" / "manifest.json")["outputs"]
    assert not list((tmp_path / "cache" / "finrank").iterdir())
    # A later result replaces it whole, the split that it lacks included.
    memory.rm_file("memory://in/q/dev.jsonl")
    candidates(Path("memory://in/q"), Path("memory://out/pools"))
    assert not memory.exists("memory://out/pools/dev.jsonl")


def test_a_local_folder_may_have_splits_in_parquet(tmp_path: Path) -> None:
    local = questions_in(tmp_path / "questions")
    candidates(local, tmp_path / "pools")
    rows = [json.loads(line) for line in (local / "dev.jsonl").read_bytes().splitlines()]
    rows[2]["question"] = ""
    (local / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_parquet(local / "dev.jsonl", local / "dev.parquet")
    (local / "dev.jsonl").unlink()
    candidates(local, tmp_path / "again")
    trains = [(tmp_path / folder / "train.jsonl").read_bytes() for folder in ("pools", "again")]
    assert trains[0] == trains[1]
    assert len((tmp_path / "again" / "dev.jsonl").read_bytes().splitlines()) == 7
    (reject,) = (json.loads(line) for line in (tmp_path / "again" / "rejects.jsonl").read_bytes().splitlines())
    assert (reject["file"], reject["line"]) == ("dev.parquet", 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "pools", "questions"]


def test_folders_that_are_no_stage_are_refused(tmp_path: Path) -> None:
    local = questions_in(tmp_path / "questions")
    put(local / "dev.jsonl", "memory://out/notes.jsonl")
    with pytest.raises(UserError, match=r"memory://out exists but is not a stage directory"):
        candidates(local, Path("memory://out"))
    with pytest.raises(UserError, match=r"no split in memory://out: expected train\.jsonl, dev\.parquet"):
        candidates(Path("memory://out"), tmp_path / "pools")
    assert list(MemoryFileSystem.store) == ["/out/notes.jsonl"]
