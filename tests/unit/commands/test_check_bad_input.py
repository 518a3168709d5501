"""Stage 00 on broken files: every fault is named with its file, its index and the reason, and nothing stops it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from finrank.commands import check
from finrank.sources.made_up import generate

GOOD = generate(train=3, dev=1, test=1)["train"]
MEGABYTE = 1 << 20


def _report(raw: Path) -> tuple[int, dict[str, Any], dict[str, dict[str, Any]]]:
    """Exit code, the whole report, and its findings by name."""
    code = check.run(raw, json_path=raw.parent / "report.json")
    report = json.loads((raw.parent / "report.json").read_text(encoding="utf-8"))
    return code, report, {finding["name"]: finding for finding in report["findings"]}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder whose dev.json is sound."""
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "dev.json").write_text(json.dumps(GOOD), encoding="utf-8")
    return folder


def _changed(**changes: Any) -> dict[str, Any]:
    """A sound example with an id and a page of its own and fields changed; a field set to ... is removed."""
    example = copy.deepcopy(GOOD[0]) | {"id": "broken", "filename": "X/2008/page_1.pdf"} | changes
    return {name: value for name, value in example.items() if value is not ...}


def _qa(**changes: Any) -> dict[str, Any]:
    return _changed(qa=GOOD[0]["qa"] | changes)


BROKEN: dict[str, Any] = {
    "null": None,
    "a number": 7,
    "a text": "example",
    "a list": [],
    "an empty object": {},
    "no id": _changed(id=...),
    "id of another type": _changed(id=7),
    "empty id": _changed(id=""),
    "no table": _changed(table=...),
    "table null": _changed(table=None),
    "table a dict": _changed(table={"row": ["a"]}),
    "table a text": _changed(table="a"),
    "row a dict": _changed(table=[{"a": "b"}]),
    "row null": _changed(table=[None]),
    "cell a list": _changed(table=[["a", ["b"]]]),
    "cell a truth value": _changed(table=[["a", True]]),
    "cell NaN": _changed(table=[["a", float("nan")]]),
    "cell infinite": _changed(table=[["a", float("-inf")]]),
    "text a string": _changed(pre_text="one sentence ."),
    "text with null": _changed(post_text=[None]),
    "text missing": _changed(post_text=...),
    "page a number": _changed(filename=2008),
    "qa a list": _changed(qa=[]),
    "qa null": _changed(qa=None),
    "question null": _qa(question=None),
    "question blank": _qa(question="  "),
    "program a list": _qa(program=["add(", "1", "2", ")"]),
    "exe_ans NaN": _qa(exe_ans=float("nan")),
    "exe_ans a word": _qa(exe_ans="maybe"),
    "exe_ans true": _qa(exe_ans=True),
    "gold_inds a text": _qa(gold_inds="table_1"),
    "lone surrogate in the id": _changed(id="\ud800"),
    "lone surrogate in a cell": _changed(table=[["\udcff"]]),
    "lone surrogate in a key": _qa(gold_inds={"\ud800": "x"}, question=None),
}


