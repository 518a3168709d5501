"""The commands that read predictions of other systems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finrank.commands.options import (
    PROCESSED,
    FiguresJson,
    Seed,
    Split,
)


def import_predictions(
    predictions: Annotated[
        list[Path],
        typer.Option("--predictions", help="JSONL or official prediction file; several: one after the other."),
    ],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Stage directory to write.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="More prediction files.")] = None,
    data: Annotated[Path, typer.Option("--data", help="Questions (output of stage 01), or pools.")] = PROCESSED,
    split: Annotated[str | None, typer.Option("--split", help="Questions of this split alone (default: all).")] = None,
    seed: Seed = 0,
) -> None:
    """Predictions of any systems to pools, as of stage 02.

    A line of a file: {"id", "program"} or {"id", "answer"}, "model" optional; or the official prediction file. Writes
    the splits whose questions they answer, rejects.jsonl and manifest.json; stage 03 comes next.

    \b
    Example:
      finrank import --predictions a.jsonl b.jsonl --split dev --output_dir datasets/imported
    """
    from finrank.commands import import_predictions as stage

    stage.run([*predictions, *(more or [])], data, output_dir, split=split, seed=seed)


def score_predictions(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The predictions, a JSON list.")],
    data: Annotated[Path, typer.Option("--data", help="Questions (output of stage 01), or pools.")] = PROCESSED,
    split: Split = "dev",
    json_path: FiguresJson = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")] = 0,
) -> None:
    """Score a prediction file in the official FinQA format.

    Prints execution accuracy and program accuracy with 95 % intervals over pages.

    \b
    Example:
      finrank score-predictions predictions.json --split dev --json scores.json
    """
    from finrank.commands import score_predictions as stage

    stage.run(file, data, split=split, json_path=json_path, seed=seed)
