"""Calls of the language's operations in a text, written with small faults of form, as programs.

Subtract(5829,5735)                     capitals, no blank behind a comma
subtract( 5829 5735 ) EOF               the official tokens, joined by blanks
subtract(5829, 5735)                    steps on lines of their own
divide(#0, 5735)
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from finrank.programs.language import OPERATIONS, TABLE_OPERATIONS, ProgramError, operands, parse
from finrank.programs.numbers import literal

_NAMES = "|".join(OPERATIONS)
_CALL = re.compile(rf"\b({_NAMES})\s*\(([^()]*)\)", re.IGNORECASE)
_OPERATION = re.compile(rf"\b(?:{_NAMES})\s*\(", re.IGNORECASE)
_ANY_CALL = re.compile(r"\b([a-z_]+)\s?\((?=[^()]*,)", re.IGNORECASE)
_OPENING = re.compile(r"\b[a-z_]+\((?=\s*(?:[\d#$]|$))", re.IGNORECASE)
_FUNCTION = re.compile(r"(\w+)\s?\(\s*$")
_HARMLESS = ("round", "print", "calculate", "compute", "calc", "eval", "float", "str", "answer", "result")
# What is behind a program that is not the whole calculation; the beginning of another step.
_GOES_ON = re.compile(
    r"\s*\)?\s*(?:[-+*/^×÷−]\s*[\d(#]|(?:divided|times|multiplied|plus|minus|over|squared)\b"
    r"|(?:and|or|then)\s+(?:then\s+)?(?:[\d(#]|divid|multipl|add|subtract|tak))",
    re.IGNORECASE,
)
_STUB = re.compile(r"\s*,\s*([a-z_]+)\s*", re.IGNORECASE)
_LONGEST_NAME = 40
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?%?")
_BETWEEN = re.compile(r"[\s,;|.]*(?:(?:then|and|step)\s+)?(?:#?\d+\s*[.):]\s*)?(?:#\d+\s*=\s*)?", re.IGNORECASE)
_CUT_OFF = re.compile(rf"[\s,;]*(?:{_NAMES})\b\s*\(?[^()]*", re.IGNORECASE)


class _Call(NamedTuple):
    text: str
    start: int
    end: int


def lenient_program(text: str) -> str | None:
    """The program that a whole text is, in the language's own form; None for other texts.

    >>> lenient_program("Subtract(5829,5735), divide( #0 5735 )"), lenient_program("subtract(1,234,567)")
    ('subtract(5829, 5735), divide(#0, 5735)', None)
    """
    calls = _calls(text)
    if not calls or calls[0].start > 0:
        return None
    for call, later in pairwise(calls):
        if not _BETWEEN.fullmatch(text[call.end : later.start]):
            return None
    rest = text[calls[-1].end :]
    cut_off = rest if rest.strip() and _CUT_OFF.fullmatch(rest) else ""
    if rest.strip() and not cut_off:
        return None
    if len(calls) > 1 and not _is_one(calls, text):
        return None
    program = ", ".join(call.text for call in calls)
    return program + (f", {cut_off.strip(' ,;')}" if cut_off else "")


def find_programs(text: str) -> list[str]:
    """The programs inside a text, in order; neighbouring calls that refer to one another are one program.

    >>> find_programs("First add(1, 2), divide(#0, 3) and not add(4, 5).")
    ['add(1, 2), divide(#0, 3)', 'add(4, 5)']
    """
    return [", ".join(call.text for call in calls) for calls in _neighbours(text)]


def only_program(text: str) -> str | None:
    """The one program inside a text; None if there are others, or if the text computes more with its value.

    >>> only_program("so it is add(1, 2)."), only_program("abs(add(1, 2))"), only_program("add(1, 2) divided by 5")
    ('add(1, 2)', None, None)
    """
    programs = set(find_programs(text))
    if len(programs) != 1 or _has_other_call(text) or _has_broken_call(text):
        return None
    for calls in _neighbours(text):
        before, behind = text[: calls[0].start], text[calls[-1].end :]
        function = _FUNCTION.search(before[-_LONGEST_NAME:])
        if _GOES_ON.match(behind) or (function and function[1].lower() not in _HARMLESS):
            return None
        stub = _STUB.fullmatch(behind[:_LONGEST_NAME])
        if stub and any(operation.startswith(stub[1].lower()) for operation in OPERATIONS):
            return None
    return programs.pop()


def _neighbours(text: str) -> list[list[_Call]]:
    programs: list[list[_Call]] = []
    for call in _calls(text):
        together = bool(programs) and _BETWEEN.fullmatch(text[programs[-1][-1].end : call.start])
        if together and ("#" in call.text or text[programs[-1][-1].end : call.start] == ", "):
            programs[-1].append(call)
        else:
            programs.append([call])
    return programs


def doubtful_number(program: str) -> str | None:
    """The first number of a program whose comma may be a decimal point, which the language would leave out; else None.

    >>> doubtful_number("divide(16,7, 5)"), doubtful_number("divide(1,670, 5)")
    ('16,7', None)
    """
    numbers = operands(parse(program))
    return next((number for number in numbers if "," in number and not _THOUSANDS.fullmatch(number)), None)


def has_call(text: str) -> bool:
    """True if a text holds a call of one of the language's operations, whole or not."""
    return _OPERATION.search(text) is not None


