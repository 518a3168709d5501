"""Questions from files in the official FinQA layout (Chen et al., EMNLP 2021, github czyssrs/FinQA).

A file is a JSON list of examples: `id`, `filename`, `pre_text`, `post_text`, `table` and `qa {question,
answer, program, exe_ans, gold_inds}`. `program`, `exe_ans` and `gold_inds` may be missing; other fields are
ignored, and so is `qa.answer`, a text that often disagrees with the program.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from finrank.console import Reading
from finrank.errors import missing_data
from finrank.programs import ProgramError, parse
from finrank.programs.value import read_exe_ans, value_of
from finrank.records import Answer, Question
from finrank.store.json_lines import describe, id_of
from finrank.store.json_list import BrokenList, Malformed, stream_list

# The official files, in the order in which they are listed.
FILES = {split: f"{split}.json" for split in ("train", "dev", "test")}

# Characters of a cell, a sentence or any other text. Cells of FinQA have 200 at most, sentences 2,000.
LONGEST_TEXT = 100_000

# Executed values and `exe_ans` are both rounded to 5 decimals; large ones may differ in the last bits.
_ROUNDING = {"rel_tol": 1e-9, "abs_tol": 1.001e-5}

ProgramProblem = Literal["does not parse", "does not execute", "disagrees with exe_ans"]


def _cell(value: Any) -> Any:
    """A number in a cell becomes its text and null an empty cell; anything else is left to be refused."""
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    return value


def _program(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


# A limit makes pydantic refuse lone surrogates too: bytes that were not UTF-8, which no output file can hold.
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Filled = Annotated[Text, Field(pattern=r"\S")]
Cell = Annotated[Text, BeforeValidator(_cell)]


class QA(BaseModel):
    """The `qa` part of an example."""

    model_config = ConfigDict(frozen=True, strict=True)

    question: Filled
    program: Annotated[Text | None, BeforeValidator(_program)] = None
    exe_ans: Annotated[Answer | None, BeforeValidator(read_exe_ans)] = None
    gold_inds: dict[str, Any] | list[Any] | None = None


class Example(BaseModel):
    """One example of an official file, its fields checked."""

    model_config = ConfigDict(frozen=True, strict=True)

    id: Filled
    filename: Filled
    pre_text: list[Text]
    post_text: list[Text]
    table: list[list[Cell]]
    qa: QA


@dataclass(frozen=True)
class Fault:
    """An element of a file that is no example, or the point where the file breaks off; and why."""

    file: str
    index: int  # place in the list, from 0
    id: str | None
    reason: str
    breaks_off: bool = False  # nothing of the file was read after this


@dataclass(frozen=True)
class Gold:
    """An example's gold answer (None: unknown or not to be trusted) and any fault of its program."""

    answer: Answer | None
    problem: ProgramProblem | None = None
    reason: str = ""


def finqa_files(directory: Path) -> dict[str, Path]:
    """The official files that a folder has, by split; UserError, saying how to get them, when it has none."""
    found = {split: directory / name for split, name in FILES.items() if (directory / name).is_file()}
    if not found:
        raise missing_data(directory, "finqa_raw")
    return found


class Element(NamedTuple):
    """An element of a file's list as JSON gives it, not checked yet."""

    file: str
    position: int  # place in the list, from 0
    value: Any | Malformed | BrokenList


def read_elements(path: Path, reading: Reading | None = None) -> Iterator[Element]:
    """Stream a file's elements in order; where it breaks off, a last one holds the BrokenList that says so.

    Raises UserError when there is no such file or it is not JSON at all. Memory holds one element at a time;
    `reading` is kept up to date for a progress bar.
    """
    index = 0
    try:
        for value in stream_list(path, reading=reading):
            yield Element(path.name, index, value)
            index += 1
    except BrokenList as error:
        yield Element(path.name, index, error)


def to_example(element: Element) -> Example | Fault:
    """The element as an example, or the fault that it has; never raises."""
    file, index, value = element
    if isinstance(value, BrokenList):
        return Fault(file, index, None, str(value), breaks_off=True)
    if isinstance(value, Malformed):
        return Fault(file, index, id_of(value.value), value.reason)
    try:
        return Example.model_validate(value)
    except ValidationError as error:
        return Fault(file, index, id_of(value), describe(error))


def read_examples(path: Path, reading: Reading | None = None) -> Iterator[Example | Fault]:
    """Stream a file: for each element of its list, in order, the example or the fault that it has.

    A file that breaks off gives one last Fault at that point; otherwise as `read_elements`.
    """
    return map(to_example, read_elements(path, reading))


def gold_of(example: Example) -> Gold:
    """The executed value of the example's program, held against `exe_ans`; without a program, `exe_ans`.

    Program "divide(637, const_5)" with exe_ans 127.4 gives Gold(127.4); with exe_ans 130.0 the pair is not
    trusted: Gold(None, "disagrees with exe_ans", "program executes to 127.4 but exe_ans is 130.0").
    """
    expected = example.qa.exe_ans
    if example.qa.program is None:
        return Gold(expected)
    try:
        program = parse(example.qa.program)
    except ProgramError as error:
        return Gold(None, "does not parse", f"program does not parse: {error}")
    value, reason = value_of(program, example.table)
    if value is None:
        return Gold(None, "does not execute", f"program does not execute: {reason}")
    if expected is not None and not _agree(value, expected):
        reason = f"program executes to {value} but exe_ans is {expected}"
        return Gold(None, "disagrees with exe_ans", reason)
    return Gold(value)


def _agree(value: float | str, expected: float | str) -> bool:
    if isinstance(value, str) or isinstance(expected, str):
        return value == expected
    return math.isclose(value, expected, **_ROUNDING)


def sentences(example: Example) -> list[str]:
    """The page's sentences in reading order, before and after the table; empty ones are left out."""
    return [sentence for sentence in example.pre_text + example.post_text if sentence.strip()]


def to_question(example: Example, answer: Answer | None) -> Question:
    """The example as a `Question` with this gold answer (see `gold_of`)."""
    return Question(
        id=example.id,
        page=example.filename,
        question=example.qa.question,
        table=example.table,
        text=sentences(example),
        program=example.qa.program,
        answer=answer,
    )
