"""Findings of `finrank check`: their kinds, what finrank does about each, and the report on raw files.

error     the example is left out, or spoils a split: mend it
warning   the example is kept, but a label, a page or a question may be wrong: look at it
note      harmless: nothing to do
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from finrank.programs.value import same_answer
from finrank.records import Answer
from finrank.sources.finqa import FILES, Example, ProgramProblem, gold_of
from finrank.sources.quirks import question_words, quirks_of
from finrank.store.json_lines import BadLine

_MAX_IDS = 20  # named per finding
_LONGEST_ID, _LONGEST_REASON = 200, 300  # characters

_ANSWER = "qa.answer is not used: exe_ans is the answer"
_SUSPECT = f"{_ANSWER}; one of the two is wrong, look at it"

# By name: the severity, and what finrank does or the user can do about it.
KINDS: dict[str, tuple[Literal["error", "warning", "note"], str]] = {
    # files and elements
    "schema_faults": ("error", "mend the element, or let prepare leave it out"),
    "files_without_examples": ("warning", "the list is empty: nothing of this split goes on"),
    "oversized_texts": ("warning", "kept, but too long for any prompt and not looked into here: shorten it"),
    # programs and answers
    "programs_that_do_not_parse": ("error", "mend qa.program, or remove it to keep exe_ans alone"),
    "programs_that_do_not_execute": ("error", "mend qa.program, or remove it to keep exe_ans alone"),
    "values_that_differ_from_exe_ans": ("error", "decide which is right; prepare leaves the example out"),
    "examples_without_program": ("warning", "none needed; candidates made from gold leave them out"),
    "examples_without_answer": ("warning", "neither program nor exe_ans: of no use for training"),
    "unused_program_steps": ("warning", "kept: the last step gives the value; look whether that was meant"),
    "operands_nowhere_on_the_page": ("warning", "kept; the prompt writes the number without a label"),
    "table_steps_on_repeated_labels": ("warning", "kept: the last row of that label counts, as officially"),
    "table_steps_on_dashes": ("warning", "kept: the dash counts as the number 2013 or 2014, as officially"),
    "operands_only_in_the_question": ("note", "kept; the prompt writes the number without a label"),
    "operands_in_several_cells": ("note", "the label that shares most words with the question is written"),
    "constants_written_as_numbers": ("note", "kept: the value is the same as with const_; it gets no label"),
    "constants_outside_the_list": ("note", "kept: const_ and any number executes"),
    # answer texts
    "answer_texts_missing": ("note", _ANSWER),
    "answer_texts_with_words": ("note", _ANSWER),
    "answer_texts_rounded_otherwise": ("note", _ANSWER),
    "percent_answers_of_fractions": ("note", f"{_ANSWER}; the prompt writes small values in percent too"),
    "percent_answers_of_percentages": ("note", f"{_ANSWER}, here already in percent"),
    "percent_answers_without_sign": ("note", f"{_ANSWER}, here a fraction"),
    "answer_texts_of_other_sign": ("warning", _SUSPECT),
    "answer_texts_of_other_scale": ("warning", _SUSPECT),
    "answer_texts_that_disagree": ("warning", _SUSPECT),
    # identity
    "duplicate_ids": ("error", "give each example an id of its own; prepare keeps one"),
    "pages_shared_across_splits": ("error", "move the page to one split; prepare takes it out of train"),
    "duplicate_questions": ("warning", "same page, same question: prepare keeps both; remove one"),
    "near_duplicate_questions": ("warning", "same page, same words: prepare keeps both; remove one"),
    "repeated_questions_with_other_answers": ("warning", "prepare keeps both answers; one of the two is wrong"),
    "repeated_questions_with_other_programs": ("note", "kept: every program of the right value is correct"),
    # pages
    "pages_without_table": ("warning", "kept; only the text is read"),
    "pages_without_text": ("warning", "kept; only the table is read"),
    "pages_without_numbers": ("warning", "kept; no candidate can take a number from the page"),
    "ragged_tables": ("warning", "look at the rows: their numbers of cells differ"),
    "tables_without_header": ("note", "the first row is taken for the header all the same; programs can read it"),
    "duplicate_row_labels": ("note", "a table operation reads the last of them, as officially"),
    "duplicate_column_labels": ("note", "kept: the prompt writes both columns alike"),
    "rows_without_label": ("note", "kept: their numbers are labelled by column alone"),
    "columns_without_label": ("note", "kept: their numbers are labelled by row alone"),
    # forms of numbers and characters
    "percent_cells": ("note", "read as a fraction (22% is 0.22); the prompt drops the second writing"),
    "negative_cells": ("note", "read as negative; the prompt drops the second writing"),
    "bracketed_cells": ("note", "candidates read a negative number; a table operation on the row fails, as officially"),
    "unreadable_bracketed_cells": ("note", "no number for programs, and none is taken; the prompt keeps the text"),
    "dashes_in_cells": ("note", "read as the number 2013 or 2014, as officially; candidates take it for a year"),
    "broken_characters_in_text": ("note", "kept as written; candidates take a year only after words like in or of"),
    "broken_characters_in_labels": ("note", "kept as written: a table operation needs the label as it stands"),
    "broken_characters_in_questions": ("note", "kept as written"),
    "glued_dates": ("note", "kept as written: a table operation needs the label as it stands"),
    # evidence
    "examples_without_gold_inds": ("warning", "none needed; evidence is then not measured for them"),
}

_FINDING_OF_PROBLEM: dict[ProgramProblem, str] = {
    "does not parse": "programs_that_do_not_parse",
    "does not execute": "programs_that_do_not_execute",
    "disagrees with exe_ans": "values_that_differ_from_exe_ans",
}


@dataclass
class _FindingCount:
    """How often a finding was made in each split, and the first ids, with a reason for each."""

    splits: dict[str, int]
    ids: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def add(self, split: str, identifier: str, reason: str) -> None:
        self.splits[split] += 1
        if len(self.ids) < _MAX_IDS:
            self.ids.append(_printable(identifier, _LONGEST_ID))
            self.reasons.append(_printable(reason, _LONGEST_REASON))


def _printable(text: str, longest: int) -> str:
    """A text cut to length, characters that UTF-8 cannot write replaced."""
    short = text if len(text) <= longest else text[: longest - 3] + "..."
    return short.encode("utf-8", "replace").decode()


@dataclass
class _SplitCounts:
    examples: int = 0
    pages: set[str] = field(default_factory=set)
    with_program: int = 0
    with_gold_inds: int = 0


class RawReport:
    """Counts of raw files by split, and the findings in them.

    Add every example, then `finish`. Memory holds page names and hashes of ids and questions, not the examples.
    """

    def __init__(self, splits: Iterable[str]) -> None:
        self.splits = {split: _SplitCounts() for split in splits}
        self.findings = {name: _FindingCount(dict.fromkeys(self.splits, 0)) for name in KINDS}
        self._ids: set[int] = set()
        self._wordings: set[int] = set()
        # by the words of a question: answer and hashed program of its first occurrence
        self._asked: dict[int, tuple[Answer | None, int | None]] = {}

    def add(self, split: str, example: Example | BadLine) -> None:
        """Count an example and its findings, or an element that is not an example."""
        if isinstance(example, BadLine):
            position = f"{example.file}[{example.line}]"
            reason = f"{position}: {example.reason}" if example.id else example.reason
            self.findings["schema_faults"].add(split, example.id or position, reason)
            return
        counts = self.splits[split]
        counts.examples += 1
        counts.pages.add(example.filename)
        counts.with_program += example.qa.program is not None
        counts.with_gold_inds += bool(example.qa.gold_inds)
        for name, reason in self._findings_of(example):
            self.findings[name].add(split, example.id, reason)

    def _findings_of(self, example: Example) -> Iterator[tuple[str, str]]:
        """The example's findings by name, each with the reason."""
        gold = gold_of(example)
        if gold.problem is not None:
            yield _FINDING_OF_PROBLEM[gold.problem], gold.reason
        if example.qa.program is None:
            yield "examples_without_program", ""
            if example.qa.exe_ans is None:
                yield "examples_without_answer", ""
        if not example.qa.gold_inds:
            yield "examples_without_gold_inds", ""
        yield from self._repetitions(example, gold.answer)
        yield from quirks_of(example)

    def _repetitions(self, example: Example, answer: Answer | None) -> Iterator[tuple[str, str]]:
        """Earlier occurrences of the id or the question, and whether they have the same answer and program."""
        identifier, question = hash(example.id), example.qa.question
        if identifier in self._ids:
            yield "duplicate_ids", ""
        self._ids.add(identifier)
        program = None if example.qa.program is None else hash(example.qa.program)
        wording, words = (hash((example.filename, text)) for text in (question, question_words(question)))
        if words in self._asked:
            yield ("duplicate_questions" if wording in self._wordings else "near_duplicate_questions"), repr(question)
        self._wordings.add(wording)
        first_answer, first_program = self._asked.setdefault(words, (answer, program))
        if answer is None or first_answer is None:
            return
        if not same_answer(answer, first_answer):
            yield "repeated_questions_with_other_answers", f"{first_answer} and {answer} for {question!r}"
        elif None not in (program, first_program) and program != first_program:
            yield "repeated_questions_with_other_programs", f"{example.qa.program} for {question!r}"

    def finish(self) -> None:
        """Add the findings that need whole splits: empty files, and pages that more than one split has."""
        splits_of: defaultdict[str, list[str]] = defaultdict(list)
        for split, counts in self.splits.items():
            if not counts.examples and not self.findings["schema_faults"].splits[split]:
                self.findings["files_without_examples"].add(split, FILES[split], "the list is empty")
            for page in counts.pages:
                splits_of[page].append(split)
        for page, splits in sorted(splits_of.items()):
            if len(splits) > 1:
                self.findings["pages_shared_across_splits"].add(splits[0], page, f"in {' and '.join(splits)}")

    def as_json(self) -> dict[str, Any]:
        """Sizes of the splits, every kind of finding with its count, and the counts by severity."""
        sizes = {split: {**vars(counts), "pages": len(counts.pages)} for split, counts in self.splits.items()}
        sums = {"errors": 0, "warnings": 0, "notes": 0}
        findings = []
        for name, (severity, what_to_do) in KINDS.items():
            finding = self.findings[name]
            count = sum(finding.splits.values())
            sums[f"{severity}s"] += count
            row = {"name": name, "severity": severity, "count": count, **vars(finding), "what_to_do": what_to_do}
            findings.append(row)
        return {"splits": sizes, "findings": findings, **sums}
