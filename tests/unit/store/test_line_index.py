"""The index of a JSONL file by id: any order, blank and damaged lines, byte order marks."""

from __future__ import annotations

import codecs
import json
import tracemalloc
from pathlib import Path

import pytest

from finrank.errors import UserError
from finrank.store import BadLine
from finrank.store.json_lines import LONGEST_LINE
from finrank.store.line_index import lines_by_id


def row(identifier: str, **fields: object) -> bytes:
    return json.dumps({"id": identifier, **fields}).encode()


def test_lines_are_found_in_any_order_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    late = b'{"page": "p", "id": "late \\u00e9"}'
    rows = [codecs.BOM_UTF8 + row("a"), b"", row("b", page="p" * LONGEST_LINE), late, row("a"), b'{"id": "torn', b"[]"]
    path.write_bytes(b"\n".join(rows))
    bad: list[BadLine] = []
    with lines_by_id(path, bad.append) as line_of:
        found = {name: line_of(name) for name in ("late é", "b", "a", "missing", "b", "torn")}
    assert found.pop("missing") is found.pop("torn") is None
    places = {name: (line.file, line.number, line.size) for name, line in found.items() if line}
    assert places == {
        "late é": (str(path), 4, len(late) + 1),
        "b": (str(path), 3, len(rows[2]) + 1),
        "a": (str(path), 1, len(rows[0]) + 1),
    }
    assert found["a"] is not None
    assert json.loads(found["a"].content) == {"id": "a"}
    assert [(one.line, one.id) for one in bad] == [(5, "a"), (6, None), (7, None)]
    assert "line 1 has the same id" in bad[0].reason


def test_a_file_in_utf_16_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_text('{"id": "a"}', encoding="utf-16")
    with pytest.raises(UserError, match="save it as UTF-8"), lines_by_id(path, print):
        pass


def test_memory_holds_no_records(tmp_path: Path) -> None:
    path, count = tmp_path / "train.jsonl", 5_000
    path.write_bytes(
        b"".join(row(f"ABC/2008/page_{number}.pdf-1", page="p" * 2_000) + b"\n" for number in range(count))
    )
    tracemalloc.start()
    with lines_by_id(path, print) as line_of:
        peak = tracemalloc.get_traced_memory()[1]
        assert line_of(f"ABC/2008/page_{count - 1}.pdf-1")
    tracemalloc.stop()
    assert peak / count < 350  # bytes
