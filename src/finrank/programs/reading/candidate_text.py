"""A candidate's program and stated answer, read from whatever text surrounds them.

    Program: subtract(5829, 5735);          a label, a list number, a code fence, an end mark
    {"answer": 94, "program": "…"}          JSON, Python or nearly so; the last object that answers counts
    subtract(5829, 5735) = 94               a program and its value
    (5829 - 5735) / 5735                    arithmetic, which becomes a program
    <think>…</think> so it is \\boxed{94}    reasoning is dropped, a marked answer counts
    Revenue rose by 1.6% in 2009.           prose with one number that is not a year

Wrapping is taken off step by step, until what is left is a program or an answer. A text that may say two things says
neither: it is unreadable, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from finrank.programs.language import Program, ProgramError, parse
from finrank.programs.reading.arithmetic import read_arithmetic
from finrank.programs.reading.calls import find_programs, has_call, lenient_program, only_program
from finrank.programs.reading.json_answers import answering_object, text_list
from finrank.programs.reading.prose import NUMBER, stated_in_prose
from finrank.programs.reading.wrapping import BOXED, LABEL, in_tag, layers, unwrapped, without_html, without_thoughts
from finrank.programs.stated import LONGEST_STATED, MINUS, read_stated
from finrank.store.json_lines import shown

WRITTEN = ("text", "content", "completion", "response", "output")
"""Names under which files and requests give what a system wrote."""
END = "EOF"  # the last token of every official prediction
LONGEST_TEXT = 100_000  # characters; more is a model that never stopped
_FENCE = re.compile(r"```[\w+-]*\s*\n?(.*?)(?:```|$)", re.DOTALL)
_TAGS = ("answer", "final_answer", "program")
_EQUALS = re.compile(r"\s*(?:=>|->|→|⇒|(?<![<>!])==?|≈|:=)\s*")
_YES_NO = re.compile(r"[\s*_\"']*(yes|no)\b[\s*_\"']*[,.;:!(|\n-](?!\s*\d)", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"(?:in )?([a-z]+|%)\)\W*", re.IGNORECASE)
_BRACKETED = re.compile(r"[^()]*(?:\([^()]*\)[^()]*)*\)\W*")
_OR = re.compile(r"\s*,?\s+or\s+(?:approximately\s+|about\s+)?", re.IGNORECASE)
_DENIES = re.compile(r"\b(?:not|never|wrong|incorrect|instead|rather)\b|n't\b", re.IGNORECASE)
_LIST = re.compile(r"[,;]\s|\b(?:and|or)\b", re.IGNORECASE)
_LONG_BLANKS = re.compile(r"([\s\u200b-\u200f\u2060\ufeff\u00ad])[\s\u200b-\u200f\u2060\ufeff\u00ad]{40,}")
_MOST_MARKS = 4  # marked answers inside one another: a label in a fence in a tag
_MOST_LABELS = 50  # lines with a label that are read, from the end


class Said(NamedTuple):
    """What a text says: a program, a stated answer, or both; never neither."""

    program: str | None
    """The text of a program, as it was written where the language reads that."""
    stated: str | None
    """The text of an answer that `read_stated` reads."""


class Unreadable(ValueError):
    """A text that says neither a program nor an answer, or may say several; the message is the reason."""


def read_text(text: str) -> Said:
    """The program and the stated answer of a candidate's text; Unreadable, with the reason, where it has neither.

    Reading is idempotent: a program or stated answer that was read is read as itself.

    >>> read_text("Program: subtract(5829, 5735);"), read_text("So the change is 94.").stated
    (Said(program='subtract(5829, 5735)', stated=None), '94')
    """
    if len(text) > LONGEST_TEXT:
        raise Unreadable(f"a text of {len(text)} characters: at most {LONGEST_TEXT} are read")
    plain = without_thoughts(text)
    if not plain.strip():
        raise Unreadable("nothing but unfinished reasoning" if text.strip() else "the text is empty")
    if (tokens := text_list(plain)) is not None:
        return read_tokens(tokens)
    json_object = answering_object(plain)
    if json_object:
        return _read_object(json_object)
    if json_object is not None:
        plain = plain[: plain.index("{")]  # the objects answer nothing, what is before them may
    reading = _whole(plain) or _read(_LONG_BLANKS.sub(r"\1", without_html(plain)), 0)
    if reading is None:
        raise Unreadable(_why_unreadable(plain if plain.strip() else text))
    return reading


def _read_object(fields: dict[str, object]) -> Said:
    """The reading of a JSON object's program and answer, each a text that may be wrapped itself."""
    program = stated = None
    reasons = []
    for name in ("program", "answer"):
        value = fields.get(name)
        if value is None or value == "":
            continue
        try:
            reading = read_tokens(value) if isinstance(value, list) else read_text(str(value))
        except ValueError as error:
            reasons.append(str(error))
            continue
        program, stated = program or reading.program, reading.stated or stated
    if program is None and stated is None:
        raise Unreadable("; ".join(reasons) or "no program and no answer in its JSON, or both are empty")
    return Said(program, stated)


