"""Records as Parquet: what comes back is what was written, and the natural files of others are read."""

from __future__ import annotations

import datetime
import io
import json
import sys
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finrank.errors import UserError
from finrank.ranker.choosing.answers import RankedAnswer, Ranking
from finrank.ranker.requests import read_line, read_pool
from finrank.records import Answer, Candidate, Pool, Question, Record, RewardedPool
from finrank.store import BadLine
from finrank.store.json_lines import Line, encode, read_record
from finrank.store.parquet import columns, parquet_lines, write_parquet

ANSWERS: list[Answer | None] = ["yes", -0.02139, None, 1e-300, "no", -0.0, 12345678901234.5]
CANDIDATES = [
    Candidate(origin="gold", program="add(1, 2)", answer=3.0),
    Candidate(origin="imported", program=None, answer="yes", stated="Yes.", model="my-llm", log_probability=-0.2),
    Candidate(origin="corrupted", program="divide(1, 0)", error="division by zero", edits=["operand", "order"]),
    Candidate(origin="sampled", answer=0.1 + 0.2, stated="30 %"),
]


def question(number: int, answer: Answer | None) -> Question:
    table = [["", "2009"], ["Umsätze — “net”\n", "$ 5829"], []] if number % 2 else []
    program = None if answer is None else "add(1, 2)"
    text = ["a sentence .", ""] * (number % 3)
    return Question(
        id=f"q{number}", page="p", question="what ?", table=table, text=text, program=program, answer=answer
    )


QUESTIONS = [question(number, answer) for number, answer in enumerate(ANSWERS)]
POOLS = [Pool.of(one, candidates=CANDIDATES[: 1 + number % 4]) for number, one in enumerate(QUESTIONS)]
PARTS = {"execution": 1.0, "closeness": 0.123457, "operations": 0.0}
REWARDED = [
    RewardedPool.of(
        pool,
        rewards=[0.25] * len(pool.candidates),
        components=[PARTS] * len(pool.candidates),
        correct=[0] * (number % 2),
    )
    for number, pool in enumerate(POOLS)
]


def round_trip(lines: Sequence[bytes], folder: Path) -> tuple[list[bytes], pa.Table]:
    """Lines as Parquet and back, and the file as others see it."""
    (folder / "lines.jsonl").write_bytes(b"".join(lines))
    write_parquet(folder / "lines.jsonl", folder / "lines.parquet")
    with (folder / "lines.parquet").open("rb") as stream:
        return list(parquet_lines(stream, "lines.parquet")), pq.read_table(folder / "lines.parquet")


