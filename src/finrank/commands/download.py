"""The `download` command: fetch the official FinQA files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from finrank.commands.options import RAW
from finrank.console import say
from finrank.errors import UserError
from finrank.store import MANIFEST, sha256

# A commit, whose files never change: the last one of the repository, of June 2022.
OFFICIAL = "https://raw.githubusercontent.com/czyssrs/FinQA/0f16e2867befa6840783e58be38c9efb9229d742/dataset"
_TIMEOUT = 60.0  # seconds without any data
_BLOCK = 1 << 20  # bytes read at a time


class Pin(NamedTuple):
    """What is known of an official file."""

    most_bytes: int
    sha256: str


PINS = {
    "train.json": Pin(79_000_000, "49f237eb9779b569473b26b08048867d04635a7cc39ad6a7a5664c55bb428db6"),
    "dev.json": Pin(10_954_658, "a847fb7e0d61a3125a1e2909852df6b89f1ee64d2c5ff1bf689e332214deee51"),
    "test.json": Pin(14_395_143, "831dbfb2e785dbc227f895ce3f24046433467aec67b09db2bd6ac7692a8a30dc"),
}


def download(
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write the official files to.")] = RAW,
) -> None:
    """Fetch the official FinQA files (needs a network).

    Writes train.json, dev.json and test.json, once all three have arrived with the sha256 of the official ones.

    \b
    Example:
      finrank download --output_dir datasets/finqa_raw
    """
    import http.client

    if (output_dir / MANIFEST).is_file():
        raise UserError(f"{output_dir} holds the embedded data: choose another --output_dir, or remove it")
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetched-", dir=output_dir) as aside:
            for name, pin in PINS.items():
                say(f"fetching {OFFICIAL}/{name}")
                _fetch(f"{OFFICIAL}/{name}", Path(aside) / name, pin)
            for name in PINS:
                os.replace(Path(aside) / name, output_dir / name)
    except (OSError, http.client.HTTPException) as error:
        by_hand = "\n".join(f"    {OFFICIAL}/{name}  ->  {output_dir / name}" for name in PINS)
        raise UserError(
            f"FinQA could not be fetched: {getattr(error, 'reason', error)}\n"
            f"Either fetch these files by hand, from a machine with a network:\n{by_hand}\n"
            "or continue without them, with the embedded data:\n"
            f"    finrank sample-data --output_dir {output_dir}"
        ) from error


def _fetch(url: str, path: Path, pin: Pin) -> None:
    """Save one file; OSError when it does not arrive, arrives cut short, or is something else."""
    import urllib.request

    size = 0
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, path.open("wb") as file:
        while block := response.read(min(_BLOCK, pin.most_bytes + 1 - size)):
            size += file.write(block)
        expected = response.headers.get("Content-Length")
    if size > pin.most_bytes:
        raise OSError(f"{url} has more than the {pin.most_bytes} bytes of the official file")
    if expected is not None and int(expected) != size:
        raise OSError(f"{url} broke off after {size} of {expected} bytes")
    if (digest := sha256(path)) != pin.sha256:
        raise OSError(
            f"{url} is not the official file (perhaps a page of the network in between): it has sha256 {digest}, "
            f"expected {pin.sha256}"
        )