def read_tokens(tokens: Sequence[object]) -> Said:
    """The program of an official token list: ["subtract(", "5829", "5735", ")", "EOF"]."""
    return read_text(text_of_tokens([str(token) for token in tokens]))


def text_of_tokens(tokens: Sequence[str]) -> str:
    """The text of a program, complete or not, from its official tokens, without a final EOF.

    >>> text_of_tokens(["subtract(", "5829", "5735", ")", "divide(", "#0", "5735", ")", "EOF"])
    'subtract(5829, 5735), divide(#0, 5735)'
    """
    text = ""
    for token in tokens[:-1] if tokens and tokens[-1] == END else tokens:
        joined = not text or text.endswith("(") or token == ")"
        text += token if joined else f", {token}"
    return text


def _read(text: str, depth: int) -> Said | None:
    """The reading of a text without JSON and reasoning; None where it has none."""
    if depth > _MOST_MARKS:
        return None
    if (reading := _whole_in(text)) is not None:
        return reading
    # A program that cannot be read makes no number beside it the answer.
    calls = has_call(text)
    reading = _marked(text, depth) or (None if calls else _first_part(text)) or _equation(text) or _with_program(text)
    if reading is None and not calls and (stated := stated_in_prose(text)) is not None:
        return Said(None, stated)
    return reading


def _whole(text: str) -> Said | None:
    """The reading of a text that is nothing but a program, an answer, or a program and its value."""
    if len(text) <= 2 * LONGEST_STATED:
        try:
            read_stated(text)
            return Said(None, text.strip())
        except ValueError:
            pass
    stripped = text.strip()
    program = _program(stripped)
    if program is not None:
        return Said(program, None)
    return None


def _program(text: str) -> str | None:
    """The program that a whole text is: as written, with small faults of form, or as arithmetic."""
    return _language_program(text) or _arithmetic_program(text)


def _language_program(text: str) -> str | None:
    try:
        parse(text)
        return text
    except ProgramError:
        return lenient_program(text)


def _arithmetic_program(text: str) -> str | None:
    try:
        return str(read_arithmetic(text))
    except ProgramError:
        return None


def _marked(text: str, depth: int) -> Said | None:
    """The reading of what a text marks as its answer: in a box, a tag, a fence, or behind a label."""
    boxed = BOXED.findall(text)
    tagged = [content for tag in _TAGS if (content := in_tag(text, tag)) is not None]
    fenced = [content for content in _FENCE.findall(text) if content.strip()]
    for marked in (boxed, tagged, fenced):
        if marked and marked[-1].strip() != text.strip():
            reading = _read(marked[-1], depth + 1)
            if reading is not None:
                return reading
    program = stated = None
    lines = text.splitlines()
    labelled = [(number, match) for number, line in enumerate(lines) if (match := LABEL.match(line)) is not None]
    for number, match in labelled[-_MOST_LABELS:]:
        line = lines[number]
        rest = line[match.end() :].strip() or "\n".join(lines[number + 1 : number + 2])
        reading = None if rest == text.strip() else _read(rest, depth + 1)
        if reading is not None:
            program, stated = reading.program or program, reading.stated or stated
    return None if program is None and stated is None else Said(program, stated)


