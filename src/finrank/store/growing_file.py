"""Files that grow and survive a kill: a lock, the part that is finished, and the resumable output of `finrank rank`.

    ranked.jsonl                  one line per pool, in the order of the input
    ranked.rejects.jsonl          the lines that could not be ranked, with number and reason; only if there are any
    ranked.jsonl.manifest.json    model, counts, and how many bytes of each file are finished, with their sha256

A block is appended first and counted in the manifest afterwards, by one rename. The next run cuts off whatever a killed
run appended after its last count, and ranks that block again: no line is lost or repeated.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, AnyStr

from pydantic import BaseModel, ValidationError

from finrank.errors import UserError
from finrank.store import MANIFEST, describe, versions, write_json

_READ = 1 << 20  # bytes read at a time


def lock(stream: IO[AnyStr], in_use: str) -> IO[AnyStr]:
    """Lock a file until it is closed or the process ends; UserError `in_use` if another process holds it."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise UserError(in_use) from error
    return stream


def open_locked(path: Path, command: str) -> IO[bytes]:
    """Open a file for appending, made with its folders if missing, and lock it.

    Raises UserError if it cannot be written, or while another run of `command` holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    return lock(stream, f"another {command} is writing {path}: wait for it, or stop it")


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What changed, with the old and the new value of each name: "torch: 2.8.0, now 2.9.0"."""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return "; ".join(f"{name}: {before.get(name, 'not noted')}, now {now.get(name, 'none')}" for name in changed)


class FilePart(BaseModel):
    """The finished part of a file, as a manifest stores it."""

    file: str
    bytes: int
    sha256: str


