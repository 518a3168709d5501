"""The `download` command: fetch the official FinQA files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finrank.commands.options import RAW


def download(
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write the official files to.")] = RAW,
) -> None:
    """Fetch the official FinQA files (needs a network).

    Writes train.json, dev.json and test.json, once all three have arrived whole.

    \b
    Example:
      finrank download --output_dir datasets/finqa_raw
    """
    from finrank.sources.download import fetch_official

    fetch_official(output_dir)
