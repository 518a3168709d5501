"""Stage 00: every fault of the raw files is named with its file, its index and the reason, and nothing stops it."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from finrank.commands.check import check
from finrank.console import console
from finrank.sources.made_up import generate
from tests.helpers.raw_files import EXAMPLE, raw_example, run_check, write_raw

MEGABYTE = 1 << 20
GOOD = [raw_example(id=f"good-{page}", filename=f"page {page}") for page in range(3)]
TEXT = json.dumps(GOOD)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder whose dev.json is sound."""
    return write_raw(tmp_path / "raw", dev=GOOD)


def test_the_embedded_data_is_clean_even_under_strict(tmp_path: Path) -> None:
    embedded = generate(train=40, dev=10, test=10)
    code, report, findings = run_check(write_raw(tmp_path / "raw", **embedded), strict=True)
    assert (code, report["errors"], report["warnings"]) == (0, 0, 0)
    assert {finding["severity"] for finding in findings.values()} == {"note"}
    assert report["input_dir"] == str(tmp_path / "raw")
    pages = len({example["filename"] for example in embedded["train"]})
    expected = {"examples": 40, "pages": pages, "with_program": 40, "with_gold_inds": 40}
    assert report["splits"]["train"] == expected


# By the name of the finding: its severity, and the changes to EXAMPLE that cause it.
ONE_FAULT: dict[str, tuple[str, dict[str, Any]]] = {
    "schema_faults": ("error", {"table": ...}),
    "programs_that_do_not_parse": ("error", {"program": "about five"}),
    "programs_that_do_not_execute": ("error", {"program": "table_sum(no such row, none)"}),
    "values_that_differ_from_exe_ans": ("error", {"exe_ans": 4, "answer": "4"}),
    "duplicate_ids": ("error", {"id": "good-0"}),
    "duplicate_questions": ("warning", {"filename": "page 0"}),
    "near_duplicate_questions": ("warning", {"filename": "page 0", "question": "What is the AVERAGE"}),
    "ragged_tables": ("warning", {"table": [["", "2008", "2007"], ["volume", "$ 637"]]}),
    "examples_without_gold_inds": ("warning", {"gold_inds": {}}),
    "examples_without_program": ("warning", {"program": None}),
    "answer_texts_missing": ("note", {"answer": ""}),
    "dashes_in_cells": ("note", {"table": [["", "2008"], ["volume", "$ 637"], ["costs", "$ 2014"]]}),
}


@pytest.mark.parametrize("name", ONE_FAULT)
def test_each_fault_is_named_and_fails_by_its_severity(tmp_path: Path, name: str) -> None:
    severity, changes = ONE_FAULT[name]
    spoilt = raw_example(**changes)
    raw = write_raw(tmp_path / "raw", train=[*GOOD, spoilt])
    code, report, findings = run_check(raw)
    assert list(findings) == [name]
    finding = findings[name]
    assert (finding["severity"], finding["count"], finding["ids"]) == (severity, 1, [spoilt["id"]])
    counts = {kind: report[f"{kind}s"] for kind in ("error", "warning", "note")}
    assert counts == {kind: int(kind == severity) for kind in counts}
    assert code == (severity == "error")
    assert run_check(raw, strict=True)[0] == (severity != "note")


def test_pages_of_two_splits_and_examples_without_any_answer_are_named(raw: Path) -> None:
    train = [GOOD[0] | {"id": "again"}, raw_example(program=None, exe_ans=None)]
    code, _, findings = run_check(write_raw(raw, train=train))
    shared = findings["pages_shared_across_splits"]
    assert (code, shared["ids"], shared["reasons"]) == (1, ["page 0"], ["in train and dev"])
    assert findings["examples_without_answer"]["ids"] == [EXAMPLE["id"]]


