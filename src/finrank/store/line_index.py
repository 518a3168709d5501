"""The lines of a JSONL file by the ids of their records, for files whose order is not that of the questions."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from finrank.console import Reading, track
from finrank.records import Question
from finrank.store.json_lines import BadLine, Line, line_id, read_line, read_lines, read_record


@contextmanager
def lines_by_id(path: Path, reject: Callable[[BadLine], None]) -> Iterator[Callable[[str], Line | None]]:
    """Index a file; yields a function that reads the line of an id, None where the file does not have the id.

    Memory holds the ids and where their lines are, no records. Lines without an id, and further lines of the same id,
    are given to `reject`; all others may still be unreadable.
    """
    numbers, offsets = array("Q"), array("Q")
    position_of: dict[str, int] = {}
    reading = Reading.of(path)
    for line in track(read_lines(path, reading), f"index of {path}", reading=reading):
        identifier = line_id(line)
        if identifier is None:
            unreadable = read_record(line, Question)
            assert isinstance(unreadable, BadLine)
            reject(unreadable)
        elif (known := position_of.get(identifier)) is not None:
            reject(BadLine(line.file, line.number, identifier, f"line {numbers[known]} has the same id, and is used"))
        else:
            position_of[identifier] = len(offsets)
            numbers.append(line.number)
            offsets.append(reading.done - line.size)
    with path.open("rb") as stream:

        def line_of(identifier: str) -> Line | None:
            position = position_of.get(identifier)
            if position is None:
                return None
            stream.seek(offsets[position])
            return read_line(stream, str(path), numbers[position])

        yield line_of
