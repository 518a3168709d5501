"""The texts of a rerank request: its query is a question with its page, its documents are candidates.

    question: what is the change in revenue ?
    table:
    | 2009 | 2008
    revenue | $ 5829 | $ 5735
    text:
    revenue grew in 2009 .
    costs fell .

All three names may be left out; `table:` and `text:` are alone on their lines. A row of the table is a line of cells
separated by `|` or tabs, the first row being the header; `|` inside a cell is written `\\|`. In Markdown tables, bars
around rows and the line of dashes are ignored. Each line under `text:` is a sentence.

Documents are candidates in any form that `pools/candidate.py` reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from finrank.serving.error_responses import ServiceError

_BAR = re.compile(r"(?<!\\)\|")
_DASHES = re.compile(r"[\s|:]*-[\s|:-]*")
_SECTIONS = ("table:", "text:")


class Query(NamedTuple):
    """A question with its page."""

    question: str
    table: list[list[str]]
    text: list[str]


def parse_query(query: str) -> Query:
    r"""The question, table and text of a query; ServiceError (400) with the line's number if it cannot be read.

    >>> parse_query("question: growth ?\ntable:\n | 2009\nrevenue | 12\ntext:\nit grew .")
    Query(question='growth ?', table=[['', '2009'], ['revenue', '12']], text=['it grew .'])
    >>> parse_query("what is the growth ?")
    Query(question='what is the growth ?', table=[], text=[])
    """
    lines: list[tuple[int, str]] = []
    sections = {"question:": lines}
    for number, line in enumerate(query.splitlines(), start=1):
        name = line.strip().lower()
        if name in _SECTIONS:
            if name in sections:
                raise _fault(number, f"a second line {name!r}: each part occurs once")
            sections[name] = lines = []
        elif name:
            lines.append((number, line))
    return Query(
        _question(" ".join(line for _, line in sections["question:"])),
        _table(sections["table:"]) if "table:" in sections else [],
        [line.strip() for _, line in sections.get("text:", [])],
    )


def write_query(question: str, table: Sequence[Sequence[str]], text: Sequence[str]) -> str:
    r"""The text form of a question and its page, which `parse_query` reads back, except for blanks and line breaks.

    >>> write_query("growth ?", [["", "2009"], ["revenue", "12"]], ["it grew ."])
    'question: growth ?\ntable:\n | 2009\nrevenue | 12\ntext:\nit grew .'
    """
    lines = [f"question: {_one_line(question)}"]
    if table:
        lines += ["table:", *(" | ".join(_one_line(cell).replace("|", "\\|") for cell in row) for row in table)]
    if text:
        lines += ["text:", *map(_one_line, text)]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _question(text: str) -> str:
    question = _one_line(text)
    if question.lower().startswith("question:"):
        question = question[len("question:") :].strip()
    if not question:
        raise ServiceError(400, "query: no question: it comes first, before the lines table: and text:", "query")
    return question


def _table(lines: list[tuple[int, str]]) -> list[list[str]]:
    if not lines:
        raise ServiceError(400, "query: no rows under table: leave that line out for a page without a table", "query")
    tabs = any("\t" in line for _, line in lines)
    if not tabs and all(line.strip().startswith("|") and line.strip().endswith("|") for _, line in lines):
        lines = [(number, line.strip()[1:-1]) for number, line in lines]
        if len(lines) > 1 and _DASHES.fullmatch(lines[1][1]):
            del lines[1]
    rows = []
    for number, line in lines:
        cells = line.split("\t") if tabs else _BAR.split(line)
        rows.append([cell.strip().replace("\\|", "|") for cell in cells])
        if len(rows[-1]) != len(rows[0]):
            counts = f"{len(rows[-1])} cells, but the header has {len(rows[0])}"
            raise _fault(number, f"{counts}: separate cells by | and leave empty ones empty")
    return rows


def _fault(line: int, fault: str) -> ServiceError:
    return ServiceError(400, f"query, line {line}: {fault}", "query")
