"""The prompt and the completion of a generating model, and the candidate that is read from the completion.

    {"program": "subtract(5829, 5735), divide(#0, 5735)"}                          a generator trained here
    {"answer": 0.01639, "program": "subtract(5829, 5735), divide(#0, 5735)"}       a chat model

The program counts. The answer in a completion is mostly wrong (models are poor at arithmetic) and becomes the
candidate's only where no program has a value.
"""

from __future__ import annotations

import json

from finrank.pools.candidate import read_candidate
from finrank.programs import ARITHMETIC_OPERATIONS, CONSTANTS, TABLE_OPERATIONS
from finrank.programs.reading.candidate_text import read_text
from finrank.records import Candidate, Question

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


def write_messages(question: Question) -> list[dict[str, str]]:
    """The messages to a chat model: the program language and the form of a reply, then the page and the question.

    They hold nothing of the gold. Questions of one page share the beginning, for servers that cache prompts.
    """
    table = "\n".join(" | ".join(row) for row in question.table)
    page = f"Table:\n{table}\n\nText:\n" + "\n".join(question.text)
    user = f"{page}\n\nQuestion: {question.question}"
    return [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": user}]


def write_completion(program: str) -> str:
    """The text that a generator is trained to write.

    >>> write_completion("subtract(5829, 5735), divide(#0, 5735)")
    '{"program": "subtract(5829, 5735), divide(#0, 5735)"}'
    """
    return json.dumps({"program": program}, ensure_ascii=False)


def as_candidate(text: str, table: list[list[str]]) -> Candidate:
    """The candidate in a completion, of origin "sampled"; Unreadable where there is none.

    Its answer is the value of the program on `table`, whatever the completion says; a program without a finite value is
    kept, with the reason as `error`.

    >>> as_candidate('{"answer": 95, "program": "subtract(5829, 5735)"}', []).answer
    94.0
    """
    program, stated = read_text(text)
    return read_candidate({"program": program, "answer": stated}, table, "sampled")