def test_counts_add_up_and_at_most_twenty_ids_are_named(raw: Path) -> None:
    train = [raw_example(id=f"{n}", filename=f"train {n}", exe_ans=123456.0) for n in range(40)]
    _, report, findings = run_check(write_raw(raw, train=train, dev=[*GOOD[:2], train[0] | {"id": "dev"}]))
    finding = findings["values_that_differ_from_exe_ans"]
    assert finding["splits"] == {"train": 40, "dev": 1}
    assert (finding["count"], len(finding["ids"]), len(finding["reasons"])) == (41, 20, 20)
    sums = dict.fromkeys(("error", "warning", "note"), 0)
    for finding in report["findings"]:
        assert finding["count"] == sum(finding["splits"].values())
        assert finding["what_to_do"]
        sums[finding["severity"]] += finding["count"]
    assert list(sums.values()) == [report["errors"], report["warnings"], report["notes"]]


@pytest.mark.parametrize(
    ("changes", "other", "reason"),
    [
        ({"program": None, "exe_ans": 9.0}, "answers", "127.4 and 9.0 for"),
        ({"program": "multiply(const_5, 25.48)"}, "programs", "multiply(const_5, 25.48) for"),
    ],
)
def test_a_question_asked_twice_is_compared(raw: Path, changes: dict[str, Any], other: str, reason: str) -> None:
    _, _, findings = run_check(write_raw(raw, train=[EXAMPLE, raw_example(id="again", **changes)]))
    repeated = [name for name in findings if name.startswith("repeated_questions")]
    assert repeated == [f"repeated_questions_with_other_{other}"]
    assert findings[repeated[0]]["ids"] == ["again"]
    assert reason in findings[repeated[0]]["reasons"][0]


