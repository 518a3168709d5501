"""Stage 00: read every raw example and report what is wrong with the data, before anything is built on it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Column, Table

from finrank.console import Reading, console, say, track
from finrank.errors import UserError
from finrank.programs.value import answer_key
from finrank.records import Answer
from finrank.sources.answer_text import answer_text_of, compare_answer
from finrank.sources.findings import KINDS, Finding
from finrank.sources.finqa import Example, Fault, ProgramProblem, finqa_files, gold_of, read_elements, to_example
from finrank.sources.quirks import question_words, quirks_of
from finrank.store import write_json

_FINDING_OF_PROBLEM: dict[ProgramProblem, str] = {
    "does not parse": "programs_that_do_not_parse",
    "does not execute": "programs_that_do_not_execute",
    "disagrees with exe_ans": "values_that_differ_from_exe_ans",
}


def run(input_dir: Path, *, json_path: Path | None = None, strict: bool = False, configs: Sequence[Path] = ()) -> int:
    """Report on the raw files of a folder as a table and, with `json_path`, as JSON; return the exit code.

    It is 1 when there are errors, or under `strict` when there are warnings; else 0: notes never fail. The JSON holds
    input_dir, splits ({"train": {"examples", "pages", "with_program", "with_gold_inds"}}), findings ([{"name",
    "severity", "count", "splits", "ids", "reasons", "what_to_do"}], "splits" being the count by split, at most 20 ids
    each), the sums of their counts, errors, warnings and notes, and survival: what of the gold operands reaches the
    model of each of `configs` (see survival.report; losing too many counts as a warning). Raises UserError when the
    folder has none of the files or a config cannot be read.
    """
    report = _Report()
    for split, path in finqa_files(input_dir).items():
        report.start(split)
        reading = Reading.of(path)
        for found, answer_text in track(_examples(path, reading), path.name, reading=reading):
            report.add(split, found, answer_text)
        report.end(split, path)
    report.add_shared_pages()
    result = report.as_json(input_dir)
    _show(result)
    result["survival"] = _survival(input_dir, configs)
    if json_path is not None:
        write_json(json_path, result)
    warned = result["warnings"] or any(row["losing_splits"] for row in result["survival"])
    return 1 if result["errors"] or (strict and warned) else 0


def _survival(input_dir: Path, configs: Sequence[Path]) -> list[dict[str, Any]]:
    if not configs:
        return []
    from finrank.evaluation import survival

    return survival.report(input_dir, configs)


def _examples(path: Path, reading: Reading) -> Iterator[tuple[Example | Fault, Any]]:
    """The examples and faults of a file with their `qa.answer`; a file that cannot be read at all is one fault."""
    try:
        for element in read_elements(path, reading):
            yield to_example(element), answer_text_of(element.value)
    except UserError as error:
        yield Fault(path.name, 0, None, str(error)), None


@dataclass
class _Split:
    examples: int = 0
    with_program: int = 0
    with_gold_inds: int = 0
    pages: set[str] = field(default_factory=set)


class _Asked(NamedTuple):
    """A question seen before: digests of its wording and its program, and its gold answer."""

    wording: bytes
    program: bytes | None
    answer: Answer | None


class _Report:
    """What was seen so far. Holds page names and digests of ids and questions, not the examples."""

    def __init__(self) -> None:
        self.splits: dict[str, _Split] = {}
        self.findings = {name: Finding() for name in KINDS}
        self._ids: set[bytes] = set()
        self._asked: dict[bytes, _Asked] = {}
        self._wordings: set[bytes] = set()

    def start(self, split: str) -> None:
        self.splits[split] = _Split()
        for finding in self.findings.values():
            finding.splits[split] = 0

    def end(self, split: str, path: Path) -> None:
        faulty = self.findings["schema_faults"].splits[split]
        if not self.splits[split].examples and not faulty:
            self.findings["files_without_examples"].add(split, path.name, "the list is empty")

    def add(self, split: str, found: Example | Fault, answer_text: Any) -> None:
        if isinstance(found, Fault):
            place = f"{found.file}[{found.index}]"
            reason = f"{place}: {found.reason}" if found.id else found.reason
            self.findings["schema_faults"].add(split, found.id or place, reason)
            return
        counts = self.splits[split]
        counts.examples += 1
        counts.pages.add(found.filename)
        counts.with_program += found.qa.program is not None
        counts.with_gold_inds += bool(found.qa.gold_inds)
        for name, reason in self._findings_of(found, answer_text):
            self.findings[name].add(split, found.id, reason)

    def _findings_of(self, example: Example, answer_text: Any) -> Iterator[tuple[str, str]]:
        """Names of the findings that this example adds to, each with the reason."""
        gold = gold_of(example)
        if gold.problem is not None:
            yield _FINDING_OF_PROBLEM[gold.problem], gold.reason
        if example.qa.program is None:
            yield "examples_without_program", ""
            if example.qa.exe_ans is None:
                yield "examples_without_answer", ""
        if not example.qa.gold_inds:
            yield "examples_without_gold_inds", ""
        if noise := compare_answer(answer_text, example.qa.exe_ans):
            shown = repr(answer_text[:100]) if isinstance(answer_text, str) else type(answer_text).__name__
            yield noise, f"{shown} for {example.qa.exe_ans}"
        yield from self._repetitions(example, gold.answer)
        yield from quirks_of(example)

    def _repetitions(self, example: Example, answer: Answer | None) -> Iterator[tuple[str, str]]:
        """Whether the id or the question was seen before, and with what program and answer."""
        identifier = _digest(example.id)
        if identifier in self._ids:
            yield "duplicate_ids", ""
        self._ids.add(identifier)
        question = example.qa.question
        program = None if example.qa.program is None else _digest(example.qa.program)
        asked = _Asked(_digest(example.filename, question), program, answer)
        earlier = self._asked.setdefault(_digest(example.filename, question_words(question)), asked)
        if asked.wording in self._wordings:
            yield "duplicate_questions", repr(question)
        elif earlier is not asked:
            yield "near_duplicate_questions", repr(question)
        self._wordings.add(asked.wording)
        if earlier is asked or answer is None or earlier.answer is None:
            return
        if answer_key(answer) != answer_key(earlier.answer):
            yield "repeated_questions_with_other_answers", f"{earlier.answer} and {answer} for {question!r}"
        elif None not in (program, earlier.program) and program != earlier.program:
            yield "repeated_questions_with_other_programs", f"{example.qa.program} for {question!r}"

    def add_shared_pages(self) -> None:
        """Count pages that more than one split has, in the first of them; their "ids" are page names."""
        splits_of: defaultdict[str, list[str]] = defaultdict(list)
        for split, counts in self.splits.items():
            for page in counts.pages:
                splits_of[page].append(split)
        for page in sorted(page for page, splits in splits_of.items() if len(splits) > 1):
            splits = splits_of[page]
            self.findings["pages_shared_across_splits"].add(splits[0], page, f"in {' and '.join(splits)}")

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
                "severity": KINDS[name].severity,
                "count": finding.count,
                "splits": finding.splits,
                "ids": finding.ids,
                "reasons": finding.reasons,
                "what_to_do": KINDS[name].what_to_do,
            }
            for name, finding in self.findings.items()
        ]
        sums = {"error": 0, "warning": 0, "note": 0}
        for name, finding in self.findings.items():
            sums[KINDS[name].severity] += finding.count
        return {
            "input_dir": str(input_dir),
            "splits": splits,
            "findings": findings,
            "errors": sums["error"],
            "warnings": sums["warning"],
            "notes": sums["note"],
        }


def _digest(*texts: str) -> bytes:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=8).digest()


def _show(result: dict[str, Any]) -> None:
    """Print the report: counts per split, then the findings, worst first, with up to three ids each."""
    counts = Table("split", "examples", "pages", "with program", "with gold_inds", title=escape(result["input_dir"]))
    for split, row in result["splits"].items():
        counts.add_row(split, *(str(number) for number in row.values()))
    console.print(counts)
    findings = Table("finding", "count", Column("such as", overflow="fold"), "what to do", show_lines=True)
    worst_first = ("error", "warning", "note")
    for finding in sorted(result["findings"], key=lambda finding: worst_first.index(finding["severity"])):
        if finding["count"]:
            most = 1 if finding["severity"] == "note" else 3
            named = zip(finding["ids"][:most], finding["reasons"], strict=False)
            such_as = "\n".join(f"{identifier}: {reason}".removesuffix(": ") for identifier, reason in named)
            label = f"{finding['severity']}: {finding['name'].replace('_', ' ')}"
            findings.add_row(label, str(finding["count"]), escape(such_as), finding["what_to_do"])
    if findings.row_count:
        console.print(findings)
    say(f"{result['errors']} errors, {result['warnings']} warnings, {result['notes']} notes")
