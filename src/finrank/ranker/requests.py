"""Requests to a ranker: a question, its page, and candidates in any of the forms of `pools/candidate.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

from pydantic import ValidationError

from finrank.errors import UserError
from finrank.pools.candidate import read_candidate
from finrank.records import Candidate, Question
from finrank.store import BadLine, describe
from finrank.store.json_lines import Line, read_value

RequestT = TypeVar("RequestT")


def read_request(request: Mapping[str, Any], name: str) -> tuple[Question, list[Candidate]]:
    """The question of a request and its candidates, each with the value of its program or why it has none.

    Keys but question, candidates, table and text are ignored, a pool's gold program among them. Raises UserError,
    beginning with the request's `name`. A candidate that cannot be read is kept, without a value.
    """
    try:
        question = _question(request, name, ("question", "candidates"))
        # One after the other: whoever gives them may stop the work between two.
        items = _items(request["candidates"], "candidates")
        candidates = [read_candidate(item, question.table) for item in items]
        if not candidates:
            raise UserError("no candidates: give at least one program or answer")
        return question, candidates
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def read_question(request: Mapping[str, Any], name: str) -> Question:
    """The question of a request with its page, and with its gold program and answer where they are given.

    Raises UserError, beginning with the request's `name`, which is also its id, and its page where none is given.
    """
    try:
        question = _question(request, name, ("question",))
        known = {key: request[key] for key in ("page", "program", "answer") if request.get(key) is not None}
        return Question(**{**dict(question), **known})
    except ValidationError as error:
        raise UserError(f"{name}: {describe(error)}") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def read_pool(request: Mapping[str, Any], name: str) -> tuple[Question, list[Candidate]]:
    """`read_request`, with what `read_question` keeps of the question."""
    return read_question(request, name), read_request(request, name)[1]


def request_id(request: Mapping[str, Any], default: str) -> str:
    """The id of a request as text, or the default where it has none; UserError where it is neither text nor number."""
    identifier = request.get("id")
    if identifier is None:
        return default
    if isinstance(identifier, bool) or not isinstance(identifier, str | int) or identifier == "":
        raise UserError("id: expected a text or a whole number")
    _check_unicode(str(identifier), "id")
    return str(identifier)


def _question(request: Mapping[str, Any], name: str, needed: Sequence[str]) -> Question:
    missing = [key for key in needed if key not in request]
    if missing:
        expected = ", ".join(needed)
        raise UserError(f"no {', '.join(missing)}: expected {expected} and, unless the page is empty, table and text")
    rows = enumerate(_listed(request.get("table", ()), "table"))
    table = [[*map(cell_text, _listed(row, f"row {number} of the table"))] for number, row in rows]
    text = _listed(request.get("text", ()), "text")
    try:
        question = Question(id=name, page=name, question=request["question"], table=table, text=text)
    except ValidationError as error:
        raise UserError(describe(error)) from error
    _check_unicode("".join(cell for row in [*table, text] for cell in row), "table or text")
    return question


def read_line(line: Line, read: Callable[[Mapping[str, Any], str], RequestT]) -> tuple[str, RequestT] | BadLine:
    """The id of a line's request, and what `read` makes of the request and its name; or why not; never raises.

    A request without an id has the number of its line.
    """
    value = read_value(line, "request")
    if isinstance(value, BadLine):
        return value._replace(id=None)
    identifier = None
    try:
        if not isinstance(value, dict):
            raise UserError("expected an object with question, table, text and, to rank them, candidates")
        identifier = request_id(value, str(line.number))
        return identifier, read(value, identifier)
    except UserError as error:
        return BadLine(line.file, line.number, identifier, str(error).removeprefix(f"{identifier}: "))


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
    return list(_items(value, what))


def _items(value: Any, what: str) -> Iterable[Any]:
    # A string is iterable too: without this a table of one cell would be read letter by letter.
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise UserError(f"{what} must be a list, not {type(value).__name__}")
    return value


def _check_unicode(text: str, what: str) -> None:
    """UserError for half a surrogate pair, which broken JSON escapes leave and tokenizers cannot read."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} holds half a surrogate pair, which is not text") from error
