"""Prediction files: every form that is read, and every fault that is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finrank.errors import UserError
from finrank.programs import parse
from finrank.sources.predictions import Prediction, read_predictions, text_of_tokens
from finrank.store.json_lines import LONGEST_LINE, BadLine

GOOD = b'{"id": "a", "program": "add(1, 2)"}'


def read(path: Path, content: bytes) -> list[Prediction | BadLine]:
    path.write_bytes(content)
    return list(read_predictions(path))


def test_lines_and_list_are_read_alike(tmp_path: Path) -> None:
    elements = [
        {"id": "a", "program": "add(1, 2)", "model": "m", "other": [1]},
        {"id": "a", "predicted": ["add(", "1", "2", ")", "EOF"]},
        {"id": "b", "answer": "12.5%"},
        {"id": "b", "answer": 3},
        {"id": "b", "answer": "nonsense", "program": "add(1, 2)"},
    ]
    lines = read(tmp_path / "f", "\n".join(map(json.dumps, elements)).encode())
    in_list = read(tmp_path / "f", b" \n" + json.dumps(elements, indent=1).encode())
    assert [prediction._replace(place=prediction.place + 1) for prediction in in_list] == lines  # type: ignore[call-arg, union-attr]
    assert lines[0] == Prediction("f", 1, "a", "add(1, 2)", None, "m", None)
    assert lines[1] == Prediction("f", 2, "a", "add(1, 2)", None, None, ["add(", "1", "2", ")", "EOF"])
    assert [(prediction.program, prediction.answer) for prediction in lines[2:]] == [  # type: ignore[union-attr]
        (None, 0.125), (None, 3.0), ("add(1, 2)", None)
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
    "nothing given": (b'{"id": "bad"}', "no program, answer or predicted"),
    "only nulls": (b'{"id": "bad", "program": null, "answer": null}', "no program, answer or predicted"),
    "both forms": (b'{"id": "bad", "program": "add(1, 2)", "predicted": ["EOF"]}', "both program and predicted"),
    "program of another type": (b'{"id": "bad", "program": 7}', "program: Input should be a valid string"),
    "tokens of another type": (b'{"id": "bad", "predicted": "add(1, 2)"}', "predicted: Input should be a valid list"),
    "token of another type": (b'{"id": "bad", "predicted": ["add(", 1]}', "predicted.1: Input should be a valid str"),
    "a truth value": (b'{"id": "bad", "answer": true}', "answer"),
    "a list as answer": (b'{"id": "bad", "answer": [1.0]}', "answer"),
    "NaN": (b'{"id": "bad", "answer": NaN}', "answer: nan is no finite number"),
    "infinity": (b'{"id": "bad", "answer": -Infinity}', "answer: -inf is no finite number"),
    "overflow": (b'{"id": "bad", "answer": 1e999}', "answer: inf is no finite number"),
    "endless number": (b'{"id": "bad", "answer": ' + b"9" * 5000 + b"}", "answer: inf is no finite number"),
    "words": (b'{"id": "bad", "answer": "about a sixth"}', "'about a sixth' is no number"),
    "long answer": (b'{"id": "bad", "answer": "' + b"9" * 9000 + b'"}', "(9000 characters)"),
    "lone surrogate": (b'{"id": "bad", "program": "\\ud800"}', "program: "),
    "lone surrogate in the id": (b'{"id": "\\ud800", "program": "add(1, 2)"}', "id: "),
    "wrong encoding": (b'{"id": "bad", "program": "caf\xe9"}', ""),
    "duplicate key": (b'{"id": "bad", "id": "bad", "program": "add(1, 2)"}', "the key 'id' occurs twice"),
    "deep nesting": (b'{"id": "bad", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "no JSON": (b'{"id" "bad"}', "not JSON"),
    "huge program": (b'{"id": "bad", "program": "' + b"9" * 50_000_000 + b'"}', ""),
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
    content, _ = BAD["huge program"]
    (bad,) = read(tmp_path / "f", content)
    assert isinstance(bad, BadLine)
    assert f"{len(content)} bytes, more than the {LONGEST_LINE}" in bad.reason


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


def test_tokens_become_the_text_of_the_program() -> None:
    program = parse("table_max(net sales, none), divide(#0, 5735), greater(#1, const_m1)")
    tokens = ["table_max(", "net sales", "none", ")", "divide(", "#0", "5735", ")", "greater(", "#1", "const_m1", ")"]
    assert text_of_tokens([*tokens, "EOF"]) == text_of_tokens(tokens) == str(program)
    assert text_of_tokens(["EOF"]) == text_of_tokens([]) == ""
    assert text_of_tokens(["add(", "1"]) == "add(1"
