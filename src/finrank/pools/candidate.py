"""THE reader of candidates: whatever people and systems give as one becomes a `Candidate`, if need be without a value.

"subtract(5829, 5735)"                                a program
94.0, "94.0", "12.5%", "yes"                          an answer
"Program: subtract(5829, 5735) = 94"                  either or both in any wrapping (`programs/reading.py`)
["subtract(", "5829", "5735", ")", "EOF"]             a program as the official files hold it
{"program": "subtract(5829, 5735)", "answer": 94}     by name; the answer counts where the program has no value
{"text": "the answer is 94"}                          what a system wrote; beside a number, how precisely it says it
{"program": …, "model": "my-llm", "origin": …}        with the system that said it, and where it comes from
{"program": …, "log_probability": -0.2}               with what that system gives it
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any, get_args

from finrank.programs.reading.calls import doubtful_number
from finrank.programs.reading.candidate_text import WRITTEN, Said, read_text, read_tokens
from finrank.programs.stated import read_stated
from finrank.programs.value import LONGEST_PROGRAM, value_of
from finrank.records import Candidate, Origin
from finrank.store.json_lines import shorten, shown_json

_HALF_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_NAME = 200  # characters of a system's name


def read_candidate(item: Any, table: Sequence[Sequence[str]], origin: Origin = "imported") -> Candidate:
    """The candidate in any of the forms of this file, with the value of its program on `table`; never raises.

    One that cannot be read has no answer, and the reason as its `error`. `origin` is that of items which name none.

    >>> read_candidate("12.5 percent", []).answer, read_candidate({"error": "timeout"}, []).error
    (0.125, 'no program and no answer: \\'{"error": "timeout"}\\'')
    """
    fields = item if isinstance(item, Mapping) else {"text": item}
    named: dict[str, Any] = {"origin": fields["origin"] if fields.get("origin") in get_args(Origin) else origin}
    if model := _storable(fields.get("model")).strip():
        named["model"] = shorten(model, _LONGEST_NAME)
    if (log_probability := _number(fields.get("log_probability"))) is not None:
        named["log_probability"] = log_probability
    if isinstance(edits := fields.get("edits"), list) and all(map(_storable, edits)):
        named["edits"] = edits
    program: str | None = None
    stated: str | float | None = None
    unreadable = fault = ""
    for name in _names_of_parts(fields):
        try:
            its_program, its_stated = _read(fields[name])
        except ValueError as why:
            fault = fault or str(why)
            unreadable = unreadable or ("" if name == "answer" else _storable(fields[name]))
            continue
        program, stated = program or its_program, its_stated if stated is None else stated
    if isinstance(stated, float):
        stated = _as_written(stated, fields)
    if program is not None:
        value, error = value_of(program, table)
        number = None if value is None else doubtful_number(program)
        if value is not None and number is None:
            return Candidate(program=program, answer=value, error=error, **named)
        fault = str(error)
        if number is not None:  # not kept: the language reads "16,7" as 167
            program = None
            fault = f"program: the comma in {number!r} may be a decimal point or set off thousands: write a point"
    program = program or unreadable or None  # kept: it shows what the fault is about
    if stated is None:
        return Candidate(program=program, error=fault or f"no program and no answer: {_shown(item)}", **named)
    text = str(stated) if isinstance(stated, str) or program else None
    fault_of_program = fault if program else None
    return Candidate(program=program, answer=read_stated(stated).answer, stated=text, error=fault_of_program, **named)


def _number(given: Any) -> float | None:
    """A finite number as a float, None for anything else."""
    if isinstance(given, bool) or not isinstance(given, Real):
        return None
    try:
        return float(given) if math.isfinite(given) else None
    except OverflowError:
        return None


def _names_of_parts(fields: Mapping[str, Any]) -> list[str]:
    """The keys that hold the program and the answer of a candidate, or else what a system wrote."""
    answer = "answer" if fields.get("stated") is None else "stated"  # in our own files: the text of the answer
    given = [name for name in ("program", answer) if fields.get(name) not in (None, "")]
    return given or [name for name in WRITTEN if fields.get(name) is not None][:1]


def _as_written(number: float, fields: Mapping[str, Any]) -> str | float:
    """The text that states a number, which says how precisely, where what the system wrote is there and states it."""
    for name in WRITTEN:
        if not isinstance(text := fields.get(name), str):
            continue
        try:
            written = read_text(text).stated
        except ValueError:
            continue
        if written is not None and number in (read_stated(written).answer, read_stated(written).written):
            return written
    return number


def _read(value: Any) -> tuple[str | None, str | float | None]:
    """The program and the stated answer in a value of any type; ValueError, with the reason, where it has neither."""
    if isinstance(value, str):
        return _checked(read_text(_checked_text(value)))
    if isinstance(value, bool):
        return None, "yes" if value else "no"
    if isinstance(value, Real | Decimal):  # those of numpy and pandas too
        try:
            return None, float(read_stated(float(value)).answer)
        except OverflowError:
            raise ValueError("answer: the number is too large") from None
    if isinstance(value, list | tuple) and value and all(isinstance(token, str) for token in value):
        return _checked(read_tokens(value))
    raise ValueError(f"expected a program, a number or a text, got {_shown(value)}")


def _checked(said: Said) -> Said:
    """What was read, where records can hold it: JSON in a text may name half a surrogate pair by an escape."""
    if said.program is not None and len(said.program) > LONGEST_PROGRAM:
        raise ValueError(f"a program of {len(said.program)} characters: at most {LONGEST_PROGRAM} are read")
    _checked_text(f"{said.program} {said.stated}")
    return said


def _checked_text(text: str) -> str:
    if _HALF_SURROGATE.search(text):
        raise ValueError("the text holds half a surrogate pair, which is not text")
    return text


def _storable(value: Any) -> str:
    """A text that records can hold; "" for other values, for half a surrogate pair, and for one that is too long."""
    if not isinstance(value, str) or len(value) > LONGEST_PROGRAM:
        return ""
    return "" if _HALF_SURROGATE.search(value) else value


def _shown(value: Any) -> str:
    try:
        return shown_json(value)
    except TypeError:
        return f"a value of type {type(value).__name__}"
