"""Fetching the official FinQA files, for users with a network."""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from finrank.console import say
from finrank.errors import UserError
from finrank.sources.finqa import FILES
from finrank.store import MANIFEST

OFFICIAL = "https://raw.githubusercontent.com/czyssrs/FinQA/main/dataset"
_TIMEOUT = 60.0  # seconds without any data


def fetch_official(output_dir: Path, base_url: str = OFFICIAL) -> list[Path]:
    """Fetch train.json, dev.json and test.json into a folder and return their paths.

    The files get their names only when all have arrived whole, replacing earlier ones. Raises UserError, with
    alternatives, when one cannot be fetched or the folder holds the embedded data.
    """
    if (output_dir / MANIFEST).is_file():
        raise UserError(f"{output_dir} holds the embedded data: choose another --output_dir, or remove it")
    output_dir.mkdir(parents=True, exist_ok=True)
    partial = {name: output_dir / f".{name}.partial" for name in FILES.values()}
    try:
        for name, path in partial.items():
            say(f"fetching {base_url}/{name}")
            _fetch(f"{base_url}/{name}", path)
        for name, path in partial.items():
            os.replace(path, output_dir / name)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(_alternatives(base_url, output_dir, error)) from error
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
    return [output_dir / name for name in partial]


def _fetch(url: str, path: Path) -> None:
    """Save one JSON list; OSError when it does not arrive, arrives cut short, or is something else."""
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, path.open("wb") as file:
        shutil.copyfileobj(response, file)
        expected = response.headers.get("Content-Length")
    size = path.stat().st_size
    if expected is not None and int(expected) != size:
        raise OSError(f"{url} broke off after {size} of {expected} bytes")
    with path.open("rb") as file:
        if not file.read(64).lstrip().startswith(b"["):
            raise OSError(f"{url} is not a JSON list (perhaps a page of the network in between)")


def _alternatives(base_url: str, output_dir: Path, error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    by_hand = "\n".join(f"    {base_url}/{name}  ->  {output_dir / name}" for name in FILES.values())
    return (
        f"FinQA could not be fetched: {reason}\n"
        f"Either fetch these files by hand, from a machine with a network:\n{by_hand}\n"
        "or continue without them, with the embedded data:\n"
        f"    finrank sample-data --output_dir {output_dir}"
    )
