"""Files of one JSON record per line: reading them line by line, and saying what is wrong with a line.

Nothing that a line holds stops the reading: wrong types, missing fields, NaN answers, bytes that are not UTF-8, JSON
that breaks off, keys that occur twice, endless nesting and endless lines all give a `BadLine` with the reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from finrank.console import Reading
from finrank.records import Record

RecordT = TypeVar("RecordT", bound=Record)

# A record of FinQA has 5,000 bytes, 10,000 at most; one above this is damaged, and is not parsed.
LONGEST_LINE = 1_000_000
_SHOWN = 60  # characters of a text in a reason
# The end of a key in JSON; inside a text too, where the quote is escaped.
_KEY_END = re.compile(rb'"[ \t\r]*:')
_ID_AT_START = re.compile(rb'\s*\{\s*"id"\s*:\s*"([^"\\]{1,200})"')


class Line(NamedTuple):
    """A line of a JSONL file; `content` is its head alone where `size`, its bytes, is more than `LONGEST_LINE`."""

    file: str
    number: int  # from 1, blank lines counted
    content: bytes
    size: int


class BadLine(NamedTuple):
    """One line of a file that could not be read as the record expected there."""

    file: str
    line: int
    id: str | None
    reason: str


def read_lines(path: Path, reading: Reading | None = None) -> Iterator[Line]:
    """Stream the lines of a file, blank ones left out; `reading` is kept up to date for a progress bar.

    A line of any length takes no more memory than `LONGEST_LINE`.
    """
    with path.open("rb") as stream:
        number = 0
        while content := stream.readline(LONGEST_LINE + 1):
            number += 1
            size, end = len(content), content[-1:]
            while size > LONGEST_LINE and end != b"\n" and (more := stream.readline(LONGEST_LINE)):
                size, end = size + len(more), more[-1:]
            if reading is not None:
                reading.done += size
            if content.strip():
                yield Line(str(path), number, content, size)


def read_record(line: Line, model: type[RecordT]) -> RecordT | BadLine:
    """The record of a line, or what is wrong with it; never raises."""
    if line.size > LONGEST_LINE:
        reason = f"the line has {line.size} bytes, more than the {LONGEST_LINE} that a record may have"
        return BadLine(line.file, line.number, _id_at_start(line.content), reason)
    try:
        record = model.model_validate_json(line.content)
    except ValidationError as error:
        return BadLine(line.file, line.number, _id_of(line.content), describe(error))
    # pydantic takes the last of equal keys; a count finds them without parsing twice.
    if len(_KEY_END.findall(line.content)) != _count_keys(record):
        decoder = KeyCheckingDecoder()
        decoder.decode(line.content.decode())
        if decoder.repeated is not None:
            reason = f"the key {decoder.repeated[:60]!r} occurs twice in one object"
            return BadLine(line.file, line.number, _id_of(line.content), reason)
    return record


def encode(record: Record) -> bytes:
    """A record as a line of a JSONL file, its end included."""
    return record.__pydantic_serializer__.to_json(record) + b"\n"


def _count_keys(record: Record) -> int:
    """How many keys the JSON of a record has, those of the records and dictionaries in its lists included."""
    count = len(record.model_fields_set)
    for value in record.__dict__.values():
        if isinstance(value, list) and value and isinstance(value[0], Record | dict):
            count += sum(_count_keys(item) if isinstance(item, Record) else len(item) for item in value)
    return count


class KeyCheckingDecoder(json.JSONDecoder):
    """A JSON decoder that notes in `repeated` a key that one object has twice: the standard one takes the last."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=self._object, parse_int=_integer)
        self.repeated: str | None = None

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            self.repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return found


def _integer(digits: str) -> int | float:
    # Python refuses very long integers; as a float they are merely infinite.
    return int(digits) if len(digits) <= 300 else float(digits)


def _id_of(line: bytes) -> str | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return _id_at_start(line)
    identifier = value.get("id") if isinstance(value, dict) else None
    return identifier if isinstance(identifier, str) else None


def _id_at_start(line: bytes) -> str | None:
    """The id of a line that is no JSON, where it stands in front, as the stages write it."""
    found = _ID_AT_START.match(line)
    return found[1].decode("utf-8", "replace") if found else None


def describe(error: ValidationError) -> str:
    """One line for a pydantic error: where, what was expected; at most three faults.

    >>> # "answer: Input should be 'yes' or 'no'; table.1: Input should be a valid list"
    """
    details = error.errors(include_url=False, include_context=False, include_input=False)
    faults = [f"{_where(fault['loc'])}: {fault['msg']}" for fault in details[:3]]
    return "; ".join(faults) + (f" (and {len(details) - 3} more)" if len(details) > 3 else "")


def _where(location: tuple[str | int, ...]) -> str:
    return shorten(".".join(str(part) for part in location), 100) or "record"


def shorten(text: str, limit: int) -> str:
    """The text if it has at most `limit` characters, else its head and its length."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def shown(text: str) -> str:
    """A text as reasons quote it: on one line, in ASCII, shortened."""
    return ascii(shorten(" ".join(text.split()), _SHOWN))


def shown_json(value: Any) -> str:
    """A JSON value as reasons quote it."""
    try:
        return shown(json.dumps(value))
    except RecursionError:  # what could just be read may be nested too deeply to be written
        return "deeply nested JSON"
