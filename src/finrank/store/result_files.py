"""The resumable output of the commands that turn a file of lines into another one: rank, propose and solve.

    ranked.jsonl                  one line per line of the input, in its order
    ranked.rejects.jsonl          the lines that could not be used, with number and reason; only if there are any
    ranked.jsonl.manifest.json    model, counts, and how many bytes of each file are finished, with their sha256

Lines are worked on in blocks of a fixed number. A block is appended first and counted in the manifest afterwards, by
one rename. The next run cuts off whatever a killed run appended after its last count, and works on that block again: no
line is lost or repeated, and the bytes of the output are the same however often a run is cut off. Memory does not grow
with the number of lines.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from finrank.console import Reading, track
from finrank.errors import UserError
from finrank.store import MANIFEST, BadLine, describe, versions, write_json
from finrank.store.growing_file import FilePart, GrowingFile, difference, open_locked
from finrank.store.json_lines import Line, encode_reject, read_lines

_LINES_PER_BLOCK = 64
_BYTES_PER_BLOCK = 4_000_000  # for files of very long lines


class Block(NamedTuple):
    """What was made of a block of lines: lines of the output, why others have none, and what to count."""

    lines: list[bytes]
    rejects: list[BadLine]
    counts: dict[str, int]


class _ResultManifest(BaseModel):
    stage: str
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
def open_results(
    input_path: Path, output_path: Path, command: str, made_with: Mapping[str, Any], *, overwrite: bool
) -> Iterator[ResultFiles]:
    """Lock the output of a command, and resume an earlier run or start over.

    `made_with` is everything besides the input that decides the output: model, libraries, device. Raises UserError if
    the output was made from another input or with something else, unless `overwrite` starts over.
    """
    files = ResultFiles(input_path, output_path, command, made_with)
    if os.path.realpath(input_path) in map(os.path.realpath, (output_path, files.rejects.path)):
        raise UserError(f"--output {output_path} would replace the input: choose another")
    existed = output_path.is_file()
    with open_locked(output_path, f"finrank {command}"):
        ours = files.manifest_path.is_file()
        if ours and existed and not overwrite:
            files.resume()
        elif ours or overwrite or not (files.output.size_on_disk or files.rejects.size_on_disk):
            files.start_over()
        else:
            raise UserError(f"{output_path} exists but is not a result of finrank {command} ({_REMEDY})")
        yield files


class ResultFiles:
    """Input, output, rejects and manifest of a command, and how much of them is finished."""

    def __init__(self, input_path: Path, output_path: Path, command: str, made_with: Mapping[str, Any]) -> None:
        self.command = command
        self.manifest_path = output_path.with_name(f"{output_path.name}.{MANIFEST}")
        self.input, self.output = GrowingFile(input_path), GrowingFile(output_path)
        self.rejects = GrowingFile(output_path.with_name(f"{output_path.stem}.rejects.jsonl"))
        self.lines = 0  # of the input that are done
        self.counts: Counter[str] = Counter()
        self.complete = False
        self._made_with = dict(made_with)

    def transform(self, made_of: Callable[[Iterable[list[Line]]], Iterator[Block]], description: str) -> None:
        """Store what is made of the lines that are not done yet, block by block.

        `made_of` is a map over blocks, in their order; it may take blocks ahead of what it yields.
        """
        start, lines_done = self.input.size, self.lines
        # The part that an earlier run did is not progress of this one: the estimated time left would be too short.
        reading = Reading(total=self.input.path.stat().st_size - start, done=-start)
        lines = (line for line in read_lines(self.input.path, reading) if line.number > lines_done)
        ends: deque[tuple[int, int]] = deque()  # of the blocks at work: their last line, and its end in bytes

        def blocks() -> Iterator[list[Line]]:
            for block in _blocks(track(lines, description, reading=reading)):
                ends.append((block[-1].number, start + reading.done))
                yield block

        for made in made_of(blocks()):
            last_line, input_done = ends.popleft()
            self._append(made, lines=last_line, input_done=input_done)
        self.input.finish_to(start + reading.done)  # with blank lines at its end
        self.complete = True
        self._store()

    def _append(self, made: Block, *, lines: int, input_done: int) -> None:
        self.output.append(b"".join(made.lines))
        if made.rejects:
            self.rejects.append(b"".join(map(encode_reject, made.rejects)))
        self.input.finish_to(input_done)
        self.lines = lines
        self.counts.update({**made.counts, "rejected": len(made.rejects)})
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
            stored = _ResultManifest.model_validate_json(self.manifest_path.read_bytes())
        except ValidationError as error:
            raise UserError(f"{self.manifest_path} is damaged: {describe(error)} ({_REMEDY})") from error
        if stored.made_with != self._made_with:
            changed = difference(stored.made_with, self._made_with)
            where = f"{self.output.path} was made with another model or on another machine"
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
        manifest = _ResultManifest(
            stage=self.command,
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


def _blocks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    block: list[Line] = []
    for line in lines:
        block.append(line)
        if len(block) == _LINES_PER_BLOCK or sum(len(line.content) for line in block) > _BYTES_PER_BLOCK:
            yield block
            block = []
    if block:
        yield block
