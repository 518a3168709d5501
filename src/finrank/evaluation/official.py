"""The prediction file of the official FinQA evaluator (Chen et al., EMNLP 2021): writing it, reading it, scoring it.

The file is a JSON list, an element per question, of program tokens that end in EOF:

    [{"id": "V/2008/page_17.pdf-1", "predicted": ["divide(", "637", "const_5", ")", "EOF"]}]

A question counts for execution accuracy when its program executes to the gold answer, for program accuracy when it is
the gold program up to what `programs.equal` takes for the same. The official evaluator divides by the number of
predictions; here questions without a prediction are wrong, so that leaving out the hard ones gains nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from finrank.console import warn
from finrank.errors import UserError
from finrank.evaluation.intervals import page_intervals
from finrank.evaluation.metrics import Metric, checked_scores
from finrank.programs import OPERATIONS, Program, ProgramError, Step, equal, parse
from finrank.programs.value import same_answer, value_of
from finrank.records import Pool, Question
from finrank.sources import predictions
from finrank.sources.predictions import END
from finrank.store.json_lines import BadLine

METRICS = ("execution_accuracy", "program_accuracy")
# What is written where there is no program: the official evaluator counts it as wrong, and goes on.
NO_PROGRAM = (END,)


def program_tokens(program: Program) -> list[str]:
    """The official tokens of a program, EOF last.

    >>> program_tokens(parse("divide(637, const_5)"))
    ['divide(', '637', 'const_5', ')', 'EOF']
    """
    tokens = []
    for operation, (first, second) in program.steps:
        # A blank argument (the label of the header row) is a blank token: an empty one would be lost in reading.
        tokens += [f"{operation}(", first or " ", second or " ", ")"]
    return [*tokens, END]


def program_of_tokens(tokens: Sequence[str]) -> Program:
    """The program that the official evaluator reads from a prediction; ProgramError when it reads none.

    As officially, the last token is taken for EOF whatever it is, and an unfinished last step is dropped. A token with
    a bracket in it is never an argument.

    >>> str(program_of_tokens(["add(", "1", "2", ")", "divide(", "#0", "EOF"]))
    'add(1, 2)'
    """
    whole = tokens[:-1]
    end = len(whole) // 4 * 4
    steps = [_step(start // 4, whole[start : start + 4]) for start in range(0, end, 4)]
    rest = whole[end:]
    if rest and (rest[0].strip("(") not in OPERATIONS or any(")" in token for token in rest)):
        raise ProgramError(f"step {len(steps)}: {' '.join(rest)[:60]!r} is no beginning of a step")
    if not steps:
        raise ProgramError("the program is empty")
    return Program(tuple(steps))


def _step(index: int, tokens: Sequence[str]) -> Step:
    """The step written by four tokens such as ["divide(", "#0", "5735", ")"]."""
    operation, first, second, close = tokens
    name = operation.removesuffix("(")
    # The evaluator joins tokens by "|" and cuts them at brackets, so that an argument cannot hold these.
    readable = all(argument and not set(argument) & set("()|") for argument in (first, second))
    if name not in OPERATIONS or name == operation or close != ")" or not readable:
        raise ProgramError(f"step {index}: expected operation( argument argument ), got {' '.join(tokens)[:60]!r}")
    return Step(name, (first.strip(), second.strip()))


def write_predictions(path: Path, pools: Sequence[Pool], scores: Sequence[ArrayLike]) -> int:
    """Write the file for the official evaluator: of each pool the candidate with the highest score.

    Gives, and warns of, the number of picks that have an answer but no program (answers given without one): the file
    holds programs only, so they count as wrong in it, and as what their answer is in `evaluate`.

    Of several with the highest score the first in the pool is taken: a file can hold one only (the metrics of
    `evaluate` share a tie among them). A candidate without a program, or whose program does not parse, is written as
    `NO_PROGRAM`. The file is written whole or not at all. Raises ValueError as `metrics.outcome` does.
    """
    lines, lost = [], 0
    for pool, own in zip(pools, scores, strict=True):
        best = int(np.argmax(checked_scores(own, len(pool.candidates), pool.id)))
        pick = pool.candidates[best]
        predicted = _tokens_of_text(pick.program)
        lost += predicted == NO_PROGRAM and pick.answer is not None
        element = {"id": pool.id, "predicted": predicted}
        lines.append(json.dumps(element, ensure_ascii=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    os.replace(partial, path)
    if lost:
        warn(
            f"{path}: {lost} of {len(pools)} picks have an answer but no program; the official file holds programs "
            "only, so they count as wrong there, though evaluate counts their answers"
        )
    return lost


def _tokens_of_text(program: str | None) -> Sequence[str]:
    try:
        return NO_PROGRAM if program is None else program_tokens(parse(program))
    except ProgramError:
        return NO_PROGRAM


@dataclass
class Predictions:
    """A prediction file: the tokens of each id, the first where an id occurs again, and what was wrong with it."""

    tokens: dict[str, list[str]] = field(default_factory=dict)
    duplicates: int = 0
    without_end: int = 0  # predictions that do not end in EOF
    bad: list[BadLine] = field(default_factory=list)


def read_predictions(path: Path) -> Predictions:
    """The predictions of a file in the official format; UserError when there is none in it."""
    found = Predictions()
    for read in predictions.read_predictions(path):
        if isinstance(read, BadLine):
            found.bad.append(read)
        elif read.tokens is None:
            found.bad.append(BadLine(read.file, read.place, read.id, "predicted: the tokens of a program are missing"))
        elif read.id in found.tokens:
            found.duplicates += 1
        else:
            found.tokens[read.id] = read.tokens
            found.without_end += read.tokens[-1:] != [END]
    if not found.tokens:
        why = f"; at {found.bad[0].line}: {found.bad[0].reason}" if found.bad else ""
        raise UserError(f'{path} holds no prediction: expected a list of {{"id", "predicted": [tokens, "EOF"]}}{why}')
    return found


class Outcome(NamedTuple):
    """How a prediction does on one question."""

    executes: bool  # to the gold answer
    same_program: bool
    valid: bool  # it has a value at all


def outcome(program: Program | None, question: Question) -> Outcome:
    """The outcome of a program (None: no program); an unknown gold answer or program is never met.

    Where the gold answer is known, a program that does not execute to it is not the gold program: the official
    evaluator asserts that, and `equal` can take seconds.
    """
    value = None if program is None else value_of(program, question.table).answer
    gold = question.answer
    executes = same_answer(value, gold)
    same_program = (executes or gold is None) and equal(question.program, program)
    return Outcome(executes, same_program, value is not None)


def score_predictions(
    tokens: Mapping[str, Sequence[str]], questions: Iterable[Question], *, seed: int
) -> dict[str, Any]:
    """Execution and program accuracy of predictions (id -> tokens) on these questions, with 95 % intervals over pages.

    The keys: "n" questions; the two accuracies, over questions whose gold answer or gold program is known
    ("gold_answers" and "gold_programs" of them), None where there is none; "intervals"; "predicted" and "missing"
    questions; "unknown_ids"; "invalid", the predictions without a value; "of_predicted", both accuracies over predicted
    questions alone, which is what the official evaluator prints. Raises UserError without questions, and when no id is
    that of a question.
    """
    rows: list[tuple[bool, bool, bool, bool, bool]] = []  # executes, same program, gold answer, gold program, predicted
    pages: list[str] = []
    invalid, first = 0, ""
    for question in questions:
        first = first or question.id
        predicted = question.id in tokens
        one = outcome(_program(tokens[question.id]) if predicted else None, question)
        invalid += predicted and not one.valid
        known = (question.answer is not None, question.program is not None)
        rows.append((one.executes, one.same_program, *known, predicted))
        pages.append(question.page)
    if not rows:
        raise UserError("no questions to score: the split is empty")
    table = np.array(rows, dtype=np.float64)
    answered = int(table[:, 4].sum())
    if not answered:
        raise UserError(
            f"no prediction is for a question of this split: ids such as {next(iter(tokens), '')!r}, questions such as "
            f"{first!r}; choose another --split or --data"
        )
    own = {name: Metric(table[:, i], table[:, i + 2]) for i, name in enumerate(METRICS)}
    return {
        "n": len(rows),
        **{name: metric.mean() for name, metric in own.items()},
        "intervals": page_intervals(own, pages, seed=seed),
        "gold_answers": int(table[:, 2].sum()),
        "gold_programs": int(table[:, 3].sum()),
        "predicted": answered,
        "missing": len(rows) - answered,
        "unknown_ids": len(tokens) - answered,
        "invalid": invalid,
        "of_predicted": {
            name: Metric(metric.values, metric.weights * table[:, 4]).mean() for name, metric in own.items()
        },
    }


def _program(tokens: Sequence[str]) -> Program | None:
    try:
        return program_of_tokens(tokens)
    except ProgramError:
        return None
