"""Lines of a file as records: byte order marks, encodings and unknown keys."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from finrank.errors import UserError
from finrank.records import Candidate, Pool, Question
from finrank.store import load_records, read_records
from finrank.store.json_lines import read_lines, read_value

QUESTION = Question(id="a", page="p", question="why ?", table=[["", "1"]], text=[])
POOL = Pool.of(QUESTION, candidates=[Candidate(program="add(1, 2)", origin="gold"), Candidate(answer=3, origin="gold")])
BOM = codecs.BOM_UTF8


def test_a_byte_order_mark_costs_no_line_at_the_start_and_where_files_were_joined(tmp_path: Path) -> None:
    path, line = tmp_path / "dev.jsonl", QUESTION.model_dump_json().encode() + b"\n"
    path.write_bytes(BOM + line + BOM + line + BOM + b"\n" + BOM)
    assert list(read_records(path, Question)) == [QUESTION, QUESTION]
    assert [read_value(found, "pool")["id"] for found in read_lines(path)] == ["a", "a"]
    path.write_bytes(BOM)
    assert list(read_lines(path)) == []


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_named_with_what_to_do(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_bytes(f"\ufeff{QUESTION.model_dump_json()}".encode(encoding))
    with pytest.raises(UserError, match=r"dev\.jsonl .*UTF-16: save it as UTF-8"):
        list(read_records(path, Question))


def test_unknown_keys_are_left_out_and_said_once_per_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value: dict[str, Any] = json.loads(POOL.model_dump_json())
    value["candidates"][1] |= {"sampler": {"seed": 1}}
    path = tmp_path / "dev.jsonl"
    path.write_text("\n".join(json.dumps(value | {"anwser": 1, "notes": [{"id": 2}]}) for _ in range(3)))
    assert load_records(path, Pool) == [POOL] * 3
    (warned,) = capsys.readouterr().err.splitlines()
    assert str(path) in warned
    assert "unknown keys are ignored: 'anwser', 'notes', 'sampler' (line 1)" in warned
    path.write_text(json.dumps(value | {f"key {number}": 1 for number in range(1000)}))
    assert load_records(path, Pool) == [POOL]
    assert capsys.readouterr().err == "", "the same file"


def test_many_unknown_keys_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_text(json.dumps(json.loads(QUESTION.model_dump_json()) | {f"k{number}": 1 for number in range(1000)}))
    assert load_records(path, Question) == [QUESTION]
    assert "'k3', 'k4' and 995 more (line 1)" in capsys.readouterr().err


def test_code_cannot_name_an_unknown_field() -> None:
    with pytest.raises(ValueError, match="anwser"):
        Question.of(QUESTION, anwser=1)
