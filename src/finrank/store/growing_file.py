"""Files that grow and survive a kill: a lock, and the part that is finished."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, AnyStr

from pydantic import BaseModel

from finrank.errors import UserError
from finrank.store.writing import cannot_write, writing

_READ = 1 << 20  # bytes read at a time


def lock(stream: IO[AnyStr], in_use: str) -> IO[AnyStr]:
    """Lock a file until it is closed or the process ends; UserError `in_use` if another process holds it."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise UserError(in_use) from error
    return stream


def open_lock_file(path: Path) -> IO[str]:
    """Open a file to lock, made if missing; OSError for a link, which may lead to a file of value, or a pipe."""
    return open(path, "a", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666))


def open_locked(path: Path, command: str) -> IO[bytes]:
    """Open a file for appending, made with its folders if missing, and lock it.

    Raises UserError if it cannot be written, or while another run of `command` holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab")
    except OSError as error:
        raise cannot_write(path, error) from error
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
        """Append to the finished part and return the offset of the data, which is on the disk by then.

        Raises UserError where it cannot be written.
        """
        offset = self.size
        with writing(self.path), self.path.open("ab") as stream:
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
