"""Files of one JSON record per line, read line by line, with the reason where a line is not a record.

No content of a line stops the reading: wrong types, missing fields, NaN answers, bytes that are not UTF-8, broken JSON,
repeated keys, deep nesting and endless lines all become a `BadLine` with the reason. Unknown keys are ignored, with one
warning per file.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from pydantic import ValidationError

from finrank.console import Reading, warn
from finrank.errors import UserError
from finrank.records import Record

RecordT = TypeVar("RecordT", bound=Record)

# Bytes. A record of FinQA has 5,000, 10,000 at most; a longer line than this is damaged, and is not parsed.
LONGEST_LINE = 1_000_000
_LONGEST_ID, _LONGEST_REASON = 200, 500  # characters in rejects.jsonl
_LONGEST_JSON = 10_000_000  # bytes of a whole file of settings or facts, which have thousands
_LONGEST_QUOTE = 60  # characters of a key or a text in a reason
# The end of a key in JSON; inside a text too, where the quote is escaped.
_KEY_END = re.compile(rb'"[ \t\r]*:')
_ID_AT_START = re.compile(rb'\s*\{\s*"id"\s*:\s*"([^"\\]{1,200})"')
# How files begin, in lower case, that are given in place of JSON lines, and what they are.
_OTHER_FILES = {
    codecs.BOM_UTF16_LE: "text in UTF-16: save it as UTF-8",
    codecs.BOM_UTF16_BE: "text in UTF-16: save it as UTF-8",
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"pk\x03\x04": "a zip archive: unpack it first",
    b"par1": "Parquet: name it NAME.parquet (rank, solve, propose), or write it as JSON lines",
    **dict.fromkeys((b"<!doctype", b"<html", b"<?xml"), "HTML or XML, perhaps the page of an error"),
}
_files_with_unknown_keys: set[str] = set()  # that were warned of
NAME_OF_COPY: dict[str, str] = {}  # what the user calls a file or folder, by the path of its working copy (`remote.py`)


class Line(NamedTuple):
    """A line of a JSONL file; `content` is its head alone where `size`, its bytes, is more than `LONGEST_LINE`."""

    file: str
    number: int  # from 1, blank lines counted
    content: bytes
    size: int


class BadLine(NamedTuple):
    """A line that does not hold the expected record, and why: a row of rejects.jsonl."""

    file: str
    line: int | None  # number of the line from 1, or index in a list from 0
    id: str | None
    reason: str


def name_of(path: Path) -> str:
    """A path for messages and manifests: where it is a working copy, or in one, what the user gave or will find."""
    folder = NAME_OF_COPY.get(str(path.parent))
    return NAME_OF_COPY.get(str(path)) or (f"{folder}/{path.name}" if folder else str(path))


def read_lines(path: Path, reading: Reading | None = None) -> Iterator[Line]:
    """Stream the lines of a file, blank ones left out; `reading` is kept up to date for a progress bar.

    Raises UserError for a file that begins as one of another kind, such as gzip or UTF-16.
    """
    with path.open("rb") as stream:
        number = 0
        while line := read_line(stream, name_of(path), number := number + 1):
            if number == 1:
                _refuse_other_files(path, line.content[:20].lower())
            if reading is not None:
                reading.done += line.size
            if line.content.strip():
                yield line


def _refuse_other_files(path: Path, start: bytes) -> None:
    for begins, kind in _OTHER_FILES.items():
        if start.startswith(begins):
            raise UserError(f"{path} is not JSON in UTF-8 but {kind}")


def read_line(stream: IO[bytes], file: str, number: int) -> Line | None:
    """The line at which a stream is, which has this number in its file; None at the end.

    A line of any length takes no more memory than `LONGEST_LINE`. A byte order mark is left out, also where files that
    begin with one were joined.
    """
    content = stream.readline(LONGEST_LINE + 1)
    size, end = len(content), content[-1:]
    while size > LONGEST_LINE and end != b"\n" and (more := stream.readline(LONGEST_LINE)):
        size, end = size + len(more), more[-1:]
    return Line(file, number, content.removeprefix(codecs.BOM_UTF8), size) if size else None


def read_record(line: Line, model: type[RecordT]) -> RecordT | BadLine:
    """The record of a line, or why it has none; never raises. Unknown keys are left out."""
    if line.size > LONGEST_LINE:
        return BadLine(line.file, line.number, _id_at_start(line.content), _too_long(line, "record"))
    try:
        record = model.model_validate_json(line.content, extra="ignore")
    except ValidationError as error:
        return BadLine(line.file, line.number, _id_of(line.content), describe(error))
    # pydantic takes the last of equal keys; a count finds them without parsing twice.
    if len(_KEY_END.findall(line.content)) != _count_keys(record):
        decoder = KeyCheckingDecoder()
        value = decoder.decode(line.content.decode())
        if decoder.fault is not None:
            return BadLine(line.file, line.number, _id_of(line.content), decoder.fault)
        _warn_of_unknown_keys(line, _unknown_keys(value, record))
    return record


def read_value(line: Line, kind: str) -> Any | BadLine:
    """The JSON value of a line that is not one of our records, or why it has none; never raises.

    `kind` names the expected value in the message.
    """
    if line.size > LONGEST_LINE:
        return BadLine(line.file, line.number, None, _too_long(line, kind))
    decoder = KeyCheckingDecoder()
    try:
        value = decoder.decode(line.content.decode())
    except RecursionError:
        return BadLine(line.file, line.number, None, "not JSON: values nested too deeply")
    except ValueError as error:
        return BadLine(line.file, line.number, None, f"not JSON: {error}")
    return value if decoder.fault is None else BadLine(line.file, line.number, id_of(value), decoder.fault)


def read_json(path: Path) -> Any:
    """The value of a small JSON file; ValueError or OSError where it has none, in bounded time.

    A pipe would block, and a device never end.
    """
    if not path.is_file():
        raise OSError("not an ordinary file")
    with path.open("rb") as stream:
        content = stream.read(_LONGEST_JSON + 1)
    if len(content) > _LONGEST_JSON:
        raise ValueError(f"more than {_LONGEST_JSON} bytes")
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("values nested too deeply") from None


def line_id(line: Line) -> str | None:
    """The id of a line, read without the rest where it comes first; None where there is none."""
    return _id_at_start(line.content) or _id_of(line.content)


def encode(record: Record) -> bytes:
    """A record as a line of a JSONL file, its end included."""
    return record.__pydantic_serializer__.to_json(record) + b"\n"


def why_too_long(content: bytes, kind: str) -> str | None:
    """Why what `encode` wrote could not be read back; None where it can. `kind` names the record in the message."""
    if len(content) <= LONGEST_LINE:
        return None
    return f"the {kind} has {len(content)} bytes, more than the {LONGEST_LINE} that a record may have"


def encode_reject(reject: BadLine) -> bytes:
    """A line of rejects.jsonl; long ids and reasons are shortened, so that the file stays small."""
    identifier = None if reject.id is None else shorten(reject.id, _LONGEST_ID)
    row = {"file": reject.file, "line": reject.line, "id": identifier}
    row["reason"] = shorten(reject.reason, _LONGEST_REASON)
    # A lone surrogate cannot be UTF-8; JSON can name it.
    return json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


def _count_keys(record: Record) -> int:
    """The number of keys in the JSON of a record, those of the records and dictionaries in its lists included."""
    count = len(record.model_fields_set)
    for value in record.__dict__.values():
        if isinstance(value, list) and value and isinstance(value[0], Record | dict):
            count += sum(_count_keys(item) if isinstance(item, Record) else len(item) for item in value)
    return count


def _unknown_keys(value: dict[str, Any], record: Record) -> list[str]:
    """The keys of a record's JSON, and of the records in its lists, that name no field."""
    unknown = [key for key in value if key not in record.model_fields_set]
    for name in record.model_fields_set:
        items = getattr(record, name)
        if isinstance(items, list) and items and isinstance(items[0], Record):
            unknown += [key for pair in zip(value[name], items, strict=True) for key in _unknown_keys(*pair)]
    return list(dict.fromkeys(unknown))


