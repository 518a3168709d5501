"""The streaming reader of JSON lists."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finrank.console import Reading
from finrank.errors import UserError
from finrank.store import json_list
from finrank.store.json_list import BrokenList, Malformed, stream_list

VALUES: list[Any] = [{"a": 'quote " and ] in text'}, [], "é—\\u", 12345, -1.5e-7, None, True, {"b": [{"c": {}}]}, 7]


def _write(directory: Path, content: str | bytes) -> Path:
    path = directory / "list.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _until_broken(path: Path, chunk: int = 7) -> tuple[list[Any], str]:
    """The elements before the list breaks, and why it does."""
    elements: list[Any] = []
    with pytest.raises(BrokenList) as raised:
        elements.extend(stream_list(path, chunk))
    return elements, str(raised.value)


def _peak_memory(work: Callable[[], Any]) -> tuple[Any, int]:
    """The result of `work`, and the most bytes that it held at a time."""
    tracemalloc.start()
    result = work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, peak


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_wherever_the_window_cuts_the_elements_are_those_of_json(
    tmp_path: Path, chunk: int, indent: int | None, ascii_only: bool
) -> None:
    path = _write(tmp_path, json.dumps(VALUES, indent=indent, ensure_ascii=ascii_only))
    assert list(stream_list(path, chunk)) == VALUES


def test_empty_lists_have_no_elements(tmp_path: Path) -> None:
    for content in ("[]", " [ ] \n", "\ufeff[]"):
        assert list(stream_list(_write(tmp_path, content))) == []


def test_a_file_cut_anywhere_has_the_whole_elements_before_the_cut(tmp_path: Path) -> None:
    elements = [{"id": "first", "n": 1}, {"id": "second", "n": [2]}]
    text = json.dumps(elements)
    ends = [text.index("}") + 1, text.rindex("}") + 1]
    for cut in range(1, len(text)):
        whole, reason = _until_broken(_write(tmp_path, text[:cut]))
        assert whole == elements[: sum(end <= cut for end in ends)], cut
        assert "not JSON at character" in reason


@pytest.mark.parametrize(
    "content", ['[1, 2} , "later"]', "[1, 2 3]", "[1, 2, nonsense, 3]", "[1, 2,]", "[1, 2] 3", '[1, 2, {"a": "b}, 3]']
)
def test_a_malformed_list_yields_the_elements_before_the_fault(tmp_path: Path, content: str) -> None:
    assert _until_broken(_write(tmp_path, content))[0] == [1, 2]


def test_the_place_of_a_fault_is_counted_from_the_start_of_the_file(tmp_path: Path) -> None:
    assert "character 1001:" in _until_broken(_write(tmp_path, "[" + "1," * 500 + "oops]"))[1]


def test_deep_nesting_and_endless_numbers_do_not_crash(tmp_path: Path) -> None:
    elements, reason = _until_broken(_write(tmp_path, "[1," + "[" * 100_000), chunk=1000)
    assert elements == [1]
    assert "nested too deeply" in reason
    deep = "[" * 100_000 + "]" * 100_000
    fault = Malformed("not JSON at character 4: values nested too deeply")
    assert list(stream_list(_write(tmp_path, f"[1, {deep}, 2]"))) == [1, fault, 2]
    assert list(stream_list(_write(tmp_path, f"[{'9' * 5000}]"))) == [float("inf")]


def test_other_values_than_lists_are_refused(tmp_path: Path) -> None:
    assert "no list" in _until_broken(_write(tmp_path, '{"data": []}'))[1]
    for content in ("", "  ", "<html>", b"\xff\xfe[\x00]\x00"):
        with pytest.raises(UserError, match="not JSON"):
            list(stream_list(_write(tmp_path, content)))
    with pytest.raises(UserError, match="UTF-16: save it as UTF-8"):
        list(stream_list(_write(tmp_path, "[1]".encode("utf-16"))))
    with pytest.raises(UserError, match="no such file"):
        list(stream_list(tmp_path / "absent.json"))


def test_a_malformed_element_does_not_pull_the_rest_of_the_file_into_memory(tmp_path: Path) -> None:
    path = _write(tmp_path, '[{"a" 1, ' + "1, " * 300_000 + "1]")
    (elements, _), peak = _peak_memory(lambda: _until_broken(path, chunk=1000))
    assert elements == [Malformed("not JSON at character 6: Expecting ':' delimiter")]
    assert peak < 200_000


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "bad", ['{"a" 1, "b": "]}\\""}', '{"a": [nonsense], "b": "\\\\"}', '{"a": "\n"}', '["\\"}]", 1e]']
)
def test_a_malformed_element_is_stepped_over_by_its_brackets(tmp_path: Path, chunk: int, bad: str) -> None:
    content = f'[{{"a": 1}}, {bad}, {{"a": 2}}]'
    first, fault, last = stream_list(_write(tmp_path, content), chunk)
    assert (first, last) == ({"a": 1}, {"a": 2})
    assert isinstance(fault, Malformed)
    assert fault.reason.startswith("not JSON at character")


def test_a_key_that_occurs_twice_is_named(tmp_path: Path) -> None:
    content = '[{"id": "x", "qa": {"k": 1, "k": 2}}, {"k": 1, "l": {"k": 2}}]'
    fault, fine = stream_list(_write(tmp_path, content), 10)
    assert fault == Malformed("the key 'k' occurs twice in one object", {"id": "x", "qa": {"k": 2}})
    assert fine == {"k": 1, "l": {"k": 2}}


def test_an_element_without_end_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_list, "_LONGEST_ELEMENT", 10_000)
    path = _write(tmp_path, f'[{{"a": "{"x" * 2_000_000}"}}, 2]')
    (fault, last), peak = _peak_memory(lambda: list(stream_list(path, 1000)))
    assert "an element of more than 10000 characters" in fault.reason
    assert last == 2
    assert peak < 500_000


def test_how_far_the_file_is_read_is_counted(tmp_path: Path) -> None:
    path = _write(tmp_path, json.dumps(["é" * 100] * 100, ensure_ascii=False))
    reading = Reading.of(path)
    next(stream_list(path, 1000, reading))
    assert 0 < reading.done < reading.total == path.stat().st_size
    list(stream_list(path, 1000, reading))
    assert reading.done == reading.total
