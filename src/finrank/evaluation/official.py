"""The prediction file of the official FinQA evaluator (Chen et al., EMNLP 2021): written, read and scored.

A JSON list, an element per question, of program tokens: [{"id": "…", "predicted": ["divide(", "637", "5", ")",
"EOF"]}].

The official evaluator divides by the number of predictions; here questions without a prediction are wrong, so that
leaving out the hard ones gains nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from finrank.console import warn
from finrank.errors import UserError
from finrank.evaluation.intervals import Interval, page_intervals
from finrank.evaluation.metrics import Metric, checked_scores
from finrank.programs import OPERATIONS, Program, ProgramError, equal, parse_or_none
from finrank.programs.language import step_of_tokens
from finrank.programs.reading.candidate_text import END
from finrank.programs.value import same_answer, value_of
from finrank.records import Pool, Question
from finrank.sources import predictions
from finrank.store import write_text
from finrank.store.json_lines import BadLine

METRICS = ("execution_accuracy", "program_accuracy")
# Written for a missing program: the official evaluator counts it as wrong and continues.
NO_PROGRAM = [END]


def program_tokens(program: Program) -> list[str]:
    """The official tokens of a program, EOF last.

    >>> from finrank.programs import parse
    >>> program_tokens(parse("divide(637, const_5)"))
    ['divide(', '637', 'const_5', ')', 'EOF']
    """
    # A blank argument (the label of the header row) is a blank token: an empty one would be lost in reading.
    steps = [[f"{operation}(", first or " ", second or " ", ")"] for operation, (first, second) in program.steps]
    return [*(token for step in steps for token in step), END]


def program_of_tokens(tokens: Sequence[str]) -> Program:
    """The program that the official evaluator reads from a prediction; ProgramError when it reads none.

    Like that evaluator, this takes the last token for EOF whatever it is, and drops an unfinished last step.

    >>> str(program_of_tokens(["add(", "1", "2", ")", "divide(", "#0", "EOF"]))
    'add(1, 2)'
    """
    tokens = tokens[:-1]
    end = len(tokens) // 4 * 4
    steps = []
    for start in range(0, end, 4):
        step = list(tokens[start : start + 4])
        # The evaluator joins tokens and cuts them at brackets, so that an argument cannot hold these.
        if not all(argument and not set(argument) & set("()") for argument in step[1:3]):
            raise ProgramError(f"step {start // 4}: unreadable argument in {' '.join(step)[:60]!r}")
        steps.append(step_of_tokens(start // 4, step))
    rest = tokens[end:]
    if rest and (rest[0].strip("(") not in OPERATIONS or any(")" in token for token in rest)):
        raise ProgramError(f"step {len(steps)}: {' '.join(rest)[:60]!r} is not the beginning of a step")
    if not steps:
        raise ProgramError("the program is empty")
    return Program(tuple(steps))


def write_predictions(path: Path, pools: Sequence[Pool], scores: Sequence[ArrayLike]) -> int:
    """Write the official prediction file, whole or not at all: the best candidate of each pool, the first of a tie.

    A missing or unreadable program, and a pool without a pick, is written as `NO_PROGRAM`. Returns, and warns of, the
    number of picks that have an answer but no program. Raises ValueError as `metrics.outcome` does.
    """
    lines, lost = [], 0
    for pool, pool_scores in zip(pools, scores, strict=True):
        checked = checked_scores(pool, pool_scores)
        pick = pool.candidates[int(np.argmax(checked))] if checked.max() > -np.inf else None
        program = None if pick is None else parse_or_none(pick.program)
        predicted = program_tokens(program) if program else NO_PROGRAM
        lost += pick is not None and program is None and pick.answer is not None
        lines.append(json.dumps({"id": pool.id, "predicted": predicted}, ensure_ascii=False))
    write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")
    if lost:
        warn(
            f"{path}: {lost} of {len(pools)} picks have an answer but no program; the official file holds programs "
            "only, so they count as wrong there, though evaluate counts their answers"
        )
    return lost


@dataclass
class Predictions:
    """The tokens of each id in a prediction file (the first where an id occurs again), and the file's faults."""

    tokens: dict[str, list[str]] = field(default_factory=dict)
    duplicates: int = 0
    without_end: int = 0  # predictions that do not end in EOF
    bad: list[BadLine] = field(default_factory=list)


