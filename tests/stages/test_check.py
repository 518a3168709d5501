"""Stage 00: the report on raw files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finrank.sources.sample import generate
from finrank.stages import check
from finrank.store import UserError

Examples = dict[str, list[dict[str, Any]]]


@pytest.fixture
def sample() -> Examples:
    return generate(train=40, dev=10, test=10)


def _check(directory: Path, splits: Examples, strict: bool = False) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Exit code, the whole JSON report, and its findings with a count, by name."""
    raw = directory / "raw"
    raw.mkdir()
    for split, examples in splits.items():
        (raw / f"{split}.json").write_text(json.dumps(examples), encoding="utf-8")
    code = check.run(raw, json_path=directory / "new" / "report.json", strict=strict)
    report = json.loads((directory / "new" / "report.json").read_text(encoding="utf-8"))
    return code, report, {finding["name"]: finding for finding in report["findings"] if finding["count"]}


def test_the_sample_is_clean_even_under_strict(tmp_path: Path, sample: Examples) -> None:
    code, report, findings = _check(tmp_path, sample, strict=True)
    assert (code, report["errors"], report["warnings"], findings) == (0, 0, 0, {})
    assert report["input_dir"] == str(tmp_path / "raw")
    assert report["splits"]["train"]["examples"] == 40
    assert report["splits"]["train"]["with_program"] == report["splits"]["train"]["with_gold_inds"] == 40
    assert report["splits"]["dev"]["pages"] == len({example["filename"] for example in sample["dev"]})


def _spoil(sample: Examples, name: str) -> str:
    """Put one fault into the sample; the id that the report should name comes back."""
    example = sample["train"][0]
    qa = example["qa"]
    if name == "schema_faults":
        del example["table"]
    elif name == "programs_that_do_not_parse":
        qa["program"] = "about five"
    elif name == "programs_that_do_not_execute":
        qa["program"] = "divide(5, 0)"
    elif name == "values_that_differ_from_exe_ans":
        qa |= {"program": "add(1, 2)", "exe_ans": 4}
    elif name == "duplicate_ids":
        sample["dev"][0]["id"] = example["id"]
    elif name == "duplicate_questions":
        sample["train"].append(example | {"id": "another id"})
        return "another id"
    elif name == "pages_shared_across_splits":
        sample["dev"].append(example | {"id": "another id", "qa": qa | {"question": "another ?"}})
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


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_is_found_named_and_fails(tmp_path: Path, sample: Examples, name: str) -> None:
    identifier = _spoil(sample, name)
    code, report, findings = _check(tmp_path, sample)
    assert list(findings) == [name]
    assert findings[name]["severity"] == "error"
    assert (findings[name]["count"], findings[name]["ids"]) == (1, [identifier])
    assert (code, report["errors"], report["warnings"]) == (1, 1, 0)


@pytest.mark.parametrize("name", WARNINGS)
def test_each_warning_is_found_and_fails_only_under_strict(tmp_path: Path, sample: Examples, name: str) -> None:
    identifier = _spoil(sample, name)
    code, report, findings = _check(tmp_path, sample)
    assert list(findings) == [name]
    assert findings[name]["severity"] == "warning"
    assert (findings[name]["count"], findings[name]["ids"]) == (1, [identifier])
    assert (code, report["errors"], report["warnings"]) == (0, 0, 1)
    assert check.run(tmp_path / "raw", strict=True) == 1


def test_an_example_with_neither_program_nor_answer_is_named(tmp_path: Path, sample: Examples) -> None:
    sample["train"][0]["qa"] |= {"program": None, "exe_ans": None}
    assert "examples_without_answer" in _check(tmp_path, sample)[2]


def test_a_truncated_file_is_an_error_and_the_rest_is_counted(tmp_path: Path, sample: Examples) -> None:
    (tmp_path / "train.json").write_text(json.dumps(sample["train"])[:-10], encoding="utf-8")
    assert check.run(tmp_path, json_path=tmp_path / "report.json") == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["splits"]["train"]["examples"] == 39
    assert report["findings"][0]["ids"] == ["train.json[39]"]


def test_at_most_twenty_ids_are_named(tmp_path: Path, sample: Examples) -> None:
    for example in sample["train"]:
        example["qa"]["exe_ans"] = "yes" if example["qa"]["exe_ans"] == "no" else "no"
    finding = _check(tmp_path, sample)[2]["values_that_differ_from_exe_ans"]
    assert (finding["count"], len(finding["ids"]), len(finding["reasons"])) == (40, 20, 20)


def test_a_folder_without_the_files_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="finrank download"):
        check.run(tmp_path)


def test_real_finqa_has_no_errors(tmp_path: Path, finqa_dir: Path) -> None:
    assert check.run(finqa_dir, json_path=tmp_path / "report.json") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["splits"]["dev"]["examples"] == report["splits"]["dev"]["with_program"] == 883


def test_check_starts_without_the_heavy_libraries() -> None:
    code = (
        "import finrank.stages.check, sys; "
        "print([name for name in ('torch', 'transformers', 'sympy', 'numpy') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
