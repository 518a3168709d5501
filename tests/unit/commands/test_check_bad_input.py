"""Stage 00 on broken files: every fault is named with its file, its index and the reason, and nothing stops it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finrank.sources.made_up import generate
from tests.helpers.raw_files import EXAMPLE, raw_example, run_check, write_raw

GOOD = generate(train=3, dev=1, test=1)["train"]
MEGABYTE = 1 << 20


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder whose dev.json is sound."""
    return write_raw(tmp_path / "raw", dev=GOOD)


BROKEN: dict[str, Any] = {
    "null": None,
    "a number": 7,
    "a text": "example",
    "a list": [],
    "an empty object": {},
    "no id": raw_example(id=...),
    "id of another type": raw_example(id=7),
    "empty id": raw_example(id=""),
    "no table": raw_example(table=...),
    "table null": raw_example(table=None),
    "table a dict": raw_example(table={"row": ["a"]}),
    "table a text": raw_example(table="a"),
    "row a dict": raw_example(table=[{"a": "b"}]),
    "row null": raw_example(table=[None]),
    "cell a list": raw_example(table=[["a", ["b"]]]),
    "cell a truth value": raw_example(table=[["a", True]]),
    "cell NaN": raw_example(table=[["a", float("nan")]]),
    "cell infinite": raw_example(table=[["a", float("-inf")]]),
    "text a string": raw_example(pre_text="one sentence ."),
    "text with null": raw_example(post_text=[None]),
    "text missing": raw_example(post_text=...),
    "page a number": raw_example(filename=2008),
    "qa a list": raw_example(qa=[]),
    "qa null": raw_example(qa=None),
    "question null": raw_example(question=None),
    "question blank": raw_example(question="  "),
    "program a list": raw_example(program=["add(", "1", "2", ")"]),
    "exe_ans NaN": raw_example(exe_ans=float("nan")),
    "exe_ans a word": raw_example(exe_ans="maybe"),
    "exe_ans true": raw_example(exe_ans=True),
    "gold_inds a text": raw_example(gold_inds="table_1"),
    "lone surrogate in the id": raw_example(id="\ud800"),
    "lone surrogate in a cell": raw_example(table=[["\udcff"]]),
    "lone surrogate in a key": raw_example(gold_inds={"\ud800": "x"}, question=None),
}


