"""The prompt and the completion of a generating model, and the candidate that is read from the completion.

    {"answer": 0.01639, "program": "subtract(5829, 5735), divide(#0, 5735)"}

The program counts. The answer in the completion is mostly wrong (models are poor at arithmetic) and becomes the
candidate's only where there is no program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from finrank.programs import ARITHMETIC_OPERATIONS, CONSTANTS, TABLE_OPERATIONS
from finrank.programs.value import LONGEST_PROGRAM, read_completed_answer, value_of
from finrank.records import Answer, Candidate, Question
from finrank.store.json_lines import KeyCheckingDecoder, shown, shown_json

LONGEST_TEXT = 100_000  # characters; more is a model that never stopped, and slow to search for JSON
_MOST_STARTS = 200  # places where JSON may begin that are tried: each may cost a read to the end

# The numbers of the example are invented: those of a question would reveal its gold.
INSTRUCTIONS = f"""\
You answer a question about a page of a financial report by writing a program that computes the answer.

A program is one or more steps, separated by ", ". A step is operation(argument, argument), always with two arguments.
Operations on numbers: {", ".join(ARITHMETIC_OPERATIONS)}. greater(a, b) gives yes or no.
Operations on a row of the table: {", ".join(TABLE_OPERATIONS)}. Their first argument is the row's label as it stands in
the table, the second is none.
An argument is a number copied from the page without "$" and thousands separators (12.5% may stay as it is), the result
of an earlier step (#0 is that of the first step, #1 of the second), or a constant: {", ".join(CONSTANTS)}
(const_m1 is -1). Steps are not nested in one another.
A percentage is given as a fraction: no step multiplies it by 100.

Example: revenue was 83617 in 2009 and 79254 in 2008, and the question is by what percentage it grew. Reply:
{{"answer": 0.05505, "program": "subtract(83617, 79254), divide(#0, 79254)"}}

Reply with one such JSON object and nothing else. "answer" is what the program gives: a number, "yes" or "no"."""

_START = re.compile(r'\{\s*["}]')


class Completion(NamedTuple):
    """The content of a completion: a program, an answer, or both; never neither."""

    program: str | None
    answer: Answer | None


class Unparsable(ValueError):
    """A completion that no candidate can be read from; the message is the reason, fit for rejects.jsonl."""


def write_messages(question: Question) -> list[dict[str, str]]:
    """The messages to a chat model: the program language and the form of a reply, then the page and the question.

    They hold nothing of the gold. Questions of one page share the beginning, for servers that cache prompts.
    """
    table = "\n".join(" | ".join(row) for row in question.table)
    page = f"Table:\n{table}\n\nText:\n" + "\n".join(question.text)
    user = f"{page}\n\nQuestion: {question.question}"
    return [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": user}]


def write_completion(program: str, answer: Answer) -> str:
    """The text that a generator is trained to write.

    >>> write_completion("subtract(5829, 5735), divide(#0, 5735)", 0.01639)
    '{"answer": 0.01639, "program": "subtract(5829, 5735), divide(#0, 5735)"}'
    """
    return json.dumps({"answer": answer, "program": program}, ensure_ascii=False, allow_nan=False)


def read_completion(text: str) -> Completion:
    """The program and answer of the first JSON object in a text that has either; Unparsable where there is none.

    Prose, code fences and other objects around it are ignored. With a program, an answer that cannot be read (NaN,
    a sentence) counts as none.

    >>> read_completion('Sure: {"program": "add(1, 2)"} is it.')
    Completion(program='add(1, 2)', answer=None)
    """
    if len(text) > LONGEST_TEXT:
        raise Unparsable(f"a completion of more than {LONGEST_TEXT} characters: it never stopped")
    others = False
    for json_object in _objects(text):
        if "program" in json_object or "answer" in json_object:
            return _completion(json_object)
        others = True
    if others:
        raise Unparsable(f"no program and no answer in the JSON of {shown(text)}")
    raise Unparsable("the completion is empty" if not text.strip() else f"no JSON object in {shown(text)}")


def as_candidate(text: str, table: list[list[str]]) -> Candidate:
    """The candidate in a completion, of origin "sampled"; Unparsable where there is none.

    Its answer is the value of the program on `table`, whatever the completion says; a program without a finite value is
    kept, with the reason as `error`. Without a program the candidate is the completion's answer alone.

    >>> as_candidate('{"answer": 95, "program": "subtract(5829, 5735)"}', []).answer
    94.0
    """
    program, answer = read_completion(text)
    if program is None:
        return Candidate(answer=answer, origin="sampled")
    return Candidate(program=program, **value_of(program, table)._asdict(), origin="sampled")


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a text from left to right; objects inside one that could be read are part of it."""
    decoder = KeyCheckingDecoder()
    end = 0
    for _ in range(_MOST_STARTS):
        start = _START.search(text, end)
        if start is None:
            return
        try:
            json_object, end = decoder.raw_decode(text, start.start())
            yield json_object
        except (ValueError, RecursionError):
            end = start.start() + 1


def _completion(json_object: dict[str, Any]) -> Completion:
    program = _read_program(json_object.get("program"))
    try:
        answer = read_completed_answer(json_object.get("answer"))
    except ValueError as error:
        if program is None:
            raise Unparsable(str(error)) from None
        answer = None
    if program is None and answer is None:
        raise Unparsable("the completion's program and answer are both empty")
    return Completion(program, answer)


def _read_program(value: Any) -> str | None:
    """A program's text as it was written; None for null and blanks."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise Unparsable(f"program: expected a text, got {shown_json(value)}")
    if len(value) > LONGEST_PROGRAM:
        raise Unparsable(f"a program of {len(value)} characters: at most {LONGEST_PROGRAM} are read")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise Unparsable("the program holds half a surrogate pair, which is no text")
    return value.strip() or None