def _has_other_call(text: str) -> bool:
    """True if a text calls something that is not an operation of the language."""
    return any(match[1].lower() not in OPERATIONS for match in _ANY_CALL.finditer(text))


def _has_broken_call(text: str) -> bool:
    """True if a text holds something written as a call that is not a step of a program, such as "divide(3)"."""
    starts = {call.start for call in _calls(text)}
    return any(match.start() not in starts for opening in (_OPERATION, _OPENING) for match in opening.finditer(text))


def _is_one(calls: list[_Call], text: str) -> bool:
    """True if several calls are one program: one refers to another, or they are written as the language does."""
    as_written = all(text[call.end : later.start] == ", " for call, later in pairwise(calls))
    return as_written or any("#" in call.text for call in calls[1:])


def _calls(text: str) -> list[_Call]:
    calls = []
    for match in _CALL.finditer(text):
        operation = match[1].lower()
        arguments = _two_arguments(operation, match[2])
        if arguments is None:
            continue
        first, second = (text.lower() if text[:6].lower() == "const_" else text for text in arguments)
        step = f"{operation}({first}, {second})"
        try:
            parse(step)
        except ProgramError:
            continue
        calls.append(_Call(step, *match.span()))
    return calls


def _two_arguments(operation: str, inner: str) -> tuple[str, str] | None:
    """The two arguments between a call's brackets, however they are set apart; None where that is not certain."""
    parts = inner.split(", ")
    if len(parts) == 2:
        return parts[0].strip(), parts[1].strip()
    if operation in TABLE_OPERATIONS:
        if len(parts) == 1:
            label, comma, last = inner.rpartition(",")
            if not comma:
                label, _, last = inner.strip().rpartition(" ")
            return (label.strip(), "none") if last.strip() == "none" and label.strip() else (inner.strip(), "none")
        return None
    pieces = inner.replace("$", "").split(",")
    ways = [(",".join(pieces[:cut]).strip(), ",".join(pieces[cut:]).strip()) for cut in range(1, len(pieces))]
    ways = [way for way in ways if all(map(_is_argument, way))]
    if len(ways) == 1:
        return ways[0]
    words = inner.replace("$", "").split()
    return (words[0], words[1]) if len(words) == 2 and not ways and all(map(_is_argument, words)) else None


def _is_argument(text: str) -> bool:
    plain = text.strip()
    if "," in plain and not _THOUSANDS.fullmatch(plain):
        return False
    return re.fullmatch(r"#\d+|const_\w+", plain, re.IGNORECASE) is not None or literal(plain) is not None
