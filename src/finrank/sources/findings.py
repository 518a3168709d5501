"""What `finrank check` looks for: every finding's name, how bad it is, and what finrank does about it.

error     the example is left out, or spoils a split: mend it
warning   the example is kept, but a label, a page or a question may be wrong: look at it
note      harmless, the pipeline copes with it: nothing to do
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]

MOST_IDS = 20  # named per finding
_LONGEST_ID, _LONGEST_REASON = 200, 300  # characters


class Kind(NamedTuple):
    """A kind of finding: its severity, and what finrank does or the user can do about it."""

    severity: Severity
    what_to_do: str


_ANSWER = "qa.answer is not used: exe_ans is the answer"
_SUSPECT = f"{_ANSWER}; one of the two is wrong, look at it"

KINDS: dict[str, Kind] = {
    # files and elements
    "schema_faults": Kind("error", "mend the element, or let prepare leave it out"),
    "files_without_examples": Kind("warning", "the list is empty: nothing of this split goes on"),
    "oversized_texts": Kind("warning", "kept, but too long for any prompt and not looked into here: shorten it"),
    # programs and answers
    "programs_that_do_not_parse": Kind("error", "mend qa.program, or remove it to keep exe_ans alone"),
    "programs_that_do_not_execute": Kind("error", "mend qa.program, or remove it to keep exe_ans alone"),
    "values_that_differ_from_exe_ans": Kind("error", "decide which is right; prepare leaves the example out"),
    "examples_without_program": Kind("warning", "none needed; candidates made from gold leave them out"),
    "examples_without_answer": Kind("warning", "neither program nor exe_ans: of no use for training"),
    "unused_program_steps": Kind("warning", "kept: the last step gives the value; look whether that was meant"),
    "operands_nowhere_on_the_page": Kind("warning", "kept; the prompt writes the number without a label"),
    "table_steps_on_repeated_labels": Kind("warning", "kept: the last row of that label counts, as officially"),
    "table_steps_on_dashes": Kind("warning", "kept: the dash counts as the number 2013 or 2014, as officially"),
    "operands_only_in_the_question": Kind("note", "kept; the prompt writes the number without a label"),
    "operands_in_several_cells": Kind("note", "the label that shares most words with the question is written"),
    "constants_written_as_numbers": Kind("note", "kept: the value is the same as with const_; it gets no label"),
    "constants_outside_the_list": Kind("note", "kept: const_ and any number executes"),
    # answer texts
    "answer_texts_missing": Kind("note", _ANSWER),
    "answer_texts_with_words": Kind("note", _ANSWER),
    "answer_texts_rounded_otherwise": Kind("note", _ANSWER),
    "percent_answers_of_fractions": Kind("note", f"{_ANSWER}; the prompt writes small values in percent too"),
    "percent_answers_of_percentages": Kind("note", f"{_ANSWER}, here already in percent"),
    "percent_answers_without_sign": Kind("note", f"{_ANSWER}, here a fraction"),
    "answer_texts_of_other_sign": Kind("warning", _SUSPECT),
    "answer_texts_of_other_scale": Kind("warning", _SUSPECT),
    "answer_texts_that_disagree": Kind("warning", _SUSPECT),
    # identity
    "duplicate_ids": Kind("error", "give each example an id of its own; prepare keeps one"),
    "pages_shared_across_splits": Kind("error", "move the page to one split; prepare takes it out of train"),
    "duplicate_questions": Kind("warning", "same page, same question: prepare keeps both; remove one"),
    "near_duplicate_questions": Kind("warning", "same page, same words: prepare keeps both; remove one"),
    "repeated_questions_with_other_answers": Kind("warning", "prepare keeps both answers; one of the two is wrong"),
    "repeated_questions_with_other_programs": Kind("note", "kept: every program of the right value is correct"),
    # pages
    "pages_without_table": Kind("warning", "kept; only the text is read"),
    "pages_without_text": Kind("warning", "kept; only the table is read"),
    "pages_without_numbers": Kind("warning", "kept; no candidate can take a number from the page"),
    "ragged_tables": Kind("warning", "look at the rows: their numbers of cells differ"),
    "tables_without_header": Kind("note", "the first row is taken for the header all the same; programs can read it"),
    "duplicate_row_labels": Kind("note", "a table operation reads the last of them, as officially"),
    "duplicate_column_labels": Kind("note", "kept: the prompt writes both columns alike"),
    "rows_without_label": Kind("note", "kept: their numbers are labelled by column alone"),
    "columns_without_label": Kind("note", "kept: their numbers are labelled by row alone"),
    # forms of numbers and characters
    "percent_cells": Kind("note", "read as a fraction (22% is 0.22); the prompt drops the second writing"),
    "negative_cells": Kind("note", "read as negative; the prompt drops the second writing"),
    "bracketed_cells": Kind(
        "note", "candidates read a negative number; a table operation on the row fails, as officially"
    ),
    "unreadable_bracketed_cells": Kind("note", "no number for programs, and none is taken; the prompt keeps the text"),
    "dashes_in_cells": Kind("note", "read as the number 2013 or 2014, as officially; candidates take it for a year"),
    "broken_characters_in_text": Kind("note", "kept as written; candidates take a year only after words like in or of"),
    "broken_characters_in_labels": Kind("note", "kept as written: a table operation needs the label as it stands"),
    "broken_characters_in_questions": Kind("note", "kept as written"),
    "glued_dates": Kind("note", "kept as written: a table operation needs the label as it stands"),
    # evidence
    "examples_without_gold_inds": Kind("warning", "none needed; evidence is then not measured for them"),
}


@dataclass
class Finding:
    """How often a kind was seen in each split, and the first ids with the reasons."""

    splits: dict[str, int] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)  # one per id

    @property
    def count(self) -> int:
        return sum(self.splits.values())

    def add(self, split: str, identifier: str, reason: str) -> None:
        """Count one; `MOST_IDS` are named, in a form that any output can hold."""
        self.splits[split] = self.splits.get(split, 0) + 1
        if len(self.ids) < MOST_IDS:
            self.ids.append(_printable(identifier, _LONGEST_ID))
            self.reasons.append(_printable(reason, _LONGEST_REASON))


def _printable(text: str, longest: int) -> str:
    """A text cut to length, characters that UTF-8 cannot write replaced."""
    short = text if len(text) <= longest else text[: longest - 3] + "..."
    return short.encode("utf-8", "replace").decode()
