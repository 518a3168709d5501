"""Prediction files: every form that is read, and every fault that is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finrank.errors import UserError
from finrank.pools.candidate import read_candidate
from finrank.programs.reading.candidate_text import LONGEST_TEXT
from finrank.sources.predictions import Prediction, read_predictions
from finrank.store.json_lines import LONGEST_LINE, BadLine

TOKENS = ["add(", "1", "2", ")", "EOF"]
GOOD = b'{"id": "a", "program": "add(1, 2)"}'


def read(path: Path, content: bytes) -> list[Prediction | BadLine]:
    path.write_bytes(content)
    return list(read_predictions(path))


def test_lines_and_list_are_read_alike(tmp_path: Path) -> None:
    elements = [
        {"id": "a", "program": "add(1, 2)", "model": "m", "other": [1]},
        {"id": "a", "predicted": TOKENS},
        {"id": "b", "answer": "12.5%"},
        {"id": "b", "answer": 3},
        {"id": "b", "answer": "nonsense", "program": "add(1, 2)"},
        {"id": "b", "text": "it is 3"},
        # What says nothing is kept too: its pool shows the reason.
        {"id": "b", "program": None, "answer": None},
        {"id": "b", "program": 7},
        {"id": "b", "answer": [1.0]},
        {"id": "b", "error": "timeout"},
        {"id": "b", "completion": "it is 3", "latency": 2},
    ]
    lines = read(tmp_path / "f", "\n".join(map(json.dumps, elements)).encode())
    in_list = read(tmp_path / "f", b" \n" + json.dumps(elements, indent=1).encode())
    assert [prediction._replace(place=prediction.place + 1) for prediction in in_list] == lines  # type: ignore[call-arg, union-attr]
    assert lines[0] == Prediction("f", 1, "a", {"program": "add(1, 2)"}, "m", None)
    assert lines[1] == Prediction("f", 2, "a", {"program": TOKENS}, None, TOKENS)
    assert [prediction.said for prediction in lines[2:]] == [  # type: ignore[union-attr]
        {"answer": "12.5%"}, {"answer": 3}, {"program": "add(1, 2)", "answer": "nonsense"}, {"text": "it is 3"},
        {"program": None, "answer": None}, {"program": 7}, {"answer": [1.0]},
        {"error": "timeout"}, {"completion": "it is 3"},
    ]  # fmt: skip


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"\n \r\n", b"\xef\xbb\xbf\n\n"])
def test_byte_order_mark_and_blank_lines_are_accepted(tmp_path: Path, start: bytes) -> None:
    assert [type(prediction) for prediction in read(tmp_path / "f", start + GOOD)] == [Prediction]
    assert [type(prediction) for prediction in read(tmp_path / "f", start + b"[" + GOOD + b"]")] == [Prediction]


BAD = {
    "no object": (b"null", "record: Input should be"),
    "a number": (b"7", "record: Input should be"),
    "no id": (b'{"program": "add(1, 2)"}', "id: Field required"),
    "blank id": (b'{"id": " ", "program": "add(1, 2)"}', "id: "),
    "id of another type": (b'{"id": 7, "program": "add(1, 2)"}', "id: Input should be a valid string"),
    "nothing given": (b'{"id": "bad"}', "no program, answer, text or predicted"),
    "both forms": (b'{"id": "bad", "program": "add(1, 2)", "predicted": ["EOF"]}', "both program and predicted"),
    "tokens of another type": (b'{"id": "bad", "predicted": "add(1, 2)"}', "predicted: Input should be a valid list"),
    "token of another type": (b'{"id": "bad", "predicted": ["add(", 1]}', "predicted.1: Input should be a valid str"),
    "lone surrogate in the id": (b'{"id": "\\ud800", "program": "add(1, 2)"}', "id: "),
    "duplicate key": (b'{"id": "bad", "id": "bad", "program": "add(1, 2)"}', "the key 'id' occurs twice"),
    "deep nesting": (b'{"id": "bad", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "no JSON": (b'{"id" "bad"}', "not JSON"),
}


@pytest.mark.parametrize("form", ["lines", "list"])
@pytest.mark.parametrize(("content", "reason"), BAD.values(), ids=BAD)
def test_a_bad_line_or_element_is_named_and_the_others_are_read(
    tmp_path: Path, content: bytes, reason: str, form: str
) -> None:
    parts = [GOOD, content, GOOD]
    written = b"\n".join(parts) if form == "lines" else b"[" + b",\n".join(parts) + b"]"
    first, bad, last = read(tmp_path / "f", written)
    assert type(first) is type(last) is Prediction
    assert isinstance(bad, BadLine)
    assert (bad.file, bad.line) == ("f", 2 if form == "lines" else 1)
    assert reason in bad.reason
    assert len(bad.reason) < 1000


def test_an_endless_line_says_how_long_it_is(tmp_path: Path) -> None:
    content = b'{"id": "bad", "program": "' + b"9" * 50_000_000 + b'"}'
    (bad,) = read(tmp_path / "f", content)
    assert isinstance(bad, BadLine)
    assert f"{len(content)} bytes, more than the {LONGEST_LINE}" in bad.reason


def test_damaged_texts_in_a_list_are_kept_short_and_lines_of_them_rejected(tmp_path: Path) -> None:
    for program in (b"caf\xe9", b"9" * 20_000_000):
        content = b'{"id": "bad", "program": "' + program + b'"}'
        (bad,) = read(tmp_path / "f", content)
        (kept,) = read(tmp_path / "f", b"[" + content + b"]")
        assert isinstance(bad, BadLine)
        assert isinstance(kept, Prediction)
        assert len(kept.said["program"]) <= LONGEST_TEXT + 1
        assert read_candidate(kept.said, []).error is not None


def test_a_list_that_breaks_off_keeps_its_beginning(tmp_path: Path) -> None:
    first, bad = read(tmp_path / "f", b"[" + GOOD + b', {"id": "b", "prog')
    assert isinstance(first, Prediction)
    assert isinstance(bad, BadLine)
    assert bad.line == 1
    assert "nothing from this element on was read" in bad.reason


def test_missing_files_and_other_encodings(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="no such file"):
            read_predictions(path)
    with pytest.raises(UserError, match="UTF-16"):
        read(tmp_path / "f", f"[{GOOD.decode()}]".encode("utf-16"))
    assert read(tmp_path / "f", b"") == []
