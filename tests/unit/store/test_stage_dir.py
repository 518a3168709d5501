"""Stage directories: whole or not there, nothing lost, everything accounted for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from finrank.errors import UserError
from finrank.records import Candidate, Pool, Question
from finrank.store import BadLine, StageWriter, available_splits, load_records, read_records, sha256, split_files
from finrank.store.json_lines import LONGEST_LINE

QUESTION = Question(id="a", page="p", question="why ?", table=[["", "1"]], text=[], program="add(1, 2)", answer=3.0)


def writer(directory: Path, inputs: list[Path] | None = None) -> StageWriter[Question]:
    return StageWriter(directory, stage="prepare", arguments={"x": 1}, seed=7, inputs=inputs or [])


def test_a_stage_directory_accounts_for_everything(tmp_path: Path) -> None:
    source = tmp_path / "in" / "train.json"
    source.parent.mkdir()
    source.write_text("[]")
    with writer(tmp_path / "out", [source]) as out:
        out.write("train", QUESTION)
        out.reject("train.json", 3, "b", "no program")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["stage"], manifest["seed"]) == ("prepare", 7)
    assert manifest["counts"] == {"train": 1}
    assert manifest["rejected"] == 1
    assert manifest["inputs"] == {"train.json": sha256(source)}
    assert manifest["outputs"]["train.jsonl"] == sha256(tmp_path / "out" / "train.jsonl")
    (reject,) = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()
    assert json.loads(reject) == {"file": "train.json", "line": 3, "id": "b", "reason": "no program"}
    assert load_records(tmp_path / "out" / "train.jsonl", Question) == [QUESTION]


def test_an_error_leaves_the_earlier_result(tmp_path: Path) -> None:
    with writer(tmp_path / "out") as out:
        out.write("train", QUESTION)
    before = (tmp_path / "out" / "train.jsonl").read_bytes()

    def fail() -> None:
        with writer(tmp_path / "out") as out:
            out.write("dev", QUESTION)
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "train.jsonl").read_bytes() == before


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.store.test_stage_dir import QUESTION, writer
with writer(Path(sys.argv[1])) as out:
    for _ in range(100):
        out.write("train", QUESTION)
    os.kill(os.getpid(), signal.{signal})
"""


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGTERM"])
def test_a_killed_stage_leaves_no_half_directory_and_runs_again(tmp_path: Path, signal: str) -> None:
    code = KILLED.format(signal=signal)
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert killed.returncode < 0
    assert not (tmp_path / "out").exists()
    with writer(tmp_path / "out") as out:
        out.write("train", QUESTION)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing of the killed run is left
    assert len(load_records(tmp_path / "out" / "train.jsonl", Question)) == 1


def test_input_folders_and_folders_that_no_stage_made_are_never_replaced(tmp_path: Path) -> None:
    with writer(tmp_path / "out") as out:
        out.write("train", QUESTION)
    with pytest.raises(UserError, match="is the input folder"):
        writer(tmp_path / "out", [tmp_path / "out" / "train.jsonl"])
    with pytest.raises(UserError, match="not a stage directory"):
        writer(tmp_path)


