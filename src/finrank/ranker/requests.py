"""Requests to a ranker: a question, its page, and candidates in any of the forms of `pools/candidate.py`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from pydantic import ValidationError

from finrank.errors import UserError
from finrank.pools.candidate import read_candidate
from finrank.records import Candidate, Question
from finrank.store import describe


def read_request(request: Mapping[str, Any], name: str) -> tuple[Question, list[Candidate]]:
    """The question of a request and its candidates, each with the value of its program or why it has none.

    Keys but question, candidates, table and text are ignored, a pool's gold program among them. Raises UserError,
    beginning with the request's `name`. A candidate that cannot be read is kept, without a value.
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
        return question, [read_candidate(item, table) for item in candidates]
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


def _check_unicode(text: str, what: str) -> None:
    """UserError for half a surrogate pair, which broken JSON escapes leave and tokenizers cannot read."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} holds half a surrogate pair, which is not text") from error
