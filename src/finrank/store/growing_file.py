"""The files of `finrank rank`: an output that grows by blocks, its rejects, and a manifest that says how far it is.

    ranked.jsonl                  one line per pool, in the order of the input
    ranked.rejects.jsonl          the lines that could not be ranked, with number and reason; only where there are such
    ranked.jsonl.manifest.json    model, counts, and of each file how many bytes are finished, with their sha256

A block is appended first and counted in the manifest afterwards, by one rename. Whatever a killed run appended after
its last count is cut off by the next one, which then ranks that block again: no line is lost, none is there twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, AnyStr

from finrank.errors import UserError
from finrank.store import MANIFEST, versions, write_json

_MANIFEST_KEYS = {"input", "output", "rejects", "made_with", "lines", "counts", "complete"}
_READ = 1 << 20  # bytes read at a time


def lock(stream: IO[AnyStr], in_use: str) -> IO[AnyStr]:
    """Hold a file for this process until it is closed or the process ends; UserError `in_use` if another holds it."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise UserError(in_use) from error
    return stream


class _FinishedPart:
    """The part of a file that is finished: its first `size` bytes, and their hash."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._hash = hashlib.sha256()

    def state(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return {"file": self.path.name, "bytes": self.size, "sha256": self._hash.hexdigest()}

    def take_to(self, size: int) -> None:
        """Count what stands in the file up to there; less where the file is shorter."""
        if size == self.size:
            return
        with self.path.open("rb") as stream:
            stream.seek(self.size)
            while self.size < size and (read := stream.read(min(_READ, size - self.size))):
                self._hash.update(read)
                self.size += len(read)

    def append(self, data: bytes) -> None:
        """Write behind it; on the disk when this returns."""
        with self.path.open("ab") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        self._hash.update(data)
        self.size += len(data)

    def matches(self, stored: Mapping[str, Any], *, may_be_longer: bool) -> bool:
        """Whether the file begins with the part that was stored, which is counted here from now on."""
        found = self.size_on_disk()
        if found < stored["bytes"] or (found > stored["bytes"] and not may_be_longer):
            return False
        self.take_to(stored["bytes"])
        return bool(self.state()["sha256"] == stored["sha256"])

    def cut(self) -> None:
        """Remove what stands behind it."""
        if self.size_on_disk() > self.size:
            os.truncate(self.path, self.size)

    def tears_a_line(self) -> bool:
        """Whether it ends inside a line of the file."""
        if not 0 < self.size < self.size_on_disk():
            return False
        with self.path.open("rb") as stream:
            stream.seek(self.size - 1)
            return stream.read(1) != b"\n"

    def size_on_disk(self) -> int:
        """Bytes of the whole file; 0 where there is none."""
        return self.path.stat().st_size if self.path.is_file() else 0


class RankedFiles:
    """Output, rejects and manifest of one input; use as a context manager.

    `lines` and `input_done` say how many lines and bytes of the input are done, `counts` what became of its pools.
    """

    def __init__(self, input_path: Path, output_path: Path, made_with: Mapping[str, Any], *, overwrite: bool) -> None:
        """`made_with` is what besides the input decides the output: the model, the libraries, the device.

        Raises UserError on entering when the output is no result of this input and model, and on every other mismatch
        that would mix two results in one file; `overwrite` starts over instead.
        """
        self.input_path = input_path
        self.output_path = output_path
        self.rejects_path = output_path.with_name(f"{output_path.stem}.rejects.jsonl")
        self.manifest_path = output_path.with_name(f"{output_path.name}.{MANIFEST}")
        if input_path.resolve() in (output_path.resolve(), self.rejects_path.resolve()):
            raise UserError(f"--output {output_path} would replace the input: choose another")
        self.lines = 0
        self.counts: Counter[str] = Counter(ranked=0, abstained=0, rejected=0)
        self.complete = False
        self._made_with = dict(made_with)
        self._overwrite = overwrite
        self._input = _FinishedPart(input_path)
        self._output = _FinishedPart(output_path)
        self._rejects = _FinishedPart(self.rejects_path)

    @property
    def input_done(self) -> int:
        """Bytes of the input that are done."""
        return self._input.size

    def __enter__(self) -> RankedFiles:
        existed = self.output_path.is_file()
        self._lock = self._locked()
        try:
            ours = self.manifest_path.is_file()
            if ours and existed and not self._overwrite:
                self._resume()
            elif ours or self._overwrite or not (self._output.size_on_disk() or self._rejects.size_on_disk()):
                self._start_over()
            else:
                raise UserError(f"{self.output_path} exists and is no result of finrank rank ({self._remedy()})")
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def append(
        self, ranked: Sequence[bytes], rejects: Sequence[bytes], *, abstained: int, lines: int, input_done: int
    ) -> None:
        """Store a block: its lines of output (so many of them abstain) and of rejects, and how many lines and bytes of
        the input are done with it."""
        self._output.append(b"".join(ranked))
        if rejects:
            self._rejects.append(b"".join(rejects))
        self._input.take_to(input_done)
        self.lines = lines
        self.counts.update(ranked=len(ranked), abstained=abstained, rejected=len(rejects))
        self._store()

    def finish(self, input_done: int) -> None:
        """Mark the output as complete: so many bytes of the input, blank lines at its end included."""
        self._input.take_to(input_done)
        self._output.append(b"")  # an input without a pool has an empty output, not none
        self.complete = True
        self._store()

    def _locked(self) -> IO[bytes]:
        try:
            self.output_path.parent.mkdir(parents=True, exist_ok=True)
            stream = self.output_path.open("ab")
        except OSError as error:
            raise UserError(f"--output {self.output_path} cannot be written: {error.strerror}") from error
        return lock(stream, f"another finrank rank is writing {self.output_path}: wait for it, or stop it")

    def _start_over(self) -> None:
        self.manifest_path.unlink(missing_ok=True)
        self.rejects_path.unlink(missing_ok=True)
        os.truncate(self.output_path, 0)
        self._store()  # before the first block, so that what a kill leaves of it is known to be ours

    def _resume(self) -> None:
        stored = self._read_manifest()
        if stored["made_with"] != self._made_with:
            raise UserError(
                f"{self.output_path} was ranked with another model or on another machine: "
                f"{difference(stored['made_with'], self._made_with)} ({self._remedy()})"
            )
        # An input may have grown since, by whole lines.
        if not self._input.matches(stored["input"], may_be_longer=True) or self._input.tears_a_line():
            raise UserError(f"{self.input_path} is not what {self.output_path} was made from ({self._remedy()})")
        for own, counted in ((self._output, stored["output"]), (self._rejects, stored["rejects"])):
            # Behind what is counted only an unfinished run has something: a block that was cut off.
            if not own.matches(counted, may_be_longer=not stored["complete"]):
                raise UserError(f"{own.path} was changed since it was written ({self._remedy()})")
            own.cut()
        self.lines = stored["lines"]
        self.counts.update(stored["counts"])
        self.complete = bool(stored["complete"]) and self.input_done == self.input_path.stat().st_size

    def _read_manifest(self) -> dict[str, Any]:
        try:
            stored = json.loads(self.manifest_path.read_text(encoding="utf-8"))
            missing = sorted(_MANIFEST_KEYS - set(stored))
            if missing:
                raise ValueError(f"no {', '.join(missing)}")
            sizes = [stored[part]["bytes"] for part in ("input", "output", "rejects")]
            if not all(isinstance(number, int) for number in [*sizes, stored["lines"], *stored["counts"].values()]):
                raise ValueError("a count is no number")
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{self.manifest_path} is damaged: {error} ({self._remedy()})") from error
        return dict(stored)

    def _remedy(self) -> str:
        return "choose another --output, or start over with --overwrite"

    def _store(self) -> None:
        manifest = {
            "stage": "rank",
            "complete": self.complete,
            "made_with": self._made_with,
            "versions": versions("torch", "transformers", "peft", "tokenizers"),
            "lines": self.lines,
            "counts": dict(self.counts),
            "input": self._input.state(),
            "output": self._output.state(),
            "rejects": self._rejects.state(),
        }
        write_json(self.manifest_path, manifest)


def difference(stored: Any, now: Mapping[str, Any]) -> str:
    """What differs, each with what it was and what it is: "torch: 2.8.0, now 2.9.0"."""
    if not isinstance(stored, dict):
        return "its manifest does not say which"
    odd = [name for name in {**stored, **now} if stored.get(name) != now.get(name)]
    return "; ".join(f"{name}: {stored.get(name, 'not noted')}, now {now.get(name, 'none')}" for name in odd)
