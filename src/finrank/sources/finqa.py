"""Questions from files in the official FinQA layout (Chen et al., EMNLP 2021, github czyssrs/FinQA).

A file is a JSON list of examples: `id`, `filename`, `pre_text`, `post_text`, `table` and `qa {question, program,
exe_ans, gold_inds, answer}`, of which the last four may be missing. Only `finrank check` reads `qa.answer`, a text that
often disagrees with the program. Other fields are ignored.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from finrank.console import Reading
from finrank.errors import missing_data
from finrank.programs import ProgramError, parse
from finrank.programs.value import read_exe_ans, value_of
from finrank.records import Answer, Question
from finrank.store.json_lines import BadLine, describe, id_of
from finrank.store.json_list import BrokenList, Malformed, stream_list

# The official files, in the order in which they are listed.
FILES = {split: f"{split}.json" for split in ("train", "dev", "test")}

_LONGEST_TEXT = 100_000  # characters; cells of FinQA have 200 at most, sentences 2,000

# Executed values and `exe_ans` are both rounded to 5 decimals; large ones may differ in the last bits.
_ROUNDING = {"rel_tol": 1e-9, "abs_tol": 1.001e-5}

ProgramProblem = Literal["does not parse", "does not execute", "disagrees with exe_ans"]


def _cell(value: Any) -> Any:
    """A number becomes its text, null an empty cell; anything else is left for pydantic to refuse."""
    if value is None:
        return ""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return str(value) if is_number else value


def _program(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


# A limit makes pydantic refuse lone surrogates too: bytes that were not UTF-8, which no output file can hold.
Text = Annotated[str, Field(max_length=_LONGEST_TEXT)]
Filled = Annotated[Text, Field(pattern=r"\S")]
Cell = Annotated[Text, BeforeValidator(_cell)]


class QA(BaseModel):
    """The `qa` part of an example."""

    model_config = ConfigDict(frozen=True, strict=True)

    question: Filled
    program: Annotated[Text | None, BeforeValidator(_program)] = None
    exe_ans: Annotated[Answer | None, BeforeValidator(read_exe_ans)] = None
    gold_inds: dict[str, Any] | list[Any] | None = None
    answer: Any = None


class Example(BaseModel):
    """One example of an official file, its fields checked."""

    model_config = ConfigDict(frozen=True, strict=True)

    id: Filled
    filename: Filled
    pre_text: list[Text]
    post_text: list[Text]
    table: list[list[Cell]]
    qa: QA


class Gold(NamedTuple):
    """An example's gold answer (None: unknown, or not trusted), and any problem of its program."""

    answer: Answer | None
    problem: ProgramProblem | None = None
    reason: str = ""


def finqa_files(directory: Path) -> dict[str, Path]:
    """The official files in a folder, by split; UserError with how to get them when there are none."""
    files = {split: directory / name for split, name in FILES.items() if (directory / name).is_file()}
    if not files:
        raise missing_data(directory, "finqa_raw")
    return files


class Element(NamedTuple):
    """An element of a file's list as parsed from JSON, not checked yet."""

    file: str
    position: int  # in the list, from 0
    value: Any | Malformed | BrokenList

    @property
    def fault(self) -> BadLine | None:
        """Why the element is not JSON, or why the file breaks off there."""
        if isinstance(self.value, Malformed):
            return BadLine(self.file, self.position, id_of(self.value.value), self.value.reason)
        return BadLine(self.file, self.position, None, str(self.value)) if isinstance(self.value, BrokenList) else None


def read_elements(path: Path, reading: Reading | None = None) -> Iterator[Element]:
    """Stream a file's elements in order; if the file breaks off, the last one holds the `BrokenList`.

    Memory holds one element at a time. Raises UserError when the file does not exist or is not JSON at all.
    """
    index = 0
    try:
        for value in stream_list(path, reading=reading):
            yield Element(path.name, index, value)
            index += 1
    except BrokenList as error:
        yield Element(path.name, index, error)


def to_example(element: Element) -> Example | BadLine:
    """The element as an example, or its fault; never raises."""
    if element.fault is not None:
        return element.fault
    try:
        return Example.model_validate(element.value)
    except ValidationError as error:
        return BadLine(element.file, element.position, id_of(element.value), describe(error))


def read_examples(path: Path, reading: Reading | None = None) -> Iterator[Example | BadLine]:
    """The examples among a file's elements (see `read_elements`), and the faults of the others."""
    return map(to_example, read_elements(path, reading))


def draw_questions(path: Path, count: int, seed: int = 0) -> list[Question]:
    """At most `count` of a raw file's questions with a program, drawn uniformly by the seed (reservoir sampling)."""
    rng = random.Random(seed)
    drawn: list[Question] = []
    seen = 0
    for example in read_examples(path):
        if not isinstance(example, Example) or example.qa.program is None:
            continue
        slot = seen if seen < count else rng.randint(0, seen)
        seen += 1
        if slot < count:
            drawn[slot : slot + 1] = [to_question(example, None)]
    return drawn


def gold_of(example: Example) -> Gold:
    """The executed value of the example's program if it agrees with `exe_ans`; without a program, `exe_ans`.

    Program "divide(637, const_5)" with exe_ans 127.4: Gold(127.4). With exe_ans 130.0 the pair is not trusted:
    Gold(None, "disagrees with exe_ans", "program executes to 127.4 but exe_ans is 130.0").
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
    if isinstance(value, float) and isinstance(expected, float):
        agree = math.isclose(value, expected, **_ROUNDING)
    else:
        agree = expected in (None, value)
    if not agree:
        return Gold(None, "disagrees with exe_ans", f"program executes to {value} but exe_ans is {expected}")
    return Gold(value)


def to_question(example: Example, answer: Answer | None) -> Question:
    """The example as a `Question` with this gold answer (see `gold_of`); empty sentences are left out."""
    return Question(
        id=example.id,
        page=example.filename,
        question=example.qa.question,
        table=example.table,
        text=[sentence for sentence in example.pre_text + example.post_text if sentence.strip()],
        program=example.qa.program,
        answer=answer,
    )