class GrowingFile:
    """A file whose first `size` bytes are finished; a killed run may have left something after them."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0
        self._hash = hashlib.sha256()

    @property
    def part(self) -> FilePart:
        """The finished part."""
        return FilePart(file=self.path.name, bytes=self.size, sha256=self._hash.hexdigest())

    @property
    def size_on_disk(self) -> int:
        """Bytes of the whole file; 0 if there is none."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def append(self, data: bytes) -> int:
        """Append to the finished part and return the offset of the data, which is on the disk by then."""
        offset = self.size
        with self.path.open("ab") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        self._count(data)
        return offset

    def finish_to(self, size: int) -> None:
        """Count the file's bytes up to `size` as finished, or all of them if there are fewer."""
        if size > self.size:
            with self.path.open("rb") as stream:
                stream.seek(self.size)
                while read := stream.read(min(_READ, size - self.size)):
                    self._count(read)

    def finish_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield offset and content of every line of the file but a torn last one; they count as finished."""
        with self.path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    self._count(line)
                    yield self.size - len(line), line

    def matches(self, stored: FilePart, *, may_be_longer: bool) -> bool:
        """True if the file begins with the stored part, which then counts as finished."""
        size = self.size_on_disk
        if size < stored.bytes or (size > stored.bytes and not may_be_longer):
            return False
        self.finish_to(stored.bytes)
        return self.part.sha256 == stored.sha256

    def cut(self) -> None:
        """Remove everything after the finished part."""
        if self.size_on_disk > self.size:
            os.truncate(self.path, self.size)

    def ends_inside_a_line(self) -> bool:
        """True if the finished part ends in the middle of a line of the file."""
        if not 0 < self.size < self.size_on_disk:
            return False
        with self.path.open("rb") as stream:
            stream.seek(self.size - 1)
            return stream.read(1) != b"\n"

    def _count(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)


class _RankManifest(BaseModel):
    stage: str = "rank"
    complete: bool
    made_with: dict[str, Any]
    versions: dict[str, str]
    lines: int
    counts: dict[str, int]
    input: FilePart
    output: FilePart
    rejects: FilePart


_REMEDY = "choose another --output, or start over with --overwrite"


@contextmanager
def open_ranked(
    input_path: Path, output_path: Path, made_with: Mapping[str, Any], *, overwrite: bool
) -> Iterator[RankedFiles]:
    """Lock the output of `finrank rank`, and resume an earlier run or start over.

    `made_with` is everything besides the input that decides the output: model, libraries, device. Raises UserError if
    the output was made from another input or with something else, unless `overwrite` starts over.
    """
    files = RankedFiles(input_path, output_path, made_with)
    if input_path.resolve() in (output_path.resolve(), files.rejects.path.resolve()):
        raise UserError(f"--output {output_path} would replace the input: choose another")
    existed = output_path.is_file()
    with open_locked(output_path, "finrank rank"):
        ours = files.manifest_path.is_file()
        if ours and existed and not overwrite:
            files.resume()
        elif ours or overwrite or not (files.output.size_on_disk or files.rejects.size_on_disk):
            files.start_over()
        else:
            raise UserError(f"{output_path} exists but is not a result of finrank rank ({_REMEDY})")
        yield files


class RankedFiles:
    """Input, output, rejects and manifest of `finrank rank`, and how much of them is finished."""

    def __init__(self, input_path: Path, output_path: Path, made_with: Mapping[str, Any]) -> None:
        self.manifest_path = output_path.with_name(f"{output_path.name}.{MANIFEST}")
        self.input, self.output = GrowingFile(input_path), GrowingFile(output_path)
        self.rejects = GrowingFile(output_path.with_name(f"{output_path.stem}.rejects.jsonl"))
        self.lines = 0  # of the input that are done
        self.counts: Counter[str] = Counter(ranked=0, abstained=0, rejected=0)
        self.complete = False
        self._made_with = dict(made_with)

    def append(
        self, ranked: Sequence[bytes], rejects: Sequence[bytes], *, abstained: int, lines: int, input_done: int
    ) -> None:
        """Store a block: its output lines (`abstained` of them abstain), its rejects, and the progress in the input."""
        self.output.append(b"".join(ranked))
        if rejects:
            self.rejects.append(b"".join(rejects))
        self.input.finish_to(input_done)
        self.lines = lines
        self.counts.update(ranked=len(ranked), abstained=abstained, rejected=len(rejects))
        self._store()

    def finish(self, input_done: int) -> None:
        """Mark the output as complete, with the bytes of the input including blank lines at its end."""
        self.input.finish_to(input_done)
        self.complete = True
        self._store()

    def start_over(self) -> None:
        """Remove the result of an earlier run."""
        self.manifest_path.unlink(missing_ok=True)
        self.rejects.path.unlink(missing_ok=True)
        os.truncate(self.output.path, 0)
        self._store()  # before the first block, so that what a kill leaves of it is known to be ours

    def resume(self) -> None:
        """Continue the result of an earlier run, and cut off what it did not finish."""
        try:
            stored = _RankManifest.model_validate_json(self.manifest_path.read_bytes())
        except ValidationError as error:
            raise UserError(f"{self.manifest_path} is damaged: {describe(error)} ({_REMEDY})") from error
        if stored.made_with != self._made_with:
            changed = difference(stored.made_with, self._made_with)
            where = f"{self.output.path} was ranked with another model or on another machine"
            raise UserError(f"{where}: {changed} ({_REMEDY})")
        # The input may have grown since, by whole lines.
        if not self.input.matches(stored.input, may_be_longer=True) or self.input.ends_inside_a_line():
            raise UserError(f"{self.input.path} is not the input that {self.output.path} was made from ({_REMEDY})")
        for file, counted in ((self.output, stored.output), (self.rejects, stored.rejects)):
            # Only an unfinished run leaves anything after the counted part: a block that was cut off.
            if not file.matches(counted, may_be_longer=not stored.complete):
                raise UserError(f"{file.path} was changed since it was written ({_REMEDY})")
            file.cut()
        self.lines = stored.lines
        self.counts.update(stored.counts)
        self.complete = stored.complete and self.input.size == self.input.size_on_disk

    def _store(self) -> None:
        manifest = _RankManifest(
            complete=self.complete,
            made_with=self._made_with,
            versions=versions("torch", "transformers", "peft", "tokenizers"),
            lines=self.lines,
            counts=self.counts,
            input=self.input.part,
            output=self.output.part,
            rejects=self.rejects.part,
        )
        write_json(self.manifest_path, manifest.model_dump())
