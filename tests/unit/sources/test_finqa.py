"""Reading files in the official FinQA layout."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from finrank.errors import UserError
from finrank.sources.finqa import Example, Fault, draw_questions, finqa_files, gold_of, read_examples, to_question
from tests.helpers.raw_files import EXAMPLE, raw_example, write_raw


def _read(directory: Path, elements: Any) -> list[Example | Fault]:
    return list(read_examples(write_raw(directory, dev=elements) / "dev.json"))


def _example(directory: Path, raw: dict[str, Any]) -> Example:
    (found,) = _read(directory, [raw])
    assert isinstance(found, Example), found
    return found


def test_an_example_becomes_a_question(tmp_path: Path) -> None:
    example = _example(tmp_path, EXAMPLE)
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
        example = _example(tmp_path, raw_example(program=program, exe_ans=exe_ans, gold_inds=...))
        expected = "yes" if "yes" in str(exe_ans).lower() else float(exe_ans)
        question = to_question(example, gold_of(example).answer)
        assert (question.program, question.answer) == (None, expected)


def test_without_exe_ans_the_answer_is_the_programs_value(tmp_path: Path) -> None:
    assert gold_of(_example(tmp_path, raw_example(exe_ans=...))).answer == 127.4


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
def test_a_program_is_compared_with_exe_ans(tmp_path: Path, program: str, exe_ans: Any, problem: str | None) -> None:
    gold = gold_of(_example(tmp_path, raw_example(program=program, exe_ans=exe_ans)))
    assert gold.problem == problem
    assert (gold.answer is None) == (problem is not None)


def test_numbers_in_cells_become_their_text_and_ragged_rows_are_kept(tmp_path: Path) -> None:
    example = _example(tmp_path, raw_example(table=[["", 2008, 1.5], ["volume", None]]))
    assert example.table == [["", "2008", "1.5"], ["volume", ""]]


# Bad elements, by the place that the fault names; "record": the element as a whole.
BAD: dict[str, list[Any]] = {
    "record": [None, 7, "example", []],
    "id": [{}, {"id": 5}, raw_example(id=...), raw_example(id=""), raw_example(id="\ud800")],
    "filename": [raw_example(filename=name) for name in ("", 2008)],
    "table": [raw_example(table=table) for table in (..., None, "2008", {"row": ["a"]})],
    "table.0": [raw_example(table=[row]) for row in ({"a": "b"}, None)],
    "table.0.0": [raw_example(table=[[cell]]) for cell in (["b"], True, float("nan"), float("-inf"), "\udcff")],
    "pre_text": [raw_example(pre_text="one string")],
    "post_text": [raw_example(post_text=...)],
    "post_text.0": [raw_example(post_text=[sentence]) for sentence in (1, None, "lone surrogate \ud800")],
    "qa": [raw_example(qa=None), raw_example(qa=[])],
    "qa.question": [raw_example(question=question) for question in (None, "  ")],
    "qa.program": [raw_example(program=["add(1, 2)"])],
    "qa.exe_ans": [raw_example(exe_ans=value) for value in (float("nan"), "about 5", True, [5])],
    "qa.gold_inds.dict[str,any]": [raw_example(gold_inds="table_1")],
}


@pytest.mark.parametrize(("where", "element"), [(where, element) for where, bad in BAD.items() for element in bad])
def test_a_bad_element_is_a_fault_that_says_where_and_the_others_stay(tmp_path: Path, where: str, element: Any) -> None:
    first, fault, last = _read(tmp_path, [EXAMPLE, element, EXAMPLE])
    assert isinstance(first, Example)
    assert isinstance(last, Example)
    assert isinstance(fault, Fault)
    assert (fault.file, fault.index) == ("dev.json", 1)
    assert f"{where}: " in fault.reason
    assert where in ("record", "id") or fault.id == EXAMPLE["id"]
    str(fault.id).encode()  # writable


def test_bytes_that_are_not_utf8_spoil_their_example_alone(tmp_path: Path) -> None:
    good = json.dumps(EXAMPLE).encode()
    bad, sound = _read(tmp_path, b"[" + good.replace(b"before .", b"caf\xe9 .") + b"," + good + b"]")
    assert isinstance(bad, Fault)
    assert "pre_text.0" in bad.reason
    assert isinstance(sound, Example)


def test_a_truncated_file_loses_only_its_tail(tmp_path: Path) -> None:
    first, second, fault = _read(tmp_path, json.dumps([EXAMPLE] * 3)[:-40].encode())
    assert isinstance(first, Example)
    assert isinstance(second, Example)
    assert isinstance(fault, Fault)
    assert fault.index == 2
    assert "nothing from this element on was read" in fault.reason


def test_the_draw_is_uniform_seeded_and_of_questions_with_a_program(tmp_path: Path) -> None:
    examples = [raw_example(id=str(number)) for number in range(30)]
    examples[0]["qa"]["program"] = None
    examples[1]["table"] = "no table"
    path = write_raw(tmp_path, train=examples) / "train.json"
    whole = [question.id for question in draw_questions(path, 1000)]
    assert whole == [example["id"] for example in examples[2:]]
    drawn = [draw_questions(path, 5, seed=seed) for seed in range(60)]
    assert draw_questions(path, 5, seed=3) == drawn[3]
    assert all(len({question.id for question in five}) == 5 for five in drawn)
    # 60 draws of 5 from 28 leave one out with a chance of 1 in 100,000
    assert {question.id for five in drawn for question in five} == set(whole)


def test_memory_does_not_grow_with_the_number_of_questions(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    peaks = []
    for count in (2000, 8000):
        path.write_text(json.dumps([EXAMPLE] * count, indent=1), encoding="utf-8")
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