def read_predictions(path: Path) -> Predictions:
    """The predictions of a file in the official format; UserError when there is none in it."""
    file = Predictions()
    for read in predictions.read_predictions(path):
        if isinstance(read, BadLine):
            file.bad.append(read)
        elif read.tokens is None:
            file.bad.append(BadLine(read.file, read.place, read.id, "predicted: the tokens of a program are missing"))
        elif read.id in file.tokens:
            file.duplicates += 1
        else:
            file.tokens[read.id] = read.tokens
            file.without_end += read.tokens[-1:] != [END]
    if not file.tokens:
        why = f"; at {file.bad[0].line}: {file.bad[0].reason}" if file.bad else ""
        raise UserError(f'{path} holds no prediction: expected a list of {{"id", "predicted": [tokens, "EOF"]}}{why}')
    return file


def outcome(program: Program | None, question: Question) -> tuple[bool, bool, bool]:
    """Whether the value is the gold answer, the program is the gold one, and there is a value; unknown gold: False."""
    value = None if program is None else value_of(program, question.table).answer
    executes = same_answer(value, question.answer)
    # A program with another value is not the gold program; `equal` can take seconds.
    same_program = (executes or question.answer is None) and equal(question.program, program)
    return executes, same_program, value is not None


@dataclass(frozen=True)
class OfficialFigures:
    """Both accuracies of a prediction file on the questions of a split, and counts."""

    n: int
    execution_accuracy: float | None  # over questions whose gold answer is known; None where none is
    program_accuracy: float | None  # over questions whose gold program is known; None where none is
    intervals: dict[str, Interval | None]
    gold_answers: int
    gold_programs: int
    predicted: int
    missing: int  # questions without a prediction
    unknown_ids: int  # predictions whose id no question has
    invalid: int  # predictions without a value
    of_predicted: dict[str, float | None]  # both, over predicted questions alone, as the official evaluator prints them


def score_predictions(
    tokens: Mapping[str, Sequence[str]], questions: Iterable[Question], *, seed: int
) -> OfficialFigures:
    """Accuracies of predictions (id -> tokens), with intervals over pages; UserError when none is for a question."""
    ids, pages, rows = [], [], []
    for question in questions:
        try:
            program = program_of_tokens(tokens.get(question.id, NO_PROGRAM))
        except ProgramError:
            program = None
        executes, same_program, valid = outcome(program, question)
        known = (question.answer is not None, question.program is not None)
        rows.append((executes, same_program, *known, question.id in tokens, valid))
        ids.append(question.id)
        pages.append(question.page)
    if not rows:
        raise UserError("no questions to score: the split is empty")
    table = np.array(rows, dtype=np.float64)
    _, _, gold_answers, gold_programs, answered, with_value = table.sum(axis=0).astype(int).tolist()
    if not answered:
        raise UserError(
            f"no prediction is for a question of this split: ids such as {next(iter(tokens), '')!r}, questions such as "
            f"{ids[0]!r}; choose another --split or --data"
        )
    metrics = {name: Metric(table[:, i], table[:, i + 2]) for i, name in enumerate(METRICS)}
    return OfficialFigures(
        n=len(rows),
        **{name: metric.mean() for name, metric in metrics.items()},
        intervals=page_intervals(metrics, pages, seed=seed),
        gold_answers=gold_answers,
        gold_programs=gold_programs,
        predicted=answered,
        missing=len(rows) - answered,
        unknown_ids=len(tokens) - answered,
        invalid=answered - with_value,
        of_predicted={name: Metric(row.values, row.weights * table[:, 4]).mean() for name, row in metrics.items()},
    )
