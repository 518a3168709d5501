"""Model outputs from files: which program or answer a system gave to which question.

A file holds one JSON object per line, or a JSON list of objects (the official prediction file of FinQA is one):

    {"id": "V/2008/page_17.pdf-1", "program": "divide(637, const_5)", "model": "my-llm"}
    {"id": "V/2008/page_17.pdf-1", "answer": "$ 127.40"}
    {"id": "V/2008/page_17.pdf-1", "text": "The share is about $ 127.40 in 2008."}
    {"id": "V/2008/page_17.pdf-1", "error": "timeout"}
    [{"id": "V/2008/page_17.pdf-1", "predicted": ["divide(", "637", "const_5", ")", "EOF"]}]

`model` may be left out, other keys are ignored. What an output says is read by `pools/candidate.py`.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finrank.console import Reading
from finrank.errors import UserError
from finrank.programs.reading.candidate_text import LONGEST_TEXT, WRITTEN
from finrank.sources.finqa import Filled, Text, read_elements
from finrank.store.json_lines import BadLine, describe, id_of, read_lines, read_value

_SAID = ("program", "answer", *WRITTEN, "error")  # an output that failed is a candidate without a value


class Prediction(NamedTuple):
    """A system's output for one question, as it was given."""

    file: str
    place: int  # line of the file, from 1; in a list the index, from 0
    id: str
    said: dict[str, Any]  # its program, answer, text or error, as far as they were given
    model: str | None
    tokens: list[str] | None  # of the program, in an official prediction file


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    id: Filled
    model: Text | None = None
    predicted: list[Text] | None = Field(default=None, description="tokens of a program, EOF last")


def read_predictions(
    path: Path, name: str | None = None, reading: Reading | None = None
) -> Iterator[Prediction | BadLine]:
    """Stream a file: for each line or list element, in order, the prediction or what is wrong with it.

    `name` replaces the file's name in the results. If a list breaks off, a last `BadLine` says so. Raises UserError
    when the file does not exist, or is a list in another encoding than UTF-8.
    """
    name = name or path.name
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    if _is_list(path):
        elements = (element._replace(file=name) for element in read_elements(path, reading))
        return (element.fault or _prediction(*element) for element in elements)
    return _read_lines(path, name, reading)


def _is_list(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(4096)
    # The reader of lists says what is wrong with UTF-16.
    is_utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return is_utf16 or head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def _read_lines(path: Path, name: str, reading: Reading | None) -> Iterator[Prediction | BadLine]:
    for line in read_lines(path, reading):
        value = read_value(line, "prediction")
        yield value._replace(file=name) if isinstance(value, BadLine) else _prediction(name, line.number, value)


def _prediction(name: str, place: int, value: Any) -> Prediction | BadLine:
    try:
        fields = _Fields.model_validate(value)
        said = {name: _shortened(value[name]) for name in _SAID if name in value}
        if fields.predicted is not None:
            if said.get("program") is not None:
                raise ValueError("both program and predicted are given: leave one out")
            said["program"] = fields.predicted
        if not said:
            raise ValueError("no program, answer, text or predicted: one of them is needed")
    except ValueError as error:  # pydantic's ValidationError is one
        reason = describe(error) if isinstance(error, ValidationError) else str(error)
        return BadLine(name, place, id_of(value), reason)
    return Prediction(name, place, fields.id, said, fields.model, fields.predicted)


def _shortened(value: Any) -> Any:
    # One more character than is read, so that a text that is too long is seen to be.
    return value[: LONGEST_TEXT + 1] if isinstance(value, str) else value
