"""What people ask a ranker: a question, its page, and candidates in any of the forms that one may be given in.

"subtract(5829, 5735)"                                a program
94.0, "94.0", "12.5%", "yes"                          a value (a text that is no program but can be read as one)
{"program": "subtract(5829, 5735)"}                   the same, by name
{"answer": "12.5%"}
{"program": "divide(1, 0)", "answer": 5}              both: the answer counts where the program has no value
{"program": "add(1, 2)", "origin": "sampled", ...}    as our own files of pools hold it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from finrank.errors import UserError
from finrank.programs.value import read_answer, value_of
from finrank.records import CANDIDATE_KEYS, Answer, Candidate, Question
from finrank.store import describe
from finrank.store.json_lines import shorten

_NEEDED = ("question", "candidates")
_LONGEST_PROGRAM = (
    20_000  # characters; a hundred times that of FinQA's longest. Longer ones cost memory, and fit no model
)


class CandidateError(UserError):
    """A fault of one candidate of a request: its place, counted from 0, and the reason."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"candidate {index}: {reason}")
        self.index, self.reason = index, reason


def read_request(request: Mapping[str, Any], name: str) -> tuple[Question, list[Candidate]]:
    """The question of a request and its candidates, each with the value of its program or why it has none.

    A request holds question, candidates and, unless the page is empty, table and text; other keys are ignored, a pool's
    gold program among them. `name` stands for the request in messages. Raises UserError for anything else than a
    request; where a single candidate is at fault, its cause is a CandidateError.
    """
    try:
        missing = [key for key in _NEEDED if key not in request]
        if missing:
            raise UserError(
                f"no {', '.join(missing)}: expected question, candidates and, unless the page is empty, table and text"
            )
        table = [_listed(row, f"row {number} of the table") for number, row in enumerate(_listed_of(request, "table"))]
        question = Question(
            id=name, page=name, question=request["question"], table=table, text=_listed_of(request, "text")
        )
        if not _is_unicode("".join(cell for row in [*question.table, question.text] for cell in row)):
            raise UserError("table or text holds half a surrogate pair, which is no text")
        given = _listed_of(request, "candidates")
        if not given:
            raise UserError("no candidates: give at least one program or answer")
        return question, [_read_candidate(number, item, table) for number, item in enumerate(given)]
    except ValidationError as error:
        raise UserError(f"{name}: {describe(error)}") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _listed_of(request: Mapping[str, Any], key: str) -> list[Any]:
    return _listed(request.get(key, ()), key)


def _listed(value: Any, what: str) -> list[Any]:
    # A string is iterable too: without this a table of one cell would be read letter by letter.
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise UserError(f"{what} must be a list, not {type(value).__name__}")
    return list(value)


def _read_candidate(number: int, item: Any, table: list[list[str]]) -> Candidate:
    try:
        return read_candidate(item, table)
    except ValidationError as error:
        raise CandidateError(number, describe(error)) from error
    except (UserError, ValueError) as error:
        raise CandidateError(number, str(error)) from error


def read_candidate(item: Any, table: list[list[str]]) -> Candidate:
    """A candidate in any of the forms of this file, its program executed on the table.

    A program that fails keeps the answer given beside it, if any, and `error` says why it failed. Without an origin a
    candidate is an imported one. Raises UserError, ValueError or pydantic's ValidationError for any other form.
    """
    given = _by_name(item)
    program = given.get("program")
    answer = None if given.get("answer") is None else _read_value(given["answer"])
    origin: Any = "imported" if given.get("origin") is None else given["origin"]
    error = None
    if program is not None:
        _check_text(program)
        value, error = value_of(program, table)
        answer = answer if value is None else value
    return Candidate(program=program, answer=answer, error=error, origin=origin)


def _check_text(program: Any) -> None:
    if isinstance(program, str) and len(program) > _LONGEST_PROGRAM:
        raise UserError(f"a program of {len(program)} characters: at most {_LONGEST_PROGRAM} are read")
    if isinstance(program, str) and not _is_unicode(program):
        raise UserError("its program holds half a surrogate pair, which is no text")


def _is_unicode(text: str) -> bool:
    """Whether a tokenizer can read it: broken JSON escapes give half a surrogate pair, which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _by_name(item: Any) -> Mapping[str, Any]:
    """The candidate as a mapping: a text or number becomes {"program": …} or {"answer": …}."""
    if isinstance(item, str):
        return {"answer" if _is_value(item) else "program": item}
    if isinstance(item, int | float) and not isinstance(item, bool):
        return {"answer": item}
    known = isinstance(item, Mapping) and set(item) <= CANDIDATE_KEYS
    if not known or (item.get("program") is None and item.get("answer") is None):
        got = f"the keys {', '.join(map(str, item)) or '(none)'}" if isinstance(item, Mapping) else type(item).__name__
        raise UserError(
            f"expected a program, a value, or an object with program, answer or both; got {shorten(got, 80)}"
        )
    return item


def _is_value(text: str) -> bool:
    """Whether a text is no program, but a number or yes or no."""
    try:
        read_answer(text)
    except ValueError:
        return False
    return True  # no program reads as a number: it has brackets behind a word


def _read_value(given: Any) -> Answer | Any:
    """The answer that was given; what is neither number nor text is left to the record to refuse."""
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return given
    try:
        return read_answer(given)
    except OverflowError as error:
        raise ValueError("answer: the number is too large") from error
