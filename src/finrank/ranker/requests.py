"""Requests to a ranker: a question, its page, and candidates in any of these forms.

"subtract(5829, 5735)"                                a program
94.0, "94.0", "12.5%", "yes"                          a value (a text that can be read as one)
{"program": "subtract(5829, 5735)"}                   the same, by name
{"answer": "12.5%"}
{"program": "divide(1, 0)", "answer": 5}              both: the answer counts where the program has no value
{"program": "add(1, 2)", "origin": "sampled", ...}    as our own files of pools hold it
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from pydantic import ValidationError

from finrank.errors import UserError
from finrank.programs.value import LONGEST_PROGRAM, read_answer, value_of
from finrank.records import CANDIDATE_KEYS, Candidate, Question
from finrank.store import describe
from finrank.store.json_lines import shorten


class CandidateError(UserError):
    """A fault of one candidate of a request: its index and the reason."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"candidate {index}: {reason}")
        self.index, self.reason = index, reason


def read_request(request: Mapping[str, Any], name: str) -> tuple[Question, list[Candidate]]:
    """The question of a request and its candidates, each with the value of its program or why it has none.

    Keys but question, candidates, table and text are ignored, a pool's gold program among them. Raises UserError,
    beginning with the request's `name`; where a single candidate is at fault, its cause is a CandidateError.
    """
    try:
        missing = [key for key in ("question", "candidates") if key not in request]
        if missing:
            raise UserError(
                f"no {', '.join(missing)}: expected question, candidates and, unless the page is empty, table and text"
            )
        rows = enumerate(_listed(request.get("table", ()), "table"))
        table = [[*map(cell_text, _listed(row, f"row {number} of the table"))] for number, row in rows]
        text = _listed(request.get("text", ()), "text")
        question = Question(id=name, page=name, question=request["question"], table=table, text=text)
        _check_unicode("".join(cell for row in [*table, text] for cell in row), "table or text")
        candidates = _listed(request["candidates"], "candidates")
        if not candidates:
            raise UserError("no candidates: give at least one program or answer")
        return question, [_read_candidate(index, item, table) for index, item in enumerate(candidates)]
    except ValidationError as error:
        raise UserError(f"{name}: {describe(error)}") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def cell_text(cell: Any) -> Any:
    """The text of a cell that is a number, null or nan (a missing value in pandas); any other cell unchanged.

    >>> [cell_text(cell) for cell in (5829, 0.5, 1200.0, None, "$ 5829")]
    ['5829', '0.5', '1200.0', '', '$ 5829']
    """
    if cell is None:
        return ""
    if isinstance(cell, bool) or not isinstance(cell, Real):
        return cell
    try:
        number = float(cell)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        return "" if math.isnan(number) else cell
    return str(int(cell)) if isinstance(cell, Integral) else repr(number)


def _listed(value: Any, what: str) -> list[Any]:
    # A string is iterable too: without this a table of one cell would be read letter by letter.
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise UserError(f"{what} must be a list, not {type(value).__name__}")
    return list(value)


def _read_candidate(index: int, item: Any, table: list[list[str]]) -> Candidate:
    """A candidate in any of the forms of this file, its program executed on the table; CandidateError for others."""
    try:
        fields = _by_name(item)
        program, answer = fields.get("program"), fields.get("answer")
        error: str | None = None
        if isinstance(answer, int | float | str) and not isinstance(answer, bool):
            answer = read_answer(answer)  # anything else is left to the record to refuse
        if isinstance(program, str):
            if len(program) > LONGEST_PROGRAM:
                raise UserError(f"a program of {len(program)} characters: at most {LONGEST_PROGRAM} are read")
            _check_unicode(program, "its program")
        if program is not None:
            value, error = value_of(program, table)
            answer = answer if value is None else value
        origin: Any = "imported" if fields.get("origin") is None else fields["origin"]
        return Candidate(program=program, answer=answer, error=error, origin=origin)
    except OverflowError as fault:
        raise CandidateError(index, "answer: the number is too large") from fault
    except (UserError, ValueError) as fault:
        reason = describe(fault) if isinstance(fault, ValidationError) else str(fault)
        raise CandidateError(index, reason) from fault


def _by_name(item: Any) -> Mapping[str, Any]:
    """The candidate as a mapping: a text or number becomes {"program": …} or {"answer": …}."""
    if isinstance(item, str):
        try:
            return {"answer": read_answer(item)}
        except ValueError:  # as for every program: it has brackets behind a word
            return {"program": item}
    if isinstance(item, int | float) and not isinstance(item, bool):
        return {"answer": item}
    known = isinstance(item, Mapping) and set(item) <= CANDIDATE_KEYS
    if not known or (item.get("program") is None and item.get("answer") is None):
        got = f"the keys {', '.join(map(str, item)) or '(none)'}" if isinstance(item, Mapping) else type(item).__name__
        got = shorten(got, 80)
        raise UserError(f"expected a program, a value, or an object with program, answer or both; got {got}")
    return item


def _check_unicode(text: str, what: str) -> None:
    """UserError for half a surrogate pair, which broken JSON escapes leave and tokenizers cannot read."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} holds half a surrogate pair, which is not text") from error
