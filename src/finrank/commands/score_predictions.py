"""`finrank score-predictions`: execution and program accuracy of a prediction file, with intervals over pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from finrank.commands.options import PROCESSED, FiguresJson, Split
from finrank.console import console, say, warn
from finrank.errors import UserError
from finrank.records import Question
from finrank.sources.questions import read_questions
from finrank.store import split_files, write_json
from finrank.store.json_lines import BadLine

if TYPE_CHECKING:
    from finrank.evaluation.official import Predictions


def score_predictions(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The predictions, a JSON list.")],
    data: Annotated[Path, typer.Option("--data", help="Questions (output of stage 01), or pools.")] = PROCESSED,
    *,
    split: Split = "dev",
    json_path: FiguresJson = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")] = 0,
) -> dict[str, Any]:
    """Score a prediction file in the official FinQA format.

    Prints execution accuracy and program accuracy with 95 % intervals over pages.

    \b
    Example:
      finrank score-predictions predictions.json --split dev --json scores.json
    """
    from finrank.evaluation import official

    predictions = official.read_predictions(file)
    path = split_files(data, [split], expected="finqa_processed")[split]
    result = {
        **asdict(official.score_predictions(predictions.tokens, _questions(path), seed=seed)),
        "duplicates": predictions.duplicates,
        "unreadable": len(predictions.bad),
        "without_end": predictions.without_end,
        "file": str(file),
        "data": str(data),
        "split": split,
    }
    try:
        if json_path is not None:
            write_json(json_path, result)
    finally:
        _print(result)
        for sentence in _faults(result, predictions):
            warn(sentence)
    if json_path is not None:
        say(f"figures: {json_path}")
    return result


def _questions(path: Path) -> Iterator[Question]:
    for number, question in read_questions(path):
        if isinstance(question, BadLine):
            raise UserError(f"{path}:{number} (id {question.id}): {question.reason}")
        yield question


def _print(result: dict[str, Any]) -> None:
    title = f"{result['split']}: {result['predicted']} of {result['n']} questions predicted"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for heading in ("questions", "accuracy", "95 % over pages", "of predicted"):
        table.add_column(heading, justify="right")
    for name, known in {"execution_accuracy": "gold_answers", "program_accuracy": "gold_programs"}.items():
        interval = result["intervals"][name]
        between = f"{interval[0]:.3f}-{interval[1]:.3f}" if interval else "-"
        values = (result[name], result["of_predicted"][name])
        accuracy, of_predicted = ("-" if value is None else f"{value:.4f}" for value in values)
        table.add_row(name.replace("_", " "), str(result[known]), accuracy, between, of_predicted)
    console.print(table)


def _faults(result: dict[str, Any], predictions: Predictions) -> list[str]:
    first = predictions.bad[0] if predictions.bad else None
    sentences = {
        "missing": "questions without a prediction, counted as wrong (the official evaluator leaves them out)",
        "unknown_ids": "predictions with an id that no question of the split has (the official evaluator stops there)",
        "duplicates": "further predictions for an id, ignored (the official evaluator counts each)",
        "unreadable": f"elements that cannot be read (the first at {first.line}: {first.reason})" if first else "",
        "without_end": "predictions without EOF: their last token was dropped (the official evaluator does so)",
        "invalid": "predictions without a value (no program, or one that does not execute)",
    }
    return [f"{sentence}: {result[name]}" for name, sentence in sentences.items() if result[name]]