def _warn_of_unknown_keys(line: Line, keys: list[str]) -> None:
    """One warning per file (and worker process); a misspelt optional key would be lost silently."""
    if keys and line.file not in _files_with_unknown_keys:
        _files_with_unknown_keys.add(line.file)
        more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
        warn(f"{line.file}: unknown keys are ignored: {', '.join(map(shown, keys[:5]))}{more} (line {line.number})")


class KeyCheckingDecoder(json.JSONDecoder):
    """A JSON decoder whose `fault` names a key that one object has twice; the standard one takes the last.

    `strict=False` allows raw line breaks and tabs inside strings.
    """

    def __init__(self, *, strict: bool = True) -> None:
        super().__init__(object_pairs_hook=self._object, parse_int=_integer, strict=strict)
        self.fault: str | None = None

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        decoded = dict(pairs)
        if len(decoded) < len(pairs):
            repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            self.fault = f"the key {shorten(repeated, _LONGEST_QUOTE)!r} occurs twice in one object"
        return decoded


def _integer(digits: str) -> int | float:
    # Python refuses very long integers; as a float they are merely infinite.
    return int(digits) if len(digits) <= 300 else float(digits)


def id_of(value: Any) -> str | None:
    """The id of a JSON object if it is a text, else None; characters that no file can hold are replaced."""
    identifier = value.get("id") if isinstance(value, dict) else None
    return identifier.encode("utf-8", "replace").decode() if isinstance(identifier, str) else None


def _id_of(line: bytes) -> str | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return _id_at_start(line)
    return id_of(value)


def _id_at_start(line: bytes) -> str | None:
    """The id of a line that is not JSON, where it comes first, as the stages write it."""
    match = _ID_AT_START.match(line)
    return match[1].decode("utf-8", "replace") if match else None


def _too_long(line: Line, kind: str) -> str:
    return f"the line has {line.size} bytes, more than the {LONGEST_LINE} that a {kind} may have"


def describe(error: ValidationError) -> str:
    """One line for a pydantic error, with at most three faults.

    For example "answer: Input should be 'yes' or 'no'; table.1: Input should be a valid list".
    """
    details = error.errors(include_url=False, include_context=False, include_input=False)
    fields = [shorten(".".join(map(str, fault["loc"])), 100) or "record" for fault in details[:3]]
    faults = [f"{field}: {fault['msg']}" for field, fault in zip(fields, details, strict=False)]
    return "; ".join(faults) + (f" (and {len(details) - 3} more)" if len(details) > 3 else "")


def shorten(text: str, limit: int) -> str:
    """The text if it has at most `limit` characters, else its head and its length."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def shown(text: str) -> str:
    """A text as reasons quote it: on one line, in ASCII, shortened."""
    return ascii(shorten(" ".join(text.split()), _LONGEST_QUOTE))


def shown_json(value: Any) -> str:
    """A JSON value as reasons quote it."""
    try:
        return shown(json.dumps(value))
    except RecursionError:  # what could just be read may be nested too deeply to be written
        return "deeply nested JSON"
