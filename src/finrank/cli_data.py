"""The commands that make data: raw files to rewarded pools, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finrank.commands.options import MINILM, PROCESSED, RAW, Seed, Workers


def check(
    input_dir: Annotated[Path, typer.Option("--input_dir", help="Folder with train.json, dev.json, test.json.")] = RAW,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON to this file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 with warnings too.")] = False,
    config: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            help="A model config for which to report what of the gold operands reaches the model; repeatable (default: "
            "all in configs/models; none: skip it).",
        ),
    ] = None,
) -> None:
    """Stage 00: say what is wrong with the raw data.

    Reads every example, prints the findings with what to do about each, and changes nothing. Exit code 1 when there
    are errors (with --strict: or warnings), else 0; notes never fail.

    \b
    Example:
      finrank check --input_dir datasets/finqa_raw --json check.json
    """
    from finrank.commands import check as stage

    configs = [Path(name) for name in config or [] if name != "none"]
    if config is None:
        configs = sorted(MINILM.parent.glob("*.yaml"))
    raise typer.Exit(stage.run(input_dir, json_path=json_path, strict=strict, configs=configs))


def prepare(
    input_dir: Annotated[Path, typer.Option("--input_dir", help="Folder with train.json, dev.json, test.json.")] = RAW,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Stage directory to write.")] = PROCESSED,
    selection_share: Annotated[
        float, typer.Option("--selection_share", help="Share of train pages kept apart for choosing checkpoints (0-1).")
    ] = 0.1,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Stage 01: official files to questions, split by page.

    Writes train, selection (pages of train, for choosing checkpoints), dev and test.jsonl, rejects.jsonl with every
    example left out and why, and manifest.json.

    \b
    Example:
      finrank prepare --input_dir datasets/finqa_raw --output_dir datasets/finqa_processed
    """
    from finrank.commands import prepare as stage

    stage.run(input_dir, output_dir, selection_share=selection_share, seed=seed, workers=workers)


def sample_data(
    output_dir: Annotated[
        Path, typer.Option("--output_dir", help="Folder to write train, dev and test.json to.")
    ] = RAW,
    train: Annotated[int, typer.Option("--train", help="Train questions.")] = 600,
    dev: Annotated[int, typer.Option("--dev", help="Dev questions.")] = 150,
    test: Annotated[int, typer.Option("--test", help="Test questions.")] = 150,
    seed: Seed = 0,
) -> None:
    """Write the embedded sample in place of the FinQA files.

    Made-up report pages and questions, in the layout of the official files: enough to run the whole pipeline.

    \b
    Example:
      finrank sample-data --output_dir datasets/finqa_raw --train 600 --dev 150 --test 150
    """
    from finrank.commands import sample_data as stage

    stage.run(output_dir, train=train, dev=dev, test=test, seed=seed)


def download(
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write the official files to.")] = RAW,
) -> None:
    """Fetch the official FinQA files (needs a network).

    Writes train.json, dev.json and test.json, once all three have arrived whole.

    \b
    Example:
      finrank download --output_dir datasets/finqa_raw
    """
    from finrank.sources.download import download as fetch

    fetch(output_dir)