def read_back(rows: Mapping[str, Any], schema: pa.Schema | None = None) -> list[bytes]:
    """The lines that are read of a file that another program has written."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(rows), schema=schema), buffer)
    return list(parquet_lines(buffer, "pools.parquet"))


@pytest.mark.parametrize("records", [QUESTIONS, POOLS, REWARDED], ids=["questions", "pools", "rewarded"])
def test_records_come_back_as_they_were(records: Sequence[Record], tmp_path: Path) -> None:
    written = [encode(record) for record in records]
    lines, table = round_trip(written, tmp_path)
    back = [read_record(Line("f", number, line, len(line)), type(records[0])) for number, line in enumerate(lines)]
    assert back == list(records)
    assert [encode(record) for record in back if isinstance(record, Record)] == written
    assert set(table.column_names) == {*type(records[0]).model_fields, "yes_no"}
    assert table.column("answer").to_pylist() == [one if isinstance(one, float) else None for one in ANSWERS]
    assert table.column("yes_no").to_pylist() == [one if isinstance(one, str) else None for one in ANSWERS]


def test_ranked_and_solved_lines_come_back_as_they_were(tmp_path: Path) -> None:
    answers = [
        RankedAnswer("yes", 0.7, 1.5, 0, [0, 2], ["greater(2, 1)"], models=["a", "b"]),
        RankedAnswer(94.0, 0.3, -0.25, 1, [1], []),
        RankedAnswer(None, 0.0, None, 3, [3], ["divide(1, 0)"], error="division by zero"),
    ]
    ranking = Ranking(answers, abstain=True).as_json()
    ranked = [{"id": "a", **ranking}, {"id": "b", **Ranking(answers[1:2]).as_json()}]
    solved = [
        {"id": "a", "program": "add(1, 2)", "answer": answer, "probability": 0.5, **ranking} for answer in (3.0, "no")
    ]
    for rows in (ranked, solved):
        lines, table = round_trip([json.dumps(row).encode() + b"\n" for row in rows], tmp_path)
        assert [json.loads(line) for line in lines] == rows
        assert [list(json.loads(line)["answers"][0]) for line in lines] == [list(row["answers"][0]) for row in rows]
    assert table.column_names[:4] == ["id", "program", "answer", "yes_no"]


def test_every_field_has_a_column() -> None:
    """A new field of a record needs one: without it the field would be lost."""
    types = columns()

    def names_in(column: str) -> set[str]:
        return {field.name for field in types[column].value_type}

    assert {*RewardedPool.model_fields, "yes_no"} <= set(types)
    assert {*Candidate.model_fields, "yes_no"} == names_in("candidates")
    assert {*(field.name for field in fields(RankedAnswer)), "yes_no"} == names_in("answers")


def test_the_types_are_those_that_users_expect() -> None:
    types = {name: str(kind) for name, kind in columns().items()}
    assert types["answer"] == types["probability"] == "double"
    assert types["id"] == types["yes_no"] == "string"
    assert types["table"].startswith("list<")
    assert types["table"].count("list<") == 2


def test_an_empty_file_has_all_columns_and_no_row(tmp_path: Path) -> None:
    lines, table = round_trip([], tmp_path)
    assert lines == []
    assert table.column_names == list(columns())


def test_half_a_surrogate_pair_costs_one_character(tmp_path: Path) -> None:
    lines, _ = round_trip([b'{"id": "a\\ud800", "question": "what ?"}\n'], tmp_path)
    assert json.loads(lines[0]) == {"id": "a?", "question": "what ?"}


def test_natural_files_of_others_are_read() -> None:
    rows = {
        "id": [17, 18, None],
        "question": ["what is the change ?"] * 3,
        "table": [[["", "2009"], ["revenue", "94"]], None, [["", None]]],
        "text": [["a .", "b ."], None, []],
        "candidates": [["subtract(5829, 5735)", "94.0"], ["yes"], ["1"]],
        "year": [datetime.date(2009, 1, 1)] * 3,
        "amount": [Decimal("1.50")] * 3,
        "raw": [b"bytes"] * 3,
    }
    lines = read_back(rows)
    assert json.loads(lines[0])["amount"] == 1.5
    read = [read_line(Line("f", number, line, len(line)), read_pool) for number, line in enumerate(lines, 1)]
    assert not any(isinstance(one, BadLine) for one in read), read
    (_, (first, candidates)), (_, (second, yes)), third = read  # type: ignore[misc]
    assert (first.id, second.id, third[0]) == ("17", "18", "3")
    assert (first.table, first.text, second.table) == (rows["table"][0], ["a .", "b ."], [])
    assert [one.answer for one in candidates + yes] == [94.0, 94.0, "yes"]


def test_candidates_may_be_structs_of_any_of_their_keys() -> None:
    given = [[{"program": "subtract(5829, 5735)", "answer": None}, {"program": None, "answer": -92.0}]]
    (line,) = read_back({"question": ["what ?"], "candidates": given})
    read = read_line(Line("f", 1, line, len(line)), read_pool)
    assert not isinstance(read, BadLine)
    assert [(one.program, one.answer, one.error) for one in read[1][1]] == [
        ("subtract(5829, 5735)", 94.0, None),
        (None, -92.0, None),
    ]


def test_a_row_that_is_not_utf8_costs_only_itself() -> None:
    texts = pa.array([b"a", b"\xff\xfe", b"c"]).view(pa.string())
    lines = read_back({"id": texts, "question": ["what ?"] * 3, "candidates": [["1"]] * 3})
    read = [read_line(Line("f", number, line, len(line)), read_pool) for number, line in enumerate(lines, 1)]
    assert [one[0] for one in read if not isinstance(one, BadLine)] == ["a", "c"]
    (bad,) = (one for one in read if isinstance(one, BadLine))
    assert bad.line == 2
    assert "utf-8" in bad.reason


@pytest.mark.parametrize("damage", ["text", "cut", "middle"])
def test_a_damaged_file_is_an_error_that_names_it(damage: str) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": ["a" * 50] * 500}), buffer, use_dictionary=False)
    whole = buffer.getvalue()
    content = {"text": b"{}\n" * 9, "cut": whole[:-20], "middle": whole[:4] + b"\xff" * 60 + whole[64:]}[damage]
    with pytest.raises(UserError, match=r"pools\.parquet cannot be read as Parquet"):
        list(parquet_lines(io.BytesIO(content), "pools.parquet"))


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "a.jsonl").write_bytes(b"{}")
    for use in (
        columns,
        lambda: list(parquet_lines(io.BytesIO(), "a")),
        lambda: write_parquet(tmp_path / "a.jsonl", tmp_path / "a"),
    ):
        with pytest.raises(UserError, match=r"pip install 'finrank\[parquet\]'"):
            use()


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for count in (1_000, 6_000):
        (tmp_path / "lines.jsonl").write_bytes(b"".join(encode(QUESTIONS[1]) for _ in range(count)))
        tracemalloc.start()
        pool = pa.default_memory_pool()
        write_parquet(tmp_path / "lines.jsonl", tmp_path / "lines.parquet")
        with (tmp_path / "lines.parquet").open("rb") as stream:
            assert sum(1 for _ in parquet_lines(stream, "lines.parquet")) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert pool.bytes_allocated() < 50_000_000
    assert peaks[1] < 1.5 * peaks[0]
