"""Disks that are full or read-only, where the machine lets a test mount them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A disk in memory, or what the options of mount say, at `folder`; skips the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    command = ["mount", *(options or ("-t", "tmpfs", "-o", "size=8m", "none")), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def nearly_full(disk: Path, free: int) -> Iterator[None]:
    """The disk with so many bytes free."""
    left = os.statvfs(disk)
    ballast = disk / "ballast"
    with ballast.open("wb") as stream:
        stream.write(bytes(max(0, left.f_bavail * left.f_frsize - free)))
    try:
        yield
    finally:
        ballast.unlink()
