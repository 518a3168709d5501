"""Inputs and outputs that are Parquet files or URLs: s3://, gs://, hf://, https://, file:// and others, by fsspec.

Commands read and write JSON lines on this machine. For an input or output of another form they get working copies:

    ranked.parquet.work/        beside a local output; for a URL, ~/.cache/finrank/ranked.parquet-1a2b3c4d.work
      input/pools.jsonl         the input, fetched by every run; a line per row
      output/ranked.jsonl       what the command writes, with its rejects and manifest

At the end each file of the output is put under a temporary name and moved, so that no name ever stands for half of it;
then the folder is removed. After an interruption it stays, and the same command resumes from it.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from finrank.console import say
from finrank.errors import UserError
from finrank.store.growing_file import lock, open_lock_file
from finrank.store.json_lines import NAME_OF_COPY
from finrank.store.parquet import columns, parquet_lines, write_parquet
from finrank.store.replaced_folder import MANIFEST
from finrank.store.stage_dir import SPLITS
from finrank.store.writing import FULL, remedy

P = ParamSpec("P")
R = TypeVar("R")

_PARQUET = ".parquet"
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)")


def anywhere(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose --input and --output, or --input_dir and --output_dir, may be Parquet files or URLs."""
    signature = inspect.signature(command)
    source, target = names = [name for name in signature.parameters if re.match("(in|out)put_(path|dir)$", name)]

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        values = given.arguments
        folders, overwrite = source == "input_dir", values.get("overwrite")
        with working_copies(Path(values[source]), Path(values[target]), folders=folders, overwrite=overwrite) as paths:
            values.update(zip(names, paths, strict=True))
            return command(*given.args, **given.kwargs)

    return run


@contextmanager
def working_copies(source: Path, target: Path, *, folders: bool, overwrite: bool | None) -> Iterator[tuple[Path, Path]]:
    """Input and output of a command as JSON lines on this machine; at the end of the block the output is published.

    `folders`: they are folders of splits. `overwrite`: whether an output that exists may be replaced; None: the result
    of a stage may. Raises UserError where the input cannot be read, or the output be written.
    """
    published = _is_elsewhere(target)
    if not published and not (_is_elsewhere(source) or (folders and _has_parquet(source))):
        yield source, target
        return
    if _location(source) == _location(target):
        raise UserError(f"the output {_location(target)} would replace the input: choose another")
    work = _work_folder(target)
    output = work / "output" / (target.name if folders else f"{target.stem}.jsonl")
    with _locked(work, target):
        try:
            resumed = _is_filled(output.parent)
            if published and not resumed:
                _refuse_existing(target, overwrite)
                output.parent.mkdir(exist_ok=True)
            say(f"working copies: {work}, removed at the end; after an interruption the same command resumes there")
            copy = _fetch_splits(source, work / "input") if folders else _fetch(source, work / "input")
            NAME_OF_COPY[str(output)] = _location(target)
            NAME_OF_COPY[str(output.parent)] = os.path.dirname(_location(target))
            yield copy, output if published else target
            if published:
                _publish(output, target)
                shutil.rmtree(output.parent)
        finally:
            kept = _is_filled(output.parent)
            shutil.rmtree(work / "input" if kept else work, ignore_errors=True)


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _location(path: Path) -> str:
    """The URL in a path, or the local path, absolute.

    `Path` has made one slash of two.

    >>> _location(Path("s3://bucket/pools.jsonl")), _location(Path("file:///pools.jsonl"))
    ('s3://bucket/pools.jsonl', 'file:///pools.jsonl')
    """
    match = _URL.fullmatch(str(path))
    if match is None:
        return os.path.abspath(path)
    return f"{match[1]}://{'/' if match[1] == 'file' else ''}{match[2]}"


def _is_elsewhere(path: Path) -> bool:
    return path.suffix == _PARQUET or _URL.fullmatch(str(path)) is not None


def _has_parquet(folder: Path) -> bool:
    """True if a folder has a split in Parquet alone."""
    alone = (split for split in SPLITS if not (folder / f"{split}.jsonl").exists())
    return any((folder / f"{split}{_PARQUET}").exists() for split in alone)


def _work_folder(target: Path) -> Path:
    location = _location(target)
    if "://" not in location:
        return target.with_name(f"{target.name}.work")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "finrank" / f"{target.name}-{hashlib.sha256(location.encode()).hexdigest()[:8]}.work"


@contextmanager
def _locked(work: Path, target: Path) -> Iterator[None]:
    try:
        work.mkdir(parents=True, exist_ok=True)
        stream = open_lock_file(work / "lock")
    except OSError as error:
        raise UserError(f"{work} cannot be written: {error.strerror}") from error
    with lock(stream, f"another command is writing {_location(target)}: wait for it, or stop it"):
        yield