@pytest.mark.parametrize("element", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_element_is_named_and_its_neighbours_are_counted(raw: Path, element: Any) -> None:
    code, report, found = run_check(write_raw(raw, train=[GOOD[0] | {"id": "0"}, element, GOOD[1]]))
    faults = found["schema_faults"]
    assert (code, faults["count"], faults["splits"]) == (1, 1, {"train": 1, "dev": 0})
    assert "train.json[1]" in faults["ids"][0] + faults["reasons"][0]
    assert len(faults["reasons"][0].removeprefix("train.json[1]: ")) > 5
    assert report["splits"]["train"]["examples"] == 2
    assert report["splits"]["dev"]["examples"] == 3


ODD_BUT_SOUND = {
    "answer a surrogate": raw_example(answer="\ud800"),
    "answer an object": raw_example(answer={"a": [1]}),
    "answer huge": raw_example(answer=10**400),
    "gold_inds an empty list": raw_example(gold_inds=[]),
    "cell null": raw_example(table=[["", "2008"], [None, None]]),
    "no rows": raw_example(table=[]),
    "rows without cells": raw_example(table=[[], []]),
}


def test_odd_elements_are_not_faults(raw: Path) -> None:
    _, report, found = run_check(write_raw(raw, train=list(ODD_BUT_SOUND.values())))
    assert report["splits"]["train"]["examples"] == len(ODD_BUT_SOUND)
    assert "schema_faults" not in found


TEXT = json.dumps(GOOD)
FILES = {
    "empty": (b"", 0, 0),
    "a web page": (b"<!DOCTYPE html><html></html>", 0, 0),
    "an object": (b'{"data": []}', 0, 0),
    "null": (b"null", 0, 0),
    "UTF-16": (TEXT.encode("utf-16"), 0, 0),
    "binary": (bytes(range(256)) * 8, 0, 0),
    "truncated": (TEXT[:-10].encode(), 2, 2),
    "truncated in the first": (TEXT[:40].encode(), 0, 0),
    "text after the list": ((TEXT + "x").encode(), 3, 3),
    "a comma at the end": ((TEXT[:-1] + ",]").encode(), 3, 3),
    "nested too deeply": (TEXT[:-1].encode() + b"," + b"[" * 200_000, 3, 3),
    "a lone bracket": (b"[", 0, 0),
}


@pytest.mark.parametrize(("content", "examples", "index"), FILES.values(), ids=FILES.keys())
def test_a_broken_file_is_named_and_the_others_are_read(raw: Path, content: bytes, examples: int, index: int) -> None:
    code, report, found = run_check(write_raw(raw, train=content))
    faults = found["schema_faults"]
    assert (code, faults["count"], faults["ids"]) == (1, 1, [f"train.json[{index}]"])
    assert faults["reasons"][0]
    assert report["splits"]["train"]["examples"] == examples
    assert report["splits"]["dev"]["examples"] == 3


def test_bytes_of_another_encoding_spoil_their_element_only(raw: Path) -> None:
    elements = [GOOD[0], GOOD[1] | {"pre_text": ["soci\u00e9t\u00e9"]}, GOOD[2]]
    _, report, found = run_check(write_raw(raw, train=json.dumps(elements, ensure_ascii=False).encode("latin-1")))
    assert report["splits"]["train"]["examples"] == 2
    assert found["schema_faults"]["ids"] == [GOOD[1]["id"]]
    assert "train.json[1]: pre_text.0" in found["schema_faults"]["reasons"][0]


def test_a_byte_order_mark_is_not_a_fault(raw: Path) -> None:
    code, report, found = run_check(write_raw(raw, dev=b"\xef\xbb\xbf" + TEXT.encode()))
    assert (code, report["splits"]["dev"]["examples"], "schema_faults" in found) == (0, 3, False)


def test_an_empty_list_is_a_warning(raw: Path) -> None:
    code, report, found = run_check(write_raw(raw, train=[]))
    assert (code, found["files_without_examples"]["ids"]) == (0, ["train.json"])
    assert report["splits"]["train"]["examples"] == 0


@pytest.mark.parametrize("cell", ["9", "(", "a 2014 "])
def test_a_cell_of_50_megabytes_is_named_and_its_neighbours_are_counted(raw: Path, cell: str) -> None:
    huge = raw_example(table=[["", "2008"], ["a", cell * (50 * MEGABYTE // len(cell))]])
    _, report, found = run_check(write_raw(raw, train=[GOOD[1], huge, GOOD[2]]))
    assert report["splits"]["train"]["examples"] == 2
    assert found["schema_faults"]["ids"] == [EXAMPLE["id"]]
    assert "train.json[1]: table.1.1" in found["schema_faults"]["reasons"][0]
    assert len(json.dumps(report)) < MEGABYTE // 10


@pytest.mark.parametrize("cell", ["9", "(", "a 2014 ", "$ 2014", "1,"])
def test_a_cell_of_almost_the_allowed_length_is_a_warning(raw: Path, cell: str) -> None:
    huge = raw_example(table=[["", "2008"], ["a", cell * (90_000 // len(cell))]])
    _, report, found = run_check(write_raw(raw, train=[huge]))
    assert report["splits"]["train"]["examples"] == 1
    assert found["oversized_texts"]["ids"] == [EXAMPLE["id"]]


@pytest.mark.parametrize("long", ["x" * 50_000, "x" * MEGABYTE])
def test_huge_ids_questions_and_programs_stay_out_of_the_report(raw: Path, long: str) -> None:
    fields = ("id", "question", "program", "answer", "exe_ans")
    elements = [raw_example(**{"id": str(n), name: f"{n}{long}"}) for n, name in enumerate(fields)]
    _, report, found = run_check(write_raw(raw, train=elements))
    faults = sum(found[name]["count"] for name in found if name in ("programs_that_do_not_parse", "schema_faults"))
    readable = len(long) < MEGABYTE  # then id, question and program are examples, and the program does not parse
    assert (report["splits"]["train"]["examples"], faults) == ((4, 2) if readable else (1, 4))
    assert len(json.dumps(report)) < MEGABYTE // 10