def test_notes_are_on_screen_only_when_asked_for(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_raw(raw, train=[raw_example(answer="")])
    report = run_check(raw)[1]
    brief = capsys.readouterr().out
    assert "1 notes of 1 kinds" in brief
    assert "--notes" in brief
    assert "note: answer" not in brief
    assert run_check(raw, notes=True)[1] == report
    full = capsys.readouterr().out
    assert "note: answer texts" in full
    assert "--notes" not in full


def test_a_failing_screen_loses_no_file(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "print", Mock(side_effect=BrokenPipeError))
    with pytest.raises(BrokenPipeError):
        check(raw, config=["none"], json_path=tmp_path / "check.json")
    assert (tmp_path / "check.json").is_file()


def test_ids_and_paths_with_markup_and_control_characters_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "[/red]\x1b[2J"
    write_raw(tmp_path / "[b]raw", dev=[raw_example(id=hostile, program="nothing()")])
    run_check(tmp_path / "[b]raw")
    shown = capsys.readouterr().out.replace("\n", "")
    assert r"[/red]\x1b" in shown
    assert "\x1b" not in shown
    assert "[b]raw" in shown


# Each is one fault, with its index.
BROKEN = [None, {}, raw_example(table=...), raw_example(id="\ud800"), raw_example(gold_inds={"\ud800": 1}, question=7)]
ODD_TABLES: list[Any] = [[["", "2008"], [None, None]], [], [[], []]]
ODD_BUT_SOUND = [
    *(raw_example(answer=answer) for answer in ("\ud800", {"a": [1]}, 10**400)),
    *(raw_example(table=table) for table in ODD_TABLES),
    raw_example(gold_inds=[]),
]


def test_broken_elements_are_named_and_odd_ones_are_counted(raw: Path) -> None:
    code, report, findings = run_check(write_raw(raw, train=[*BROKEN, *ODD_BUT_SOUND]))
    faults = findings["schema_faults"]
    assert (code, faults["count"], faults["splits"]) == (1, 5, {"train": 5, "dev": 0})
    for index, named in enumerate(zip(faults["ids"], faults["reasons"], strict=True)):
        assert f"train.json[{index}]" in "".join(named)
        assert len(named[1].removeprefix(f"train.json[{index}]: ")) > 5
    counts = {split: counts["examples"] for split, counts in report["splits"].items()}
    assert counts == {"train": len(ODD_BUT_SOUND), "dev": 3}


FILES = {
    "empty": (b"", 0),
    "an object": (b'{"data": []}', 0),
    "UTF-16": (TEXT.encode("utf-16"), 0),
    "binary": (bytes(range(256)) * 8, 0),
    "truncated": (TEXT[:-10].encode(), 2),
    "text after the list": ((TEXT + "x").encode(), 3),
    "nested too deeply": (TEXT[:-1].encode() + b"," + b"[" * 200_000, 3),
}


@pytest.mark.parametrize(("content", "examples"), FILES.values(), ids=FILES)
def test_a_broken_file_is_named_and_the_others_are_read(raw: Path, content: bytes, examples: int) -> None:
    code, report, findings = run_check(write_raw(raw, train=content))
    faults = findings["schema_faults"]
    assert (code, faults["count"], faults["ids"]) == (1, 1, [f"train.json[{examples}]"])
    assert faults["reasons"][0]
    assert {split: counts["examples"] for split, counts in report["splits"].items()} == {"train": examples, "dev": 3}


def test_a_byte_order_mark_is_not_a_fault_and_an_empty_list_a_warning(raw: Path) -> None:
    code, report, findings = run_check(write_raw(raw, train=[], dev=b"\xef\xbb\xbf" + TEXT.encode()))
    assert (code, list(findings)) == (0, ["files_without_examples"])
    assert findings["files_without_examples"]["ids"] == ["train.json"]
    assert {split: counts["examples"] for split, counts in report["splits"].items()} == {"train": 0, "dev": 3}


@pytest.mark.parametrize("size", [50 * MEGABYTE, 90_000], ids=["50 megabytes", "almost the allowed length"])
@pytest.mark.parametrize("cell", ["9", "(", "a 2014 ", "$ 2014", "1,"])
def test_a_huge_cell_is_named_and_stays_out_of_the_report(raw: Path, cell: str, size: int) -> None:
    huge = raw_example(table=[["", "2008"], ["a", cell * (size // len(cell))]])
    _, report, findings = run_check(write_raw(raw, train=[GOOD[1], huge, GOOD[2]]))
    finding = findings["schema_faults" if size > MEGABYTE else "oversized_texts"]
    assert finding["ids"] == [EXAMPLE["id"]]
    assert size < MEGABYTE or "train.json[1]: table.1.1" in finding["reasons"][0]
    assert report["splits"]["train"]["examples"] == (2 if size > MEGABYTE else 3)
    assert len(json.dumps(report)) < MEGABYTE // 10


@pytest.mark.parametrize("long", ["x" * 50_000, "x" * MEGABYTE], ids=len)
def test_huge_ids_questions_and_programs_stay_out_of_the_report(raw: Path, long: str) -> None:
    fields = ("id", "question", "program", "answer", "exe_ans")
    elements = [raw_example(**{"id": str(n), name: f"{n}{long}"}) for n, name in enumerate(fields)]
    _, report, findings = run_check(write_raw(raw, train=elements))
    # a shorter one is read, except for exe_ans, and the program does not parse
    readable = {"schema_faults": 1, "programs_that_do_not_parse": 1}
    expected = readable if len(long) < MEGABYTE else {"schema_faults": 4}
    assert {name: findings[name]["count"] for name in readable if name in findings} == expected
    assert len(json.dumps(report)) < MEGABYTE // 10


def test_memory_grows_by_far_less_than_the_examples(tmp_path: Path) -> None:
    example = raw_example(pre_text=["word " * 2000])
    size = len(json.dumps(example))

    def peak(examples: int) -> int:
        elements = [example | {"id": f"id {n}", "filename": f"page {n}"} for n in range(examples)]
        raw = write_raw(tmp_path / "raw", train=elements)
        del elements
        tracemalloc.start()
        try:
            check(raw, config=["none"])
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # imports and caches
    assert peak(300) - peak(100) < 200 * size / 10


def test_check_starts_and_runs_without_the_heavy_libraries(raw: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from finrank.commands.check import check; "
        "print([name for name in ('torch', 'transformers', 'sympy', 'numpy') if name in sys.modules]); "
        f"check(Path({str(raw)!r}), config=['configs/models/minilm.yaml']); print('torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert (output.splitlines()[0], output.splitlines()[-1]) == ("[]", "False")
