"""Score a prediction file in the official format: execution and program accuracy, with intervals over pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from finrank.commands.import_predictions import read_questions
from finrank.console import console, say, warn
from finrank.errors import UserError
from finrank.evaluation.official import METRICS, Predictions, read_predictions, score_predictions
from finrank.records import Question
from finrank.store import split_files, write_json
from finrank.store.json_lines import BadLine


def run(
    file: Path, data_dir: Path, *, split: str = "dev", json_path: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """Print the two accuracies and what was wrong with the file, write all figures as JSON, and give them.

    `data_dir` holds questions, or pools of any stage. Raises UserError for a missing file or split, a bad line of the
    questions, and a file without a prediction for any of them.
    """
    predictions = read_predictions(file)
    path = split_files(data_dir, [split], expected="finqa_processed")[split]
    figures = asdict(score_predictions(predictions.tokens, _questions(path), seed=seed))
    result = {
        **figures,
        "duplicates": predictions.duplicates,
        "unreadable": len(predictions.bad),
        "without_end": predictions.without_end,
        "file": str(file),
        "data": str(data_dir),
        "split": split,
    }
    _print(result)
    for sentence in _faults(result, predictions):
        warn(sentence)
    if json_path is not None:
        write_json(json_path, result)
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
    for name, known in zip(METRICS, ("gold_answers", "gold_programs"), strict=True):
        interval = result["intervals"][name]
        between = "-" if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}"
        own, predicted = (_figure(row[name]) for row in (result, result["of_predicted"]))
        table.add_row(name.replace("_", " "), str(result[known]), own, between, predicted)
    console.print(table)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _faults(result: dict[str, Any], predictions: Predictions) -> list[str]:
    """What was wrong with the file, a sentence each."""
    first = predictions.bad[0] if predictions.bad else None
    sentences = {
        "missing": "questions without a prediction, counted as wrong (the official evaluator leaves them out)",
        "unknown_ids": "predictions with an id that no question of the split has (the official evaluator stops there)",
        "duplicates": "further predictions for an id, ignored (the official evaluator counts each)",
        "unreadable": f"elements that cannot be read (the first at {first.line}: {first.reason})" if first else "",
        "without_end": "predictions without EOF at the end, where the last token was taken for it, as officially",
        "invalid": "predictions without a value (no program, or one that does not execute)",
    }
    return [f"{sentence}: {result[name]}" for name, sentence in sentences.items() if result[name]]
