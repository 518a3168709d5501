"""Stage 00: read every raw example and report what is wrong with the data, before anything is built on it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape
from rich.table import Column, Table

from finrank.console import console, say, track
from finrank.sources.finqa import Example, Fault, ProgramProblem, finqa_files, gold_of, read_examples
from finrank.store import write_json

_MOST_IDS = 20  # named per finding


@dataclass
class Finding:
    """One kind of fault: how often it was seen, the first ids with the reasons, and how to mend it."""

    severity: Literal["error", "warning"]
    what_to_do: str
    count: int = 0
    ids: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)  # one per id

    def add(self, identifier: str, reason: str) -> None:
        self.count += 1
        if len(self.ids) < _MOST_IDS:
            self.ids.append(identifier)
            self.reasons.append(reason)


def _all_findings() -> dict[str, Finding]:
    return {
        "schema_faults": Finding("error", "mend the element, or let prepare leave it out"),
        "programs_that_do_not_parse": Finding("error", "mend qa.program, or remove it to keep exe_ans alone"),
        "programs_that_do_not_execute": Finding("error", "mend qa.program, or remove it to keep exe_ans alone"),
        "values_that_differ_from_exe_ans": Finding("error", "decide which is right; prepare leaves the example out"),
        "duplicate_ids": Finding("error", "give each example an id of its own; prepare keeps one"),
        "pages_shared_across_splits": Finding("error", "move the page to one split; prepare takes it out of train"),
        "duplicate_questions": Finding("warning", "remove one: same page, same question"),
        "ragged_tables": Finding("warning", "look at the rows: their numbers of cells differ"),
        "examples_without_program": Finding("warning", "none needed; candidates made from gold leave them out"),
        "examples_without_answer": Finding("warning", "neither program nor exe_ans: of no use for training"),
        "examples_without_gold_inds": Finding("warning", "none needed; evidence is then not measured for them"),
    }


_FINDING_OF_PROBLEM: dict[ProgramProblem, str] = {
    "does not parse": "programs_that_do_not_parse",
    "does not execute": "programs_that_do_not_execute",
    "disagrees with exe_ans": "values_that_differ_from_exe_ans",
}


@dataclass
class _Split:
    examples: int = 0
    with_program: int = 0
    with_gold_inds: int = 0
    pages: set[str] = field(default_factory=set)


def run(input_dir: Path, *, json_path: Path | None = None, strict: bool = False) -> int:
    """Report on the raw files of a folder as a table and, with `json_path`, as JSON; return the exit code.

    It is 1 when there are errors, or under `strict` when there are warnings; else 0. The JSON holds input_dir,
    splits ({"train": {"examples", "pages", "with_program", "with_gold_inds"}}), findings ([{"name", "severity",
    "count", "ids", "reasons", "what_to_do"}], at most 20 ids each) and the sums of their counts, errors and
    warnings. Raises UserError when the folder has none of the files.
    """
    report = _Report()
    for split, path in finqa_files(input_dir).items():
        for found in track(read_examples(path), path.name):
            report.add(split, found)
    report.add_shared_pages()
    result = report.as_json(input_dir)
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_path, result)
    _show(result)
    return 1 if result["errors"] or (strict and result["warnings"]) else 0


class _Report:
    """What was seen so far. Holds ids, page names and a digest per question, not the examples."""

    def __init__(self) -> None:
        self.splits: dict[str, _Split] = {}
        self.findings = _all_findings()
        self._ids: set[str] = set()
        self._questions: set[bytes] = set()

    def add(self, split: str, found: Example | Fault) -> None:
        counts = self.splits.setdefault(split, _Split())
        if isinstance(found, Fault):
            place = f"{found.file}[{found.index}]"
            reason = f"{place}: {found.reason}" if found.id else found.reason
            self.findings["schema_faults"].add(found.id or place, reason)
            return
        counts.examples += 1
        counts.pages.add(found.filename)
        counts.with_program += found.qa.program is not None
        counts.with_gold_inds += bool(found.qa.gold_inds)
        gold = gold_of(found)
        if gold.problem is not None:
            self.findings[_FINDING_OF_PROBLEM[gold.problem]].add(found.id, gold.reason)
        for name in self._other_faults(found):
            self.findings[name].add(found.id, "")

    def _other_faults(self, example: Example) -> list[str]:
        """Names of the findings that this example adds to, its program's aside."""
        question = hashlib.sha256(f"{example.filename}\n{example.qa.question}".encode()).digest()
        applies = {
            "duplicate_ids": example.id in self._ids,
            "duplicate_questions": question in self._questions,
            "ragged_tables": len({len(row) for row in example.table}) > 1,
            "examples_without_program": example.qa.program is None,
            "examples_without_answer": example.qa.program is None and example.qa.exe_ans is None,
            "examples_without_gold_inds": not example.qa.gold_inds,
        }
        self._ids.add(example.id)
        self._questions.add(question)
        return [name for name, seen in applies.items() if seen]

    def add_shared_pages(self) -> None:
        """Count pages that more than one split has; their "ids" are page names."""
        splits_of: defaultdict[str, list[str]] = defaultdict(list)
        for split, counts in self.splits.items():
            for page in counts.pages:
                splits_of[page].append(split)
        for page in sorted(page for page, splits in splits_of.items() if len(splits) > 1):
            self.findings["pages_shared_across_splits"].add(page, f"in {' and '.join(splits_of[page])}")

    def as_json(self, input_dir: Path) -> dict[str, Any]:
        splits = {
            split: {
                "examples": counts.examples,
                "pages": len(counts.pages),
                "with_program": counts.with_program,
                "with_gold_inds": counts.with_gold_inds,
            }
            for split, counts in self.splits.items()
        }
        findings = [
            {
                "name": name,
                "severity": finding.severity,
                "count": finding.count,
                "ids": finding.ids,
                "reasons": finding.reasons,
                "what_to_do": finding.what_to_do,
            }
            for name, finding in self.findings.items()
        ]
        sums = {"error": 0, "warning": 0}
        for finding in self.findings.values():
            sums[finding.severity] += finding.count
        return {
            "input_dir": str(input_dir),
            "splits": splits,
            "findings": findings,
            "errors": sums["error"],
            "warnings": sums["warning"],
        }


def _show(result: dict[str, Any]) -> None:
    """Print the report: counts per split, then the findings with up to three ids each."""
    counts = Table("split", "examples", "pages", "with program", "with gold_inds", title=escape(result["input_dir"]))
    for split, row in result["splits"].items():
        counts.add_row(split, *(str(number) for number in row.values()))
    console.print(counts)
    findings = Table("finding", "count", Column("such as", overflow="fold"), "what to do", show_lines=True)
    for finding in result["findings"]:
        if finding["count"]:
            named = zip(finding["ids"][:3], finding["reasons"], strict=False)
            such_as = "\n".join(f"{identifier}: {reason}".removesuffix(": ") for identifier, reason in named)
            label = f"{finding['severity']}: {finding['name'].replace('_', ' ')}"
            findings.add_row(label, str(finding["count"]), escape(such_as), finding["what_to_do"])
    if findings.row_count:
        console.print(findings)
    say(f"{result['errors']} errors, {result['warnings']} warnings")