def _equation(text: str) -> Said | None:
    """The reading of PROGRAM = VALUE, or of the end of a chain of equations: growth = (12 - 10) / 10 = 20 %."""
    *_, line = text.strip().splitlines() or [""]
    *before, last = map(unwrapped, _EQUALS.split(line))
    last = _OR.split(last)[-1]  # "0.3333 or 33.33 %" states one number twice
    if not before or any(_LIST.search(part) and _program(part) is None for part in before[1:]):
        return None  # "revenue = 5829, costs = 5735" are two equations
    try:
        stated = read_stated(last)
    except ValueError:
        program = _program(last)
        return None if program is None else Said(program, None)
    for part in reversed(before):
        if (program := _language_program(part)) is not None:
            return Said(program, last)
        if (program := _arithmetic_program(part)) is not None:
            return Said(_as_fraction(program) if stated.percent else program, last)
    return Said(None, last)


def _as_fraction(program: str) -> str | None:
    """The program of a percentage as FinQA writes one, a fraction: without a last step `* 100`, or divided again."""
    *steps, (operation, arguments) = parse(program).steps
    last = len(steps)
    if operation == "multiply" and arguments[1] == "100":
        return str(Program(tuple(steps))) if arguments[0] == f"#{last - 1}" else None
    if any(step.operation == "multiply" and "100" in step.arguments for step in parse(program).steps):
        return f"{program}, divide(#{last}, const_100)"
    return program


def _with_program(text: str) -> Said | None:
    """The one program inside a text."""
    program = None if _DENIES.search(text) else only_program(text)
    return None if program is None else Said(program, None)


def _first_part(text: str) -> Said | None:
    """The reading of an answer with its explanation behind it: "Yes, it did", "94 (5829 - 5735)"."""
    if (match := _YES_NO.match(text)) is not None:
        return Said(None, match[1].lower())
    for end in ("\n", " | ", " ("):
        first, found, rest = text.strip().partition(end)
        if not found or (reading := _whole_in(first)) is None:
            continue
        if end == " (" and not _BRACKETED.fullmatch(rest):
            return None  # "5829 (2009) - 5735 (2008)"
        if end == " (" and first[0] not in f"{MINUS}(" and (word := _IN_BRACKETS.fullmatch(rest)) is not None:
            reading = _whole_in(f"{first} {word[1]}") or reading  # "5 % (decrease)"
        parts = [part for part in re.split(r"\n| \| ", rest) if not part.lstrip().startswith("=")]  # "= 5", a step
        others = [_whole_in(part) for part in parts[:_MOST_LABELS]]
        if any(other is not None and other.program is None and other != reading for other in others):
            raise Unreadable(f"several answers, and none is marked as the answer: {shown(text)}")
        return reading
    return None


def _whole_in(text: str) -> Said | None:
    """The reading of a text that is nothing but an answer or program in wrapping."""
    readings = (_whole(layer) for layer in layers(text) if layer.strip())
    return next((reading for reading in readings if reading is not None), None)


def _why_unreadable(text: str) -> str:
    """Why a text has no reading, in the terms of what it resembles."""
    programs = list(dict.fromkeys(find_programs(text)))
    if len(programs) > 1:
        return f"{len(programs)} programs, and none is marked as the answer: {shown(text)}"
    stripped = text.strip()
    if re.match(r"\w+\s*\(", stripped):
        try:
            parse(stripped)
        except ProgramError as error:
            return str(error)
    try:
        read_stated(stripped)
    except ValueError as error:
        if "comma" in str(error):
            return str(error)
    numbers = NUMBER.findall(text)
    if len(numbers) > 1:
        return f"{len(numbers)} numbers, and none is marked as the answer: {shown(text)}"
    return f"no program, number, yes or no in {shown(text)}"
