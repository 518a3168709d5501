"""Replacing a stage directory whole: one process at a time, never anything else, and at every moment old or new.

    .NAME.lock       held while a command writes NAME; gone when it ends
    .NAME.partial    what it has written so far; after the exchange, the earlier result, until it is removed
    .NAME.old        the earlier result, on systems that cannot exchange two folders in one step

What a killed command leaves of these, the next one on the same folder clears away.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from finrank.errors import UserError
from finrank.store.growing_file import lock, open_lock_file
from finrank.store.json_lines import read_json
from finrank.store.writing import FULL, cannot_write

MANIFEST = "manifest.json"
_CURRENT_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


def real_folder(directory: Path) -> Path:
    """The folder with its links followed; UserError for a file, or a link that leads back to itself."""
    real = Path(os.path.realpath(directory))
    if real.is_symlink():
        raise UserError(f"{directory} is a link that leads back to itself: choose another --output_dir")
    if real.exists() and not real.is_dir():
        raise UserError(f"{directory} is a file: --output_dir must be a folder")
    return real


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """The manifest of a folder that finrank has written; None where there is none, or another program's."""
    try:
        manifest: dict[str, Any] = read_json(directory / MANIFEST)
        ours = isinstance(manifest["stage"], str) and "finrank" in manifest["versions"]
        return manifest if ours and isinstance(manifest["outputs"], dict) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def refuse_other_data(directory: Path) -> None:
    """UserError unless the folder is missing, empty, or holds what its manifest of finrank lists and nothing else."""
    names = sorted(path.name for path in directory.iterdir()) if directory.exists() else []
    manifest = read_manifest(directory)
    if names and manifest is None:
        raise UserError(
            f"{directory} exists but is not a stage directory (it has no {MANIFEST} of finrank): "
            "choose another --output_dir, or remove it"
        )
    listed = {MANIFEST, *(manifest or {}).get("outputs", ())}
    if others := [name for name in names if name not in listed]:
        raise UserError(
            f"{directory} holds {others[0]}, which its {MANIFEST} does not list, and would be replaced: move it away, "
            "or choose another --output_dir"
        )


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `directory` at the end of the block.

    After an error everything written is removed, and `directory` stays as it was. Raises UserError while another
    command writes it, where it cannot be written, and rather than replace anything but the result of a stage.
    """
    directory = real_folder(directory)
    refuse_other_data(directory)
    with _claimed(directory):
        partial = _sibling(directory, "partial")
        try:
            _clear_away(directory)
            partial.mkdir()
            yield partial
            refuse_other_data(directory)  # again: the work took its time
            _publish(partial, directory)
        except OSError as error:
            if error.errno not in FULL and not _names(error, partial):
                raise  # of an input
            raise cannot_write(directory, error) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _claimed(directory: Path) -> Iterator[None]:
    """Hold the folder's name for this process."""
    path = _sibling(directory, "lock")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        stream = _locked(path, f"another command is writing {directory}: wait for it, or stop it")
    except OSError as error:
        raise cannot_write(directory, error) from error
    with stream:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path, in_use: str) -> IO[str]:
    """A lock file of this process; one that another process has just removed does not count."""
    while True:
        stream = lock(open_lock_file(path), in_use)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
        stream.close()


def _clear_away(directory: Path) -> None:
    """Remove what a killed command has left, after putting back an earlier result that it had moved aside."""
    partial, old = _sibling(directory, "partial"), _sibling(directory, "old")
    if old.exists() and not directory.exists():
        old.rename(directory)
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)


def _publish(partial: Path, directory: Path) -> None:
    if not directory.exists():
        partial.rename(directory)
    elif not _exchange(partial, directory):
        old = _sibling(directory, "old")
        directory.rename(old)
        partial.rename(directory)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders exchange their names in one step; False where the system or the disk cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(first), os.fsencode(second)
    return bool(rename(_CURRENT_FOLDER, names[0], _CURRENT_FOLDER, names[1], _EXCHANGE) == 0)


def _sibling(directory: Path, kind: str) -> Path:
    return directory.with_name(f".{directory.name}.{kind}")


def _names(error: OSError, folder: Path) -> bool:
    return error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(folder)
