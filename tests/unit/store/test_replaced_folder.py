"""Replacing a folder: by one command at a time, never other data, and old or new at every moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finrank.commands.sample_data import sample_data
from finrank.errors import UserError
from finrank.store import replaced_folder, stage_dir, write_json
from tests.conftest import REPOSITORY
from tests.helpers.scripts import run_command
from tests.unit.store.test_stage_dir import QUESTION, writer


def fill(folder: Path, split: str = "train") -> None:
    with writer(folder) as out:
        out.write(split, QUESTION)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_command_on_the_same_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with writer(tmp_path / "out") as out:
        for same in (tmp_path / "out", tmp_path / "." / "out", tmp_path / "link"):
            if same.name == "link":
                same.symlink_to(tmp_path / "out")
            with pytest.raises(UserError, match="another command is writing"), writer(same):
                pass
        out.write("train", QUESTION)
    (tmp_path / "link").unlink()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["manifest.json", "rejects.jsonl", "train.jsonl"]
    fill(tmp_path / "out", "dev")  # the folder is free again
    assert names(tmp_path / "out") == ["dev.jsonl", "manifest.json", "rejects.jsonl"]


@pytest.mark.slow
def test_of_commands_started_together_those_that_end_well_leave_what_their_manifest_lists(tmp_path: Path) -> None:
    sample_data(tmp_path / "raw", train=300, dev=0, test=0)
    arguments = ["--input_dir", "raw", "--output_dir", "out"]
    command = [sys.executable, str(REPOSITORY / "01_prepare_dataset.py"), *arguments]
    started = []
    for seed in range(4):
        started.append(subprocess.Popen([*command, "--seed", str(seed)], cwd=tmp_path, stderr=subprocess.PIPE))
        time.sleep(0.05)
    errors = [process.communicate(timeout=120)[1].decode() for process in started]
    for process, error in zip(started, errors, strict=True):
        assert process.returncode == 0 or "error: another command is writing" in error
    assert any(process.returncode == 0 for process in started)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {name: stage_dir.sha256(tmp_path / "out" / name) for name in manifest["outputs"]} == manifest["outputs"]
    assert names(tmp_path) == ["out", "raw"]


@pytest.mark.parametrize(
    "manifest",
    ["{}", "[]", "no JSON", '{"name": "an extension", "manifest_version": 3}', "[" * 100_000,
     '{"stage": "build", "versions": {"python": "3"}, "outputs": {}}'],
)  # fmt: skip
def test_a_manifest_of_another_program_does_not_make_a_folder_ours(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match="not a stage directory"):
        writer(tmp_path)
    assert names(tmp_path) == ["manifest.json"]


@pytest.mark.parametrize("other", ["thesis.txt", "notes/", ".hidden"])
def test_what_the_manifest_does_not_list_is_never_replaced(tmp_path: Path, other: str) -> None:
    fill(tmp_path / "out")
    path = tmp_path / "out" / other
    if other.endswith("/"):
        path.mkdir()
    else:
        path.write_text("not to be lost")
    with pytest.raises(UserError, match=f"holds {path.name}"):
        writer(tmp_path / "out")
    assert path.exists()


def test_data_that_arrive_while_a_stage_works_are_kept(tmp_path: Path) -> None:
    fill(tmp_path / "out")

    def meanwhile() -> None:
        with writer(tmp_path / "out") as out:
            out.write("dev", QUESTION)
            (tmp_path / "out" / "thesis.txt").write_text("not to be lost")

    with pytest.raises(UserError, match=r"holds thesis\.txt"):
        meanwhile()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["manifest.json", "rejects.jsonl", "thesis.txt", "train.jsonl"]


def test_an_output_that_holds_an_input_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "out" / "deep" / "train.jsonl"
    inside.parent.mkdir(parents=True)
    inside.touch()
    (tmp_path / "link.jsonl").symlink_to(inside)
    for source in (inside, tmp_path / "link.jsonl", tmp_path / "out" / "." / "deep" / "train.jsonl"):
        with pytest.raises(UserError, match=r"is the input folder, or holds it"):
            writer(tmp_path / "out", [source])


KILLED = """
import os, shutil, sys
from pathlib import Path
from finrank.store import replaced_folder
from tests.unit.store.test_stage_dir import QUESTION, writer
moment, exchanges = sys.argv[2], sys.argv[3] == "exchange"
if not exchanges:
    replaced_folder._exchange = lambda first, second: False
def die(*_, **__):
    os.kill(os.getpid(), 9)
rename = Path.rename
if moment == "between":  # the two renames, or after the exchange
    if exchanges:
        shutil.rmtree = lambda path, **_: die() if (Path(path) / "train.jsonl").exists() else None
    else:
        Path.rename = lambda self, to: die() if str(to).endswith("/out") else rename(self, to)
with writer(Path(sys.argv[1])) as out:
    out.write("dev", QUESTION)
    if moment == "before":
        die()