@pytest.mark.parametrize("element", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_element_is_named_and_its_neighbours_are_counted(raw: Path, element: Any) -> None:
    (raw / "train.json").write_text(json.dumps([GOOD[0] | {"id": "0"}, element, GOOD[1]]), encoding="utf-8")
    code, report, findings = _report(raw)
    faults = findings["schema_faults"]
    assert (code, faults["count"], faults["splits"]) == (1, 1, {"train": 1, "dev": 0})
    assert "train.json[1]" in faults["ids"][0] + faults["reasons"][0]
    assert len(faults["reasons"][0].removeprefix("train.json[1]: ")) > 5
    assert report["splits"]["train"]["examples"] == 2
    assert report["splits"]["dev"]["examples"] == 3


ODD_BUT_SOUND = {
    "answer a surrogate": _qa(answer="\ud800"),
    "answer an object": _qa(answer={"a": [1]}),
    "answer huge": _qa(answer=10**400),
    "gold_inds an empty list": _qa(gold_inds=[]),
    "cell null": _changed(table=[["", "2008"], [None, None]]),
    "no rows": _changed(table=[]),
    "rows without cells": _changed(table=[[], []]),
}


@pytest.mark.parametrize("element", ODD_BUT_SOUND.values(), ids=ODD_BUT_SOUND.keys())
def test_an_odd_element_is_no_fault(raw: Path, element: Any) -> None:
    (raw / "train.json").write_text(json.dumps([element]), encoding="utf-8")
    _, report, findings = _report(raw)
    assert report["splits"]["train"]["examples"] == 1
    assert findings["schema_faults"]["count"] == 0


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
    (raw / "train.json").write_bytes(content)
    code, report, findings = _report(raw)
    faults = findings["schema_faults"]
    assert (code, faults["count"], faults["ids"]) == (1, 1, [f"train.json[{index}]"])
    assert faults["reasons"][0]
    assert report["splits"]["train"]["examples"] == examples
    assert report["splits"]["dev"]["examples"] == 3


def test_bytes_of_another_encoding_spoil_their_element_only(raw: Path) -> None:
    elements = [GOOD[0], GOOD[1] | {"pre_text": ["soci\u00e9t\u00e9"]}, GOOD[2]]
    (raw / "train.json").write_bytes(json.dumps(elements, ensure_ascii=False).encode("latin-1"))
    _, report, findings = _report(raw)
    assert report["splits"]["train"]["examples"] == 2
    assert findings["schema_faults"]["ids"] == [GOOD[1]["id"]]
    assert "train.json[1]" in findings["schema_faults"]["reasons"][0]
    assert "pre_text.0" in findings["schema_faults"]["reasons"][0]


def test_a_byte_order_mark_is_no_fault(raw: Path) -> None:
    (raw / "dev.json").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    code, report, findings = _report(raw)
    assert (code, report["splits"]["dev"]["examples"], findings["schema_faults"]["count"]) == (0, 3, 0)


def test_an_empty_list_is_a_warning(raw: Path) -> None:
    (raw / "train.json").write_text("[]", encoding="utf-8")
    code, report, findings = _report(raw)
    assert (code, findings["files_without_examples"]["ids"]) == (0, ["train.json"])
    assert report["splits"]["train"]["examples"] == 0


@pytest.mark.parametrize("cell", ["9", "(", "a 2014 "])
def test_a_cell_of_50_megabytes_is_named_and_its_neighbours_are_counted(raw: Path, cell: str) -> None:
    huge = _changed(table=[["", "2008"], ["a", cell * (50 * MEGABYTE // len(cell))]])
    (raw / "train.json").write_text(json.dumps([GOOD[1], huge, GOOD[2]]), encoding="utf-8")
    _, report, findings = _report(raw)
    assert report["splits"]["train"]["examples"] == 2
    assert findings["schema_faults"]["ids"] == ["broken"]
    assert "train.json[1]: table.1.1" in findings["schema_faults"]["reasons"][0]
    assert (raw.parent / "report.json").stat().st_size < MEGABYTE // 10


@pytest.mark.parametrize("cell", ["9", "(", "a 2014 ", "$ 2014", "1,"])
def test_a_cell_that_is_only_just_an_example_is_a_warning(raw: Path, cell: str) -> None:
    huge = _changed(table=[["", "2008"], ["a", cell * (90_000 // len(cell))]])
    (raw / "train.json").write_text(json.dumps([huge]), encoding="utf-8")
    _, report, findings = _report(raw)
    assert report["splits"]["train"]["examples"] == 1
    assert findings["oversized_texts"]["ids"] == ["broken"]


def test_huge_ids_questions_and_programs_stay_out_of_the_report(raw: Path) -> None:
    for long in ("x" * 50_000, "x" * MEGABYTE):
        elements = [_changed(id="0" + long), _qa(question=long), _qa(program=long), _qa(answer=long), _qa(exe_ans=long)]
        elements = [element | {"id": f"{n}{element['id']}"} for n, element in enumerate(elements)]
        (raw / "train.json").write_text(json.dumps(elements), encoding="utf-8")
        _, report, findings = _report(raw)
        faults = findings["programs_that_do_not_parse"]["count"] + findings["schema_faults"]["count"]
        assert faults == 5 - report["splits"]["train"]["examples"] + (long == "x" * 50_000)
        assert (raw.parent / "report.json").stat().st_size < MEGABYTE // 10
