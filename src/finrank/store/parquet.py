"""Records as Parquet files, for pandas, Spark and Ray: a row per JSON line, a column per key.

A column has one type, and an answer is a number or a word. So `answer` is a double, and `yes_no`, beside it, a string:
at most one of the two is not null. The same holds inside `candidates` and `answers`. A missing key is a null, and
reading leaves nulls out. Files of others may have other columns, and other types that JSON has too: candidates as
list<string>, an id that is a number, an answer that is a text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from finrank.errors import UserError

if TYPE_CHECKING:
    import pyarrow

_ROWS = 512  # that are in memory at a time
_VALUELESS = ("answer", "score")  # null where a candidate has no value; other keys are then left out
_NOT_UTF8 = b'"\xff"\n'  # readers of lines reject it with that reason


def columns() -> dict[str, pyarrow.DataType]:
    """The type of every column; a file has those that its records have.

    Raises UserError where pyarrow is not installed.
    """
    pa = _pyarrow()
    text, number, whole, texts = pa.string(), pa.float64(), pa.int64(), pa.list_(pa.string())
    answer = {"answer": number, "yes_no": text}
    said = {"stated": text, "error": text, "origin": text, "edits": texts, "model": text, "log_probability": number}
    candidate = pa.struct({"program": text, **answer, **said})
    place = {"probability": number, "score": number, "index": whole, "indices": pa.list_(whole)}
    ranked = pa.struct({**answer, **place, "programs": texts, "error": text, "models": texts})
    parts = pa.struct(dict.fromkeys(("execution", "closeness", "operations"), number))
    page = {"page": text, "question": text, "table": pa.list_(texts), "text": texts}
    rewarded = {"rewards": pa.list_(number), "components": pa.list_(parts), "correct": pa.list_(whole)}
    rankings = {"probability": number, "abstain": pa.bool_(), "answers": pa.list_(ranked)}
    return {"id": text, **page, "program": text, **answer, "candidates": pa.list_(candidate), **rewarded, **rankings}


def parquet_lines(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """The rows of a Parquet file as JSON lines, one each, read a few at a time.

    Raises UserError, with the file's `name`, where it is damaged or not Parquet, or pyarrow is not installed.
    """
    pa = _pyarrow()
    try:
        for batch in pa.parquet.ParquetFile(stream).iter_batches(batch_size=_ROWS):
            for row in _rows(batch):
                yield _NOT_UTF8 if row is None else _encode(_record(row))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{name} cannot be read as Parquet: {error}") from error


def write_parquet(lines: Path, target: Path) -> None:
    """Write records of one kind, which finrank has written as JSON lines, to a Parquet file; flat memory."""
    pa, types = _pyarrow(), columns()
    with lines.open("rb") as stream:
        first = _row(json.loads(stream.readline() or "{}"))
        # The words of answers are rare: the first record need not have one.
        names = [name for name in types if name in first or (name == "yes_no" and "answer" in first)] or list(types)
        assert set(first) <= set(names), "a key without a column"
        stream.seek(0)
        rows = (_row(json.loads(line)) for line in stream)
        with pa.parquet.ParquetWriter(target, pa.schema([(name, types[name]) for name in names])) as writer:
            while block := list(islice(rows, _ROWS)):
                writer.write_table(pa.Table.from_pylist(block, schema=writer.schema))


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("Parquet files need pyarrow: pip install 'finrank[parquet]'") from error
    return pyarrow


def _rows(batch: Any) -> list[dict[str, Any] | None]:
    """The rows of a batch; None for one with a text that is not UTF-8."""
    try:
        rows: list[dict[str, Any] | None] = batch.to_pylist()
        return rows
    except UnicodeDecodeError:
        return [None] if len(batch) == 1 else [row for i in range(len(batch)) for row in _rows(batch.slice(i, 1))]


def _encode(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, default=_plain).encode() + b"\n"


def _record(value: Any) -> Any:
    """A value of a row as in JSON: nulls left out, a word back in its place."""
    if isinstance(value, list):
        return [_record(item) for item in value]
    if not isinstance(value, dict):
        return value
    record = {name: _record(item) for name, item in value.items() if item is not None or name in _VALUELESS}
    if (word := record.pop("yes_no", None)) is not None:
        record["answer"] = word
    return record


def _row(value: Any) -> Any:
    """The inverse of `_record`, for what finrank writes."""
    if isinstance(value, list):
        return [_row(item) for item in value]
    if isinstance(value, str):
        return value.encode(errors="replace").decode()  # half a surrogate pair, which JSON can name, is not UTF-8
    if not isinstance(value, dict):
        return value
    row = {name: _row(item) for name, item in value.items()}
    if isinstance(row.get("answer"), str):
        row["yes_no"], row["answer"] = row["answer"], None
    return row


def _plain(value: Any) -> Any:
    """A value that JSON does not have: a decimal number, bytes, a date."""
    if isinstance(value, Decimal):
        return float(value)
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