"""


@pytest.mark.parametrize("way", ["exchange", "two renames"])
@pytest.mark.parametrize("moment", ["before", "between"])
def test_a_kill_leaves_the_old_or_the_new_result_and_the_next_run_cleans_up(
    tmp_path: Path, moment: str, way: str
) -> None:
    fill(tmp_path / "out")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "out"), moment, way]
    killed = subprocess.run(command, cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    if way == "exchange":
        now = "dev.jsonl" if moment == "between" else "train.jsonl"
        assert names(tmp_path / "out") == sorted(["manifest.json", "rejects.jsonl", now])
    assert len(names(tmp_path)) > 1  # something is left behind
    with pytest.raises(UserError, match="no"), writer(tmp_path / "out"):
        raise UserError("no")  # a run that fails: what was there before is under its name
    assert names(tmp_path) == ["out"]
    assert {"dev.jsonl", "train.jsonl"} & set(names(tmp_path / "out"))
    fill(tmp_path / "out")
    assert names(tmp_path) == ["out"]


FULL = """
import resource, sys
from finrank.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
main(["prepare", "--input_dir", "raw", "--output_dir", sys.argv[1]])
"""


@pytest.mark.parametrize("before", [False, True])
def test_a_full_disk_is_an_error_line_and_leaves_nothing_half(tmp_path: Path, before: bool) -> None:
    sample_data(tmp_path / "raw", train=100, dev=0, test=0)
    if before:
        fill(tmp_path / "out")
    kept = [path.read_bytes() for path in sorted((tmp_path / "out").glob("*"))]
    run = subprocess.run([sys.executable, "-c", FULL, "out"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    (line,) = (line for line in run.stderr.splitlines() if not line.startswith("train.json"))
    assert line.startswith(f"error: {tmp_path / 'out'} cannot be written: File too large: make room there")
    assert names(tmp_path) == (["out", "raw"] if before else ["raw"])
    assert [path.read_bytes() for path in sorted((tmp_path / "out").glob("*"))] == kept


@pytest.mark.parametrize("output", ["a file", "a file/below", "loop", "loop/below", "/proc/none/out", "x" * 300])
def test_a_folder_that_cannot_be_made_is_an_error_line(tmp_path: Path, output: str) -> None:
    sample_data(tmp_path / "raw", train=20, dev=0, test=0)
    (tmp_path / "a file").write_text("kept")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = names(tmp_path)
    for arguments in (["prepare", "--input_dir", "raw"], ["sample-data"]):
        run = run_command(tmp_path, *arguments, "--output_dir", output)
        assert run.returncode == 2
        assert run.stderr.splitlines()[-1].startswith("error: ")
        assert "Traceback" not in run.stderr
    assert names(tmp_path) == before
    assert (tmp_path / "a file").read_text() == "kept"


def test_a_read_only_folder_is_an_error_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)  # whoever runs the tests may write everywhere
    with pytest.raises(UserError, match=r"out cannot be written: Permission denied"), writer(tmp_path / "out"):
        pass
    assert names(tmp_path) == []


def test_an_input_that_is_not_as_its_manifest_lists_it_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "in")
    source = tmp_path / "in" / "train.jsonl"
    with writer(tmp_path / "out", [source]):
        pass
    assert capsys.readouterr().err == ""
    source.write_bytes(source.read_bytes()[:-20])
    for _ in range(2):
        with writer(tmp_path / "out", [source]):
            pass
    warned = capsys.readouterr().err
    assert warned.count("is not the file that the manifest.json beside it lists") == 1
    assert str(source) in warned


def test_a_lock_whose_file_is_gone_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command opens the lock file just before its owner removes it, and gets the lock just after."""
    path, opened = tmp_path / ".out.lock", []
    honest = replaced_folder.lock

    def just_released(stream, in_use):  # type: ignore[no-untyped-def]
        opened.append(os.fstat(stream.fileno()).st_ino)
        if len(opened) == 1:
            path.unlink()
        return honest(stream, in_use)

    monkeypatch.setattr(replaced_folder, "lock", just_released)
    fill(tmp_path / "out")
    assert len(opened) == 2
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_planted_lock_file_leads_nowhere(tmp_path: Path, kind: str) -> None:
    precious, lock_file = tmp_path / "precious", tmp_path / ".out.lock"
    precious.write_text("mine")
    lock_file.symlink_to(precious) if kind == "link" else os.mkfifo(lock_file)
    with pytest.raises(UserError, match="cannot be written"):
        fill(tmp_path / "out")
    assert precious.read_text() == "mine"


def test_a_planted_partial_file_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "report.json.partial").symlink_to(tmp_path / "precious")
    write_json(tmp_path / "report.json", {"a": 1})
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "report.json").read_text() == '{\n  "a": 1\n}\n'
    assert not (tmp_path / "report.json").is_symlink()
