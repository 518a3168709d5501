"""The JSON object in a text that answers: the last one with a program or an answer, written nearly as JSON is."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any

from finrank.store.json_lines import KeyCheckingDecoder

_START = re.compile(r"\{\s*[\"'}]")
_STRING = r"\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'"
_STRING_OR_BRACE = re.compile(rf"{_STRING}|[{{}}]", re.DOTALL)
_STRING_OR_TRAILING_COMMA = re.compile(rf"({_STRING})|,(?=\s*[}}\]])", re.DOTALL)
_KEYS = {"program": "program", "answer": "answer", "final_answer": "answer", "final answer": "answer"}
_MOST_STARTS = 200  # places where an object may begin that are tried: each may cost a read to the end
_LONGEST_REPAIR = 20_000  # characters


def answering_object(text: str) -> dict[str, Any] | None:
    """The program and answer of the last JSON object in a text that has either; {} if objects have neither, else None.

    Trailing commas, Python's quotes and raw line breaks inside strings are read too, and an object cut off in a string.

    >>> answering_object('{"answer": 1} no: {"answer": 2, "program": null,}')
    {'answer': 2, 'program': None}
    """
    found: dict[str, Any] | None = None
    for json_object in _objects(text):
        fields = _answering_fields(json_object)
        if fields or found is None:
            found = fields
    return found or _answering_fields(_cut_off_object(text)) or found


def _answering_fields(json_object: dict[Any, Any]) -> dict[str, Any]:
    """The program and answer of an object; {} where it has neither."""
    fields = {_KEYS[name]: value for key, value in json_object.items() if (name := str(key).lower()) in _KEYS}
    return fields if any(value not in (None, "") for value in fields.values()) else {}


def text_list(text: str) -> list[str] | None:
    """The texts of a JSON or Python list of texts, such as official tokens; None for other texts."""
    plain = text.strip()
    if not plain.startswith("[") or not plain.endswith("]") or len(plain) > _LONGEST_REPAIR:
        return None
    try:
        value = ast.literal_eval(plain)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return value if isinstance(value, list) and value and all(isinstance(item, str) for item in value) else None


def _objects(text: str) -> Iterator[dict[Any, Any]]:
    """The JSON objects of a text from left to right; objects inside one that could be read are part of it."""
    decoder = KeyCheckingDecoder(strict=False)
    end = 0
    for _ in range(_MOST_STARTS):
        start = _START.search(text, end)
        if start is None:
            return
        try:
            json_object, end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            json_object, end = _repaired(text, start.start())
        if json_object is not None:
            yield json_object


def _repaired(text: str, start: int) -> tuple[dict[Any, Any] | None, int]:
    """The object that begins at `start` with small faults of form, and where to look for the next one."""
    end = _closing_brace(text, start)
    if end is None:
        return None, start + 1
    written = _STRING_OR_TRAILING_COMMA.sub(lambda match: match[1] or "", text[start:end])
    try:
        return KeyCheckingDecoder(strict=False).decode(written), end
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd escapes in what a model wrote
            value = ast.literal_eval(" ".join(written.splitlines()))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None, start + 1
    return (value, end) if isinstance(value, dict) else (None, start + 1)


def _cut_off_object(text: str) -> dict[Any, Any]:
    """The object that a token limit cut off inside the text of its last field; {} where there is none."""
    for start in islice(_START.finditer(text), _MOST_STARTS):
        if _closing_brace(text, start.start()) is None:
            try:
                return dict(KeyCheckingDecoder(strict=False).decode(text[start.start() :][:_LONGEST_REPAIR] + '"}'))
            except (ValueError, RecursionError):
                pass
    return {}


def _closing_brace(text: str, start: int) -> int | None:
    """The end of the braces that open at `start`, those in strings left out; None if they do not close."""
    depth = 0
    for match in _STRING_OR_BRACE.finditer(text, start, start + _LONGEST_REPAIR):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.end()
    return None
