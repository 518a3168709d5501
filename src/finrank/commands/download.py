"""The `download` command: fetch the official FinQA files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from finrank.commands.options import RAW
from finrank.console import say
from finrank.errors import UserError
from finrank.sources.finqa import FILES
from finrank.store import MANIFEST

OFFICIAL = "https://raw.githubusercontent.com/czyssrs/FinQA/main/dataset"
_TIMEOUT = 60.0  # seconds without any data


def download(
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write the official files to.")] = RAW,
) -> None:
    """Fetch the official FinQA files (needs a network).

    Writes train.json, dev.json and test.json, once all three have arrived whole.

    \b
    Example:
      finrank download --output_dir datasets/finqa_raw
    """
    import http.client

    if (output_dir / MANIFEST).is_file():
        raise UserError(f"{output_dir} holds the embedded data: choose another --output_dir, or remove it")
    output_dir.mkdir(parents=True, exist_ok=True)
    partial = {name: output_dir / f".{name}.partial" for name in FILES.values()}
    try:
        for name, path in partial.items():
            say(f"fetching {OFFICIAL}/{name}")
            _fetch(f"{OFFICIAL}/{name}", path)
        for name, path in partial.items():
            os.replace(path, output_dir / name)
    except (OSError, http.client.HTTPException) as error:
        by_hand = "\n".join(f"    {OFFICIAL}/{name}  ->  {output_dir / name}" for name in partial)
        raise UserError(
            f"FinQA could not be fetched: {getattr(error, 'reason', error)}\n"
            f"Either fetch these files by hand, from a machine with a network:\n{by_hand}\n"
            "or continue without them, with the embedded data:\n"
            f"    finrank sample-data --output_dir {output_dir}"
        ) from error
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


def _fetch(url: str, path: Path) -> None:
    """Save one JSON list; OSError when it does not arrive, arrives cut short, or is something else."""
    import urllib.request

    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, path.open("wb") as file:
        shutil.copyfileobj(response, file)
        expected = response.headers.get("Content-Length")
    size = path.stat().st_size
    if expected is not None and int(expected) != size:
        raise OSError(f"{url} broke off after {size} of {expected} bytes")
    with path.open("rb") as file:
        if not file.read(64).lstrip().startswith(b"["):
            raise OSError(f"{url} is not a JSON list (perhaps a page of the network in between)")
