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
from finrank.programs.reading.calls import find_programs, has_call, lenient_program
from finrank.programs.reading.json_answers import answering_object, text_list
from finrank.programs.reading.wrapping import BOXED, LABEL, MOST_LAYERS, in_tag, layers, unwrapped, without_thoughts
from finrank.programs.stated import LONGEST_STATED, read_stated
from finrank.store.json_lines import shown

END = "EOF"  # the last token of every official prediction
LONGEST_TEXT = 100_000  # characters; more is a model that never stopped
_FENCE = re.compile(r"```[\w+-]*\s*\n?(.*?)(?:```|$)", re.DOTALL)
_TAGS = ("answer", "final_answer", "program")
_EQUALS = re.compile(r"\s*(?:=>|->|→|⇒|==?|≈|:=)\s*")
_YES_NO = re.compile(r"[\s*_\"']*(yes|no)\b[\s*_\"']*[,.;:!(|\n-]", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_NUMBER_IN_PROSE = re.compile(
    r"(?<![\w.,#])[-\u2212(]?\s?(?:us\$|[$€£])?\s?[-\u2212]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
    r"(?:\s?%|\s?percent\b)?(?:\s(?:thousand|million|billion|trillion)\b)?\)?(?!\w|[.,]\d)",
    re.IGNORECASE,
)
_MONTHS = "january february march april may june july august september october november december"
_DATE = re.compile(rf"\b(?:{'|'.join(_MONTHS.split())})\s\d{{1,2}}\b,?", re.IGNORECASE)
_APPROXIMATELY = re.compile(r"(?:approximately|about|around|roughly|equals|equal to|≈)\s+(?:a\s)?$", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\b(?:don't know|do not know|cannot|can't|unable|insufficient|uncertain|would need|not possible"
    r"|not (?:explicitly |specifically )?(?:provided|specified|available|disclosed|mentioned|given|stated))\b",
    re.IGNORECASE,
)
_OR = re.compile(r"\s*,?\s+or\s+(?:approximately\s+|about\s+)?", re.IGNORECASE)
_YEAR = re.compile(r"(?:19|20)\d\d")
_FALLS = re.compile(r"\b(?:decreas\w*|declin\w*|reduction|reduced|drop(?:ped)?|fell|fall|loss|lower)\b", re.IGNORECASE)


class Content(NamedTuple):
    """What a text says: a program, a stated answer, or both; never neither."""

    program: str | None
    """The text of a program, as it was written where the language reads that."""
    stated: str | None
    """The text of an answer that `read_stated` reads."""


class Unreadable(ValueError):
    """A text that says neither a program nor an answer, or may say several; the message is the reason."""


def read_text(text: str) -> Content:
    """The program and the stated answer of a candidate's text; Unreadable, with the reason, where it has neither.

    Content is idempotent: a program or stated answer that was read is read as itself.

    >>> read_text("Program: subtract(5829, 5735);"), read_text("So the change is 94.").stated
    (Content(program='subtract(5829, 5735)', stated=None), '94')
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
    reading = _read(plain, 0)
    if reading is None:
        raise Unreadable(_why_unreadable(plain if plain.strip() else text))
    return reading


def _read_object(fields: dict[str, object]) -> Content:
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
    return Content(program, stated)


def read_tokens(tokens: Sequence[object]) -> Content:
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


def _read(text: str, depth: int) -> Content | None:
    """The reading of a text without JSON and reasoning; None where it has none."""
    if depth > MOST_LAYERS:
        return None
    for layer in layers(text):
        if (reading := _whole(layer)) is not None:
            return reading
    # A program that cannot be read makes no number beside it the answer.
    calls = has_call(text)
    reading = _marked(text, depth) or (None if calls else _first_part(text)) or _equation(text) or _with_program(text)
    return reading or (None if calls else _prose(text))


def _whole(text: str) -> Content | None:
    """The reading of a text that is nothing but a program, an answer, or a program and its value."""
    if len(text) <= 2 * LONGEST_STATED:
        try:
            read_stated(text)
            return Content(None, text.strip())
        except ValueError:
            pass
    stripped = text.strip()
    program = _program(stripped)
    if program is not None:
        return Content(program, None)
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


def _marked(text: str, depth: int) -> Content | None:
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
    for number, line in enumerate(lines):
        match = LABEL.match(line)
        if match is None:
            continue
        rest = line[match.end() :].strip() or "\n".join(lines[number + 1 : number + 2])
        reading = None if rest == text.strip() else _read(rest, depth + 1)
        if reading is not None:
            program, stated = reading.program or program, reading.stated or stated
    return None if program is None and stated is None else Content(program, stated)


def _equation(text: str) -> Content | None:
    """The reading of PROGRAM = VALUE, or of the end of a chain of equations: growth = (12 - 10) / 10 = 20 %."""
    *_, line = text.strip().splitlines() or [""]
    *before, last = map(unwrapped, _EQUALS.split(line))
    last = _OR.split(last)[-1]  # "0.3333 or 33.33 %" states one number twice
    if not before:
        return None
    try:
        stated = read_stated(last)
    except ValueError:
        program = _program(last)
        return None if program is None else Content(program, None)
    for part in reversed(before):
        if (program := _language_program(part)) is not None:
            return Content(program, last)
        if (program := _arithmetic_program(part)) is not None:
            return Content(_as_fraction(program) if stated.percent else program, last)
    return Content(None, last)


def _as_fraction(program: str) -> str | None:
    """The program without a last step that makes a percentage of its fraction, as FinQA writes percentages."""
    *steps, (operation, arguments) = parse(program).steps
    if operation != "multiply" or arguments[1] != "100":
        return program
    return str(Program(tuple(steps))) if arguments[0] == f"#{len(steps) - 1}" else None


def _with_program(text: str) -> Content | None:
    """The one program inside a text."""
    programs = set(find_programs(text))
    return Content(programs.pop(), None) if len(programs) == 1 and not has_call(text, known=False) else None


def _first_part(text: str) -> Content | None:
    """The reading of an answer with its explanation behind it: "Yes, it did", "94 (5829 - 5735)"."""
    if (match := _YES_NO.match(text)) is not None:
        return Content(None, match[1].lower())
    for end in ("\n", " | ", " ("):
        first, found, _ = text.strip().partition(end)
        if found and first.strip():
            for layer in layers(first):
                if (reading := _whole(layer)) is not None:
                    return reading
    return None


def _prose(text: str) -> Content | None:
    """The one number, or the one approximate number, of the last sentence that has any, years and dates left out."""
    if _REFUSAL.search(text):
        return None
    sentences = (_DATE.sub(" ", sentence) for sentence in reversed(_SENTENCE_END.split(text.strip())))
    for sentence in sentences:
        found = [number for number in _NUMBER_IN_PROSE.finditer(sentence) if not _YEAR.fullmatch(number[0].strip())]
        if not found:
            continue
        approximate = [number for number in found if _APPROXIMATELY.search(sentence[: number.start()])]
        if len({number[0] for number in found}) > 1:
            found = approximate
        if len({number[0] for number in found}) != 1:
            return None
        return _stated_in(sentence, found[-1][0].strip())
    return None


def _stated_in(sentence: str, number: str) -> Content | None:
    if number.count("(") != number.count(")"):
        number = number.strip("()")
    try:
        read_stated(number)
    except ValueError:
        return None
    falls = _FALLS.search(sentence) and number[0] not in "-\u2212("
    return Content(None, f"decrease of {number}" if falls else number)


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
    numbers = _NUMBER_IN_PROSE.findall(text)
    if len(numbers) > 1:
        return f"{len(numbers)} numbers, and none is marked as the answer: {shown(text)}"
    return f"no program, number, yes or no in {shown(text)}"