BAD_LINES = {
    b'{"id": "a", "page": "p"': "record: Invalid JSON",
    b'{"id": "a", "page": "p", "question": "q", "table": [["x"]], "text": [], "answer": NaN}': "answer",
    b'{"id": "a", "page": "p", "question": "q", "table": [["x"]], "text": [], "answer": "12"}': "answer",
    b'{"id": "a", "page": "p", "question": "q", "table": [[1]], "text": []}': "table.0.0: Input should",
    b'{"id": "a", "page": "p", "question": "q", "table": [["x"]], "text": [], "more": 1, "more": 2}': "the key 'more'",
    b'{"id": "a", "page": "p", "question": "\xff", "table": [["x"]], "text": []}': "record: Invalid JSON",
    b"[]": "record: Input should be an object",
    b'{"id": "a", "page": "p", "question": "q", "table": [["x"]], "text": [], "page": "q"}': "the key 'page' occurs",
    b'{"id": "a", "page" : "p", "question": "q", "table": [["x"]], "text": [], "p\\u0061ge": "q"}': "the key 'page'",
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.items())
def test_a_bad_line_is_named_and_the_others_are_read(
    tmp_path: Path, line: bytes, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "train.jsonl"
    good = QUESTION.model_dump_json().encode()
    path.write_bytes(good + b"\n\n" + line + b"\n" + good + b"\n")
    first, bad, last = read_records(path, Question)
    assert first == last == QUESTION
    assert isinstance(bad, BadLine)
    assert (bad.file, bad.line) == (str(path), 3)
    assert reason in bad.reason
    assert load_records(path, Question) == [QUESTION, QUESTION]
    warned = capsys.readouterr().err
    assert "1 of 3 lines" in warned
    assert all(part in warned for part in (f"{path}:3", reason))
    path.write_bytes(line + b"\n" + line)
    with pytest.raises(UserError, match=r"no line .*train\.jsonl:1"):
        load_records(path, Question)


def test_missing_data_names_the_folder_the_steps_and_the_commands(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        available_splits(tmp_path / "finqa_with_rewards")
    facts = (str(tmp_path / "finqa_with_rewards"), "run steps 02 and 03 first", "python 02_gen", "python 03_build")
    assert all(fact in str(raised.value) for fact in facts)


def test_the_files_of_a_stage_by_split_and_a_missing_split_names_those_that_exist(tmp_path: Path) -> None:
    for split in ("dev", "train"):
        (tmp_path / f"{split}.jsonl").touch()
    assert list(split_files(tmp_path)) == ["train", "dev"]
    assert split_files(tmp_path, ["dev"]) == {"dev": tmp_path / "dev.jsonl"}
    with pytest.raises(UserError, match=r"no test\.jsonl; it has: train, dev"):
        split_files(tmp_path, ["test"])


def test_a_record_becomes_wider_and_narrower() -> None:
    candidate = Candidate(program="add(1, 2)", answer=3.0, origin="gold")
    pool = Pool.of(QUESTION, candidates=[candidate])
    assert (pool.candidates, pool.program) == ([candidate], "add(1, 2)")
    assert Question.of(pool) == QUESTION
    assert Pool.of(pool, answer=4.0).answer == 4.0
    with pytest.raises(ValueError, match="candidates"):
        Pool.of(QUESTION, candidates=[])


def test_texts_and_spaces_that_look_like_keys_are_read_and_the_wrong_stage_is_not(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    question = QUESTION.model_copy(update={"question": 'what is "page": in {"id" : 1} ?'})
    spaced = question.model_dump_json().replace('"page":', '"page" :', 1)
    path.write_text(f"{question.model_dump_json()}\n{spaced}\n")
    assert load_records(path, Question) == [question, question]
    with pytest.raises(UserError, match=r"train\.jsonl:1 .*candidates: Field required"):
        load_records(path, Pool)


def test_a_long_line_is_named_by_its_length_and_the_next_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    good = QUESTION.model_dump_json()
    longest = good.replace("why ?", "y" * (LONGEST_LINE - len(good) - 1 + len("why ?")))
    path.write_text(f"{longest}\n{longest}y\n{good}\n{'y' * 3 * LONGEST_LINE}")
    first, long, good_again, last = read_records(path, Question)
    assert isinstance(first, Question)
    assert good_again == QUESTION
    assert isinstance(long, BadLine)
    assert isinstance(last, BadLine)
    assert [(bad.line, bad.id) for bad in (long, last)] == [(2, "a"), (4, None)]
    assert f"{LONGEST_LINE + 1} bytes" in long.reason


def test_long_ids_and_reasons_are_shortened(tmp_path: Path) -> None:
    with writer(tmp_path / "out") as out:
        out.reject("dev.json", None, "i" * 1000 + "\ud800", "r" * 1000)
    row = json.loads((tmp_path / "out" / "rejects.jsonl").read_text(encoding="utf-8"))
    assert row["id"] == "i" * 200 + "... (1001 characters)"
    assert row["reason"] == "r" * 500 + "... (1000 characters)"
