"""Reading files in the official FinQA layout."""

from __future__ import annotations

import copy
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from finrank.errors import UserError
from finrank.sources.finqa import Example, Fault, finqa_files, gold_of, read_examples, to_question

RAW: dict[str, Any] = {
    "id": "V/2008/page_17.pdf-1",
    "filename": "V/2008/page_17.pdf",
    "pre_text": ["before .", " "],
    "post_text": ["after ."],
    "table": [["", "2008"], ["volume", "$ 637"]],
    "table_ori": "ignored",
    "qa": {
        "question": "what is the average ?",
        "answer": "noise",
        "program": "divide(637, const_5)",
        "exe_ans": 127.4,
        "gold_inds": {"table_1": "the volume of 2008 is $ 637 ;"},
        "explanation": None,
    },
}


def _raw(**changes: Any) -> dict[str, Any]:
    """RAW with fields of its `qa` changed; a field set to ... is removed."""
    raw = copy.deepcopy(RAW)
    raw["qa"] |= changes
    raw["qa"] = {name: value for name, value in raw["qa"].items() if value is not ...}
    return raw


def _read(directory: Path, elements: Any) -> list[Example | Fault]:
    path = directory / "dev.json"
    path.write_text(json.dumps(elements), encoding="utf-8")
    return list(read_examples(path))


def _example(directory: Path, raw: dict[str, Any]) -> Example:
    (found,) = _read(directory, [raw])
    assert isinstance(found, Example), found
    return found


def test_an_example_becomes_a_question(tmp_path: Path) -> None:
    example = _example(tmp_path, RAW)
    question = to_question(example, gold_of(example).answer)
    assert question.model_dump() == {
        "id": "V/2008/page_17.pdf-1",
        "page": "V/2008/page_17.pdf",
        "question": "what is the average ?",
        "table": [["", "2008"], ["volume", "$ 637"]],
        "text": ["before .", "after ."],
        "program": "divide(637, const_5)",
        "answer": 127.4,
    }


@pytest.mark.parametrize("exe_ans", ["yes", " YES ", 94, "94", "94.0", 0.00001])
def test_without_a_program_exe_ans_is_the_answer(tmp_path: Path, exe_ans: Any) -> None:
    for program in (..., None, " "):
        example = _example(tmp_path, _raw(program=program, exe_ans=exe_ans, gold_inds=...))
        expected = "yes" if "yes" in str(exe_ans).lower() else float(exe_ans)
        question = to_question(example, gold_of(example).answer)
        assert (question.program, question.answer) == (None, expected)


def test_without_exe_ans_the_program_gives_the_answer(tmp_path: Path) -> None:
    assert gold_of(_example(tmp_path, _raw(exe_ans=...))).answer == 127.4


@pytest.mark.parametrize(
    ("program", "exe_ans", "problem"),
    [
        ("divide(637, const_5)", 127.40001, None),
        ("divide(637, const_5)", 127.4001, "disagrees with exe_ans"),
        ("divide(637, const_5)", "yes", "disagrees with exe_ans"),
        ("greater(637, 5)", "no", "disagrees with exe_ans"),
        ("greater(637, 5)", 1.0, "disagrees with exe_ans"),
        ("table_sum(volume, none)", 637, None),
        ("divide(637, 0)", 0, "does not execute"),
        ("table_sum(no such row, none)", 0, "does not execute"),
        ("about five", 5, "does not parse"),
    ],
)
def test_a_program_is_held_against_exe_ans(tmp_path: Path, program: str, exe_ans: Any, problem: str | None) -> None:
    gold = gold_of(_example(tmp_path, _raw(program=program, exe_ans=exe_ans)))
    assert gold.problem == problem
    assert (gold.answer is None) == (problem is not None)


def test_numbers_in_cells_become_their_text_and_ragged_rows_stay(tmp_path: Path) -> None:
    example = _example(tmp_path, RAW | {"table": [["", 2008, 1.5], ["volume", None]]})
    assert example.table == [["", "2008", "1.5"], ["volume", ""]]


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        ({name: value for name, value in RAW.items() if name != "table"}, "table"),
        (RAW | {"table": [["", float("nan")]]}, "table.0.1"),
        (RAW | {"table": [["", True]]}, "table.0.1"),
        (RAW | {"table": "2008"}, "table"),
        (RAW | {"pre_text": "one string"}, "pre_text"),
        (RAW | {"pre_text": [1]}, "pre_text.0"),
        (RAW | {"post_text": ["lone surrogate \ud800"]}, "post_text.0"),
        (RAW | {"filename": ""}, "filename"),
        (RAW | {"qa": None}, "qa"),
        (_raw(question="  "), "qa.question"),
        (_raw(program=["add(1, 2)"]), "qa.program"),
        (_raw(exe_ans=float("nan")), "qa.exe_ans"),
        (_raw(exe_ans="about 5"), "qa.exe_ans"),
        (_raw(exe_ans=True), "qa.exe_ans"),
        (_raw(exe_ans=[5]), "qa.exe_ans"),
    ],
)
def test_a_bad_element_is_a_fault_that_says_where_and_the_others_stay(
    tmp_path: Path, raw: dict[str, Any], where: str
) -> None:
    first, fault, last = _read(tmp_path, [RAW, raw, RAW])
    assert isinstance(first, Example)
    assert isinstance(last, Example)
    assert isinstance(fault, Fault)
    assert (fault.file, fault.index, fault.id) == ("dev.json", 1, RAW["id"])
    assert f"{where}:" in fault.reason


@pytest.mark.parametrize("element", [None, 5, "text", [], {"id": 5}, {"id": "\ud800"}])
def test_an_element_of_another_shape_is_a_fault(tmp_path: Path, element: Any) -> None:
    (fault,) = _read(tmp_path, [element])
    assert isinstance(fault, Fault)
    str(fault.id).encode()  # writable


def test_bytes_that_are_not_utf8_spoil_their_example_alone(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    good = json.dumps(RAW).encode()
    path.write_bytes(b"[" + good.replace(b"before .", b"caf\xe9 .") + b"," + good + b"]")
    bad, fine = read_examples(path)
    assert isinstance(bad, Fault)
    assert "pre_text.0" in bad.reason
    assert isinstance(fine, Example)


def test_a_truncated_file_loses_only_its_tail(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text(json.dumps([RAW, RAW, RAW])[:-40], encoding="utf-8")
    first, second, fault = read_examples(path)
    assert isinstance(first, Example)
    assert isinstance(second, Example)
    assert isinstance(fault, Fault)
    assert fault.index == 2
    assert "nothing from this element on was read" in fault.reason


def test_memory_does_not_grow_with_the_number_of_questions(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    peaks = []
    for count in (2000, 8000):
        path.write_text(json.dumps([RAW] * count, indent=1), encoding="utf-8")
        tracemalloc.start()
        assert sum(1 for _ in read_examples(path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.2
    assert peaks[1] < path.stat().st_size / 2


def test_only_the_official_names_are_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="finrank download"):
        finqa_files(tmp_path)
    for name in ("dev.json", "test.json", "evaluator_cases.json"):
        (tmp_path / name).write_text("[]", encoding="utf-8")
    assert list(finqa_files(tmp_path)) == ["dev", "test"]


def test_every_official_example_is_read_and_every_program_gives_exe_ans(finqa_dir: Path) -> None:
    for path in finqa_files(finqa_dir).values():
        for found in read_examples(path):
            assert isinstance(found, Example), found
            gold = gold_of(found)
            assert gold.problem is None, (found.id, gold)
            assert to_question(found, gold.answer).answer is not None
