"""The `sample-data` command: write the embedded data as files in the official FinQA layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from finrank.commands.options import RAW, Seed
from finrank.console import say
from finrank.errors import UserError
from finrank.sources.finqa import FILES
from finrank.store import MANIFEST, read_json, replacing, sha256, versions, write_json

_STAGE = "sample-data"


def sample_data(
    output_dir: Annotated[
        Path, typer.Option("--output_dir", help="Folder to write train, dev and test.json to.")
    ] = RAW,
    *,
    train: Annotated[int, typer.Option("--train", help="Train questions.")] = 600,
    dev: Annotated[int, typer.Option("--dev", help="Dev questions.")] = 150,
    test: Annotated[int, typer.Option("--test", help="Test questions.")] = 150,
    seed: Seed = 0,
) -> None:
    """Write the embedded data in place of the FinQA files.

    Made-up report pages and questions, in the layout of the official files: enough to run the whole pipeline. An
    earlier data set is replaced; a folder that holds anything else is refused.

    \b
    Example:
      finrank sample-data --output_dir datasets/finqa_raw --train 600 --dev 150 --test 150
    """
    from finrank.sources.made_up import MAX_QUESTIONS, generate

    sizes = {"train": train, "dev": dev, "test": test}
    for split, size in sizes.items():
        if not 0 <= size <= MAX_QUESTIONS:
            raise UserError(f"--{split} is {size}: expected a number of questions from 0 to {MAX_QUESTIONS}")
    _refuse_other_files(output_dir)
    with replacing(output_dir) as partial:
        for split, examples in generate(**sizes, seed=seed).items():
            content = json.dumps(examples, indent=1, ensure_ascii=False) + "\n"
            (partial / FILES[split]).write_text(content, encoding="utf-8")
        outputs = {name: sha256(partial / name) for name in FILES.values()}
        manifest = {"stage": _STAGE, "arguments": sizes, "seed": seed, "versions": versions(), "outputs": outputs}
        write_json(partial / MANIFEST, manifest)
    say(f"embedded data: {train} train, {dev} dev and {test} test questions in {output_dir}")


def _refuse_other_files(directory: Path) -> None:
    """UserError if the folder holds anything but unchanged embedded data, as its manifest describes it."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file: choose another --output_dir")
    try:
        manifest = read_json(directory / MANIFEST)
        written = dict(manifest["outputs"]) if manifest["stage"] == _STAGE else {}
    except (OSError, ValueError, TypeError, KeyError):
        written = {}
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        unchanged = path.name in written and sha256(path) == written[path.name]
        if not written or not (unchanged or path.name == MANIFEST):
            raise UserError(
                f"{directory} holds {path.name}, which is not of the embedded data: "
                "choose another --output_dir, or remove it"
            )
