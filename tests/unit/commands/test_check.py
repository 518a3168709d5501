"""Stage 00: the report on raw files."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from finrank.commands.check import check
from finrank.errors import UserError
from finrank.sources.made_up import generate
from tests.helpers.raw_files import run_check, write_raw

Examples = dict[str, list[dict[str, Any]]]


@pytest.fixture
def embedded() -> Examples:
    return generate(train=40, dev=10, test=10)


def _check(folder: Path, splits: Examples, strict: bool = False) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Exit code, the JSON report, and its findings with a count by name, notes left out."""
    code, report, found = run_check(write_raw(folder / "raw", **splits), strict=strict)
    return code, report, {name: finding for name, finding in found.items() if finding["severity"] != "note"}


def _named(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(finding for finding in report["findings"] if finding["name"] == name)


def test_the_embedded_data_is_clean_even_under_strict(tmp_path: Path, embedded: Examples) -> None:
    code, report, findings = _check(tmp_path, embedded, strict=True)
    assert (code, report["errors"], report["warnings"], findings) == (0, 0, 0, {})
    assert report["input_dir"] == str(tmp_path / "raw")
    assert report["splits"]["train"]["examples"] == 40
    assert report["splits"]["train"]["with_program"] == report["splits"]["train"]["with_gold_inds"] == 40
    assert report["splits"]["dev"]["pages"] == len({example["filename"] for example in embedded["dev"]})


def _spoil(embedded: Examples, name: str) -> str:
    """Put one fault into the data; returns the id that the report should name."""
    example = embedded["train"][0]
    qa = example["qa"]
    if name == "schema_faults":
        del example["table"]
    elif name == "programs_that_do_not_parse":
        qa["program"] = "about five"
    elif name == "programs_that_do_not_execute":
        qa["program"] = "divide(const_5, const_0)"
    elif name == "values_that_differ_from_exe_ans":
        qa |= {"program": "add(1, 2)", "exe_ans": 4, "answer": "4"}
    elif name == "duplicate_ids":
        embedded["dev"][0]["id"] = example["id"]
    elif name == "duplicate_questions":
        embedded["train"].append(example | {"id": "another id"})
        return "another id"
    elif name == "pages_shared_across_splits":
        embedded["dev"].append(example | {"id": "another id", "qa": qa | {"question": "another ?"}})
        return str(example["filename"])
    elif name == "ragged_tables":
        example["table"][0].append("one more cell")
    elif name == "examples_without_gold_inds":
        qa["gold_inds"] = {}
    elif name == "examples_without_program":
        qa["program"] = None
    return str(example["id"])


ERRORS = (
    "schema_faults",
    "programs_that_do_not_parse",
    "programs_that_do_not_execute",
    "values_that_differ_from_exe_ans",
    "duplicate_ids",
    "pages_shared_across_splits",
)
WARNINGS = ("duplicate_questions", "ragged_tables", "examples_without_gold_inds", "examples_without_program")


@pytest.mark.parametrize("name", ERRORS + WARNINGS)
def test_each_fault_is_named_and_fails_as_severe_as_it_is(tmp_path: Path, embedded: Examples, name: str) -> None:
    identifier = _spoil(embedded, name)
    code, report, findings = _check(tmp_path, embedded)
    is_error = name in ERRORS
    assert list(findings) == [name]
    assert findings[name]["severity"] == ("error" if is_error else "warning")
    assert (findings[name]["count"], findings[name]["ids"]) == (1, [identifier])
    assert (code, report["errors"], report["warnings"]) == (int(is_error), int(is_error), int(not is_error))
    assert run_check(tmp_path / "raw", strict=True)[0] == 1


def test_an_example_with_neither_program_nor_answer_is_named(tmp_path: Path, embedded: Examples) -> None:
    embedded["train"][0]["qa"] |= {"program": None, "exe_ans": None}
    assert "examples_without_answer" in _check(tmp_path, embedded)[2]


def test_at_most_twenty_ids_are_named(tmp_path: Path, embedded: Examples) -> None:
    for example in embedded["train"]:
        example["qa"]["exe_ans"] = "yes" if example["qa"]["exe_ans"] == "no" else "no"
    finding = _check(tmp_path, embedded)[2]["values_that_differ_from_exe_ans"]
    assert (finding["count"], len(finding["ids"]), len(finding["reasons"])) == (40, 20, 20)


def test_a_folder_without_the_files_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="finrank download"):
        check(tmp_path)


def test_counts_by_split_and_by_severity_add_up(tmp_path: Path, embedded: Examples) -> None:
    for example in (*embedded["train"][:3], embedded["dev"][0]):
        example["qa"]["exe_ans"] = 123456789.0
    _, report, _ = _check(tmp_path, embedded)
    assert _named(report, "values_that_differ_from_exe_ans")["splits"] == {"train": 3, "dev": 1, "test": 0}
    of_severity = dict.fromkeys(("error", "warning", "note"), 0)
    for finding in report["findings"]:
        assert finding["count"] == sum(finding["splits"].values())
        assert finding["what_to_do"]
        of_severity[finding["severity"]] += finding["count"]
    assert list(of_severity.values()) == [report["errors"], report["warnings"], report["notes"]]