@contextmanager
def _opened(location: str, doing: str) -> Iterator[tuple[Any, str]]:
    """The file system of a location, and the path there; whatever goes wrong there becomes a UserError."""
    try:
        from fsspec.core import url_to_fs

        opened = url_to_fs(location)
    except (ImportError, ValueError) as error:  # ValueError: it does not know the scheme
        packages = "pip install 'finrank[parquet]'; s3:// needs s3fs too, gs:// gcsfs, az:// adlfs"
        raise UserError(f"{location} cannot be {doing}: {error} ({packages})") from error
    try:
        yield opened
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{location} cannot be {doing}: no such file or folder") from error
    except Exception as error:  # botocore, aiohttp, gcsfs and others have their own
        if doing == "read" and isinstance(error, OSError) and error.errno in FULL:
            raise UserError(f"no room for a working copy of {location}{remedy(error.errno)}") from error
        raise UserError(f"{location} cannot be {doing}: {type(error).__name__}: {error}") from error


def _fetch(source: Path, folder: Path, name: str | None = None) -> Path:
    """The input as JSON lines in a folder, or where it is if it needs no copy."""
    if not _is_elsewhere(source) and name is None:
        return source
    folder.mkdir(exist_ok=True)
    location, copy = _location(source), folder / (name or f"{source.stem}.jsonl")
    with _opened(location, "read") as (system, path), copy.open("wb") as lines:
        whole = system.info(path)["type"] == "file"
        # Spark, Ray and others write a folder of parts, those of failed attempts below _temporary.
        below = [] if whole else [part for part in system.find(path) if not re.search("/[._]", part[len(path) :])]
        parts = [path] if whole else sorted(part for part in below if part.endswith(_PARQUET))
        if not parts:
            raise UserError(f"{location} is a folder without {_PARQUET} files")
        for part in parts:
            with system.open(part, "rb") as stream:
                if part.endswith(_PARQUET):
                    lines.writelines(parquet_lines(stream, location))
                else:
                    shutil.copyfileobj(stream, lines)
    NAME_OF_COPY[str(copy)] = location
    return copy


def _fetch_splits(source: Path, folder: Path) -> Path:
    """The splits in a folder as JSON lines in another; of a split in both forms, the JSON lines."""
    if not _is_elsewhere(source) and not _has_parquet(source):
        return source
    location = _location(source)
    for split in SPLITS:
        for name in (f"{split}.jsonl", f"{split}{_PARQUET}"):
            with _opened(location, "read") as (system, path):
                found = system.exists(f"{path}/{name}")
            if found:
                _fetch(source / name, folder, f"{split}.jsonl")
                break
    if not folder.exists():
        raise UserError(f"no split in {location}: expected train.jsonl, dev.parquet or the like")
    NAME_OF_COPY[str(folder)] = location
    return folder


def _refuse_existing(target: Path, overwrite: bool | None) -> None:
    """UserError where the output exists, and may not be replaced, or where its place or form is out of reach."""
    if target.suffix == _PARQUET:
        columns()  # now, not after hours of work: is pyarrow installed?
    location = _location(target)
    with _opened(location, "written") as (system, path):
        if overwrite or not system.exists(path):
            return
        if overwrite is not None:
            raise UserError(f"{location} exists: choose another output, or start over with --overwrite")
        if not system.exists(f"{path}/{MANIFEST}"):
            raise UserError(f"{location} exists but is not a stage directory: choose another --output_dir")


def _publish(output: Path, target: Path) -> None:
    """Put what a command has written to its place: the manifest of a stage, or the output of another command, last."""
    from fsspec.implementations.local import LocalFileSystem

    folder = output if output.is_dir() else output.parent
    files = {path.name: path for path in folder.iterdir()}
    location, last, possible = _location(target), MANIFEST, {f"{split}.jsonl" for split in SPLITS}
    if folder != output:
        location, last, possible = os.path.dirname(location), target.name, {f"{output.stem}.rejects.jsonl"}
        if target.suffix == _PARQUET:
            files[last] = folder.with_name(last)
            write_parquet(files.pop(output.name), files[last])
    try:
        with _opened(location, "written") as (system, path):
            if isinstance(system, LocalFileSystem):  # others have no folders, or make them
                system.makedirs(path, exist_ok=True)
            for name in sorted(files, key=lambda name: (name == last, name)):
                system.put_file(str(files[name]), f"{path}/{name}.partial")
                system.mv(f"{path}/{name}.partial", f"{path}/{name}")
            for name in sorted(possible - set(files)):  # of an earlier result
                if system.exists(f"{path}/{name}"):
                    system.rm_file(f"{path}/{name}")
    except UserError as error:
        raise UserError(f"{error}; the result is in {folder}, and the same command puts it there") from error
    say(f"{_location(target)}: written")