def test_a_note_is_counted_but_does_not_fail_even_under_strict(tmp_path: Path, embedded: Examples) -> None:
    before = _check(tmp_path, embedded)[1]
    embedded["train"][0]["qa"]["answer"] = ""
    code, report, findings = _check(tmp_path / "again", embedded, strict=True)
    assert (code, findings) == (0, {})
    missing = _named(report, "answer_texts_missing")
    assert (missing["count"], missing["ids"]) == (1, [embedded["train"][0]["id"]])
    assert missing["reasons"][0].startswith("'' for ")
    assert _named(before, "answer_texts_missing")["count"] == 0


def test_notes_are_on_screen_only_when_asked_for(
    tmp_path: Path, embedded: Examples, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_raw(tmp_path / "raw", **embedded)
    _, report, found = run_check(raw)
    brief = capsys.readouterr().out
    assert "note:" not in brief
    assert f"{report['notes']} notes of {len(found)} kinds" in brief
    assert "--notes" in brief
    assert run_check(raw, notes=True)[1] == report
    full = capsys.readouterr().out
    assert full.count("note:") == len(found) > 1
    assert "--notes" not in full


def test_a_quirk_of_an_example_is_named_with_its_text(tmp_path: Path, embedded: Examples) -> None:
    embedded["dev"][0]["table"].append(["one more row", *["$ 2014"] * (len(embedded["dev"][0]["table"][0]) - 1)])
    finding = _named(_check(tmp_path, embedded)[1], "dashes_in_cells")
    assert (finding["splits"]["dev"], finding["ids"]) == (1, [embedded["dev"][0]["id"]])
    assert "'$ 2014'" in finding["reasons"][0]


def _asked_again(embedded: Examples, **qa: Any) -> None:
    """Put the first question in a second time, with fields of its `qa` changed."""
    example = copy.deepcopy(embedded["train"][0])
    embedded["train"].append(example | {"id": "another id", "qa": example["qa"] | qa})


def test_a_question_in_other_spelling_is_a_near_duplicate(tmp_path: Path, embedded: Examples) -> None:
    _asked_again(embedded, question=embedded["train"][0]["qa"]["question"].upper() + " ?")
    findings = _check(tmp_path, embedded)[2]
    assert list(findings) == ["near_duplicate_questions"]
    assert findings["near_duplicate_questions"]["ids"] == ["another id"]


def test_a_question_asked_twice_with_other_answers_is_named(tmp_path: Path, embedded: Examples) -> None:
    _asked_again(embedded, program=None, exe_ans=987654.0, answer="987654")
    findings = _check(tmp_path, embedded)[2]
    repeated = findings.pop("repeated_questions_with_other_answers")
    assert set(findings) == {"duplicate_questions", "examples_without_program"}
    assert "and 987654.0 for" in repeated["reasons"][0]


def test_a_question_asked_twice_with_other_programs_is_a_note(tmp_path: Path, embedded: Examples) -> None:
    embedded["train"][0]["qa"] |= {"program": "add(1, 2)", "exe_ans": 3.0, "answer": "3"}
    _asked_again(embedded, program="add(2, 1)")
    report = _check(tmp_path, embedded)[1]
    assert _named(report, "repeated_questions_with_other_programs")["ids"] == ["another id"]
    assert _named(report, "repeated_questions_with_other_answers")["count"] == 0


def test_the_same_question_on_another_page_is_not_a_repetition(tmp_path: Path, embedded: Examples) -> None:
    _asked_again(embedded)
    embedded["train"][-1]["filename"] = "X/2008/page_1.pdf"
    assert "duplicate_questions" not in _check(tmp_path, embedded)[2]


def test_memory_grows_by_far_less_than_the_examples(tmp_path: Path) -> None:
    example = generate(train=1, dev=1, test=1)["train"][0] | {"pre_text": ["word " * 2000]}
    size = len(json.dumps(example))

    def peak(examples: int) -> int:
        elements = (json.dumps(example | {"id": f"id {n}", "filename": f"page {n}"}) for n in range(examples))
        raw = write_raw(tmp_path / "raw", train=f"[{','.join(elements)}]".encode())
        tracemalloc.start()
        try:
            check(raw, config=["none"])
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # imports and caches
    assert peak(300) - peak(100) < 200 * size / 10


def test_check_starts_without_the_heavy_libraries() -> None:
    code = (
        "import finrank.commands.check, sys; "
        "print([name for name in ('torch', 'transformers', 'sympy', 'numpy') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_a_whole_check_runs_without_torch(tmp_path: Path, embedded: Examples) -> None:
    raw = write_raw(tmp_path / "raw", **embedded)
    code = (
        "import sys; from pathlib import Path; from finrank.commands.check import check; "
        f"check(Path({str(raw)!r}), config=['configs/models/minilm.yaml']); print('torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip().endswith("False")
