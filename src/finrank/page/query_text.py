"""A query: one text with a question and its page, as clients of rerankers send it.

    question: what is the change in revenue ?
    table:
    | 2009 | 2008
    revenue | $ 5829 | $ 5735
    text:
    revenue grew in 2009 .
    costs fell .

That is the form to send. Sections may come in any order. Their heads may be written as in Markdown ("**Table:**",
"## Text") and be followed by their first line. Under `table:` each line is a row (`query_table.py`), the first one the
header; under `text:` each line is a sentence. What else is read:

    query:                            the same as question:
    context:, passage:, document:     a page: tables of two rows or more, and sentences
    lines before any head             a page where a question: comes later, else the question, and its tables

What is not clear is read all the same, and named in `Query.warnings`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from finrank.errors import UserError
from finrank.page.query_table import QueryLine, Row, at, has_cells, named_table, one_table, tables_among
from finrank.programs.numbers import NUMBER

_LINE_END = re.compile(r"\r\n|\n|\r")  # str.splitlines also cuts at U+2028, U+000B and others, inside a row
_FENCE = re.compile(r"\s*+(?:```|~~~)\s*+\w*\s*")  # of a Markdown block
# A name with a colon behind it, or alone as a Markdown heading or in bold; "Document 2:" and "Passage [1]:" too.
_HEAD = re.compile(
    r"(?P<mark>[\s\ufeff\u200b>#*_+-]*+)"
    r"(?P<name>question|query|table|(?:(?:pre|post)[-_ ]?)?text|context|passage|document)s?"
    r"(?P<number>(?: ?\[?\d++\]?)?)[*_]*+ *+(?P<colon>:?)[*_]*+ ?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_SECTION_OF = {"query": "question", "context": "page", "passage": "page", "document": "page"}
_HEADING = re.compile(r"#.*|[^.?!]{1,60}:[\s*_]*", re.DOTALL)
_NUMBER = re.compile(NUMBER)
_DATA = ("{", "[", "<")  # how JSON, lists and HTML begin
_HOW = "put rows of the table under a line table: and sentences of the page under a line text:"


class Query(NamedTuple):
    """A question with its page, and a sentence about each part of the query that was not clear."""

    question: str
    table: list[list[str]]
    text: list[str]
    warnings: list[str]


class _Section(NamedTuple):
    name: str  # question, table, text or page; "" before the first head
    lines: list[QueryLine]


def parse_query(query: str, check_parts: Callable[[int], None] = lambda _: None) -> Query:
    r"""The question, table and text of a query; UserError if it has no question.

    `check_parts` is called with the number of rows, cells and sentences, before short rows are filled up.

    >>> parse_query("question: growth ?\ntable:\n | 2009\nrevenue | 12\ntext:\nit grew .")
    Query(question='growth ?', table=[['', '2009'], ['revenue', '12']], text=['it grew .'], warnings=[])
    >>> parse_query("how much ?\nit grew .").warnings
    ['query, line 2: behind the question: read as text of the page']
    """
    warnings: list[str] = []
    sections = _sections(query, warnings)
    has_question = any(section.name == "question" and section.lines for section in sections)
    question: list[QueryLine] = []
    sentences: list[QueryLine] = []
    tables: list[list[Row]] = []
    for name, lines in sections:
        if name == "table":
            found, others = named_table(lines, warnings)
        elif name == "text":
            found, others = [], lines
            if rows := tables_among(lines, [])[0]:
                warnings.append(f"{at(row.line for row in rows[0])}: rows under text: were read as sentences; {_HOW}")
        else:
            found, others = tables_among(lines, warnings)
        tables += found
        if name == "question" or not (name or has_question):
            asked, others = _split_question(others, {row.line for table in found for row in table}, warnings)
            question += asked
        sentences += others
    asks = has_question or any("?" in line.text for line in question)
    if not asks and sentences and sentences[-1].text.rstrip().endswith("?"):
        question.append(sentences.pop())
        warnings.append(f"{at([question[-1].number])}: read as the question; write question: before it")
    if not question:
        raise UserError("query: no question: write it behind question:")
    if unclear := _unclear(question):
        warnings.append(f"{at(unclear)}: read as part of the question, but may belong to the page; {_HOW}")
    widths = [len(row.cells) for table in tables for row in table]
    check_parts(len(widths) * (1 + max(widths, default=0)) + len(sentences))
    text = [line.text.strip() for line in sentences]
    return Query(_one_line(" ".join(line.text for line in question)), one_table(tables, warnings), text, warnings)


def write_query(question: str, table: Sequence[Sequence[str]], text: Sequence[str]) -> str:
    r"""The text form of a question and its page; `parse_query` reads it back but for blanks, line ends and rules.

    >>> write_query("growth ?", [["", "2009"], ["revenue", "12"]], ["it grew ."])
    'question: growth ?\ntable:\n | 2009\nrevenue | 12\ntext:\nit grew .'
    """
    lines = [f"question: {_one_line(question)}"]
    if table:
        rows = (" | ".join(_one_line(cell).replace("|", "\\|") for cell in row) for row in table)
        lines += ["table:", *map(_escaped, rows)]
    if text:
        lines += ["text:", *map(_escaped, map(_one_line, text))]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _is_special(line: str) -> bool:
    """True for a line that parses as something else than a row or sentence, unless it follows a backslash."""
    return _head(line) is not None or _FENCE.fullmatch(line) is not None


def _escaped(line: str) -> str:
    return f"\\{line}" if _is_special(line.lstrip("\\")) else line


def _head(line: str) -> re.Match[str] | None:
    head = _HEAD.fullmatch(line)
    if head is None or not head["rest"].strip():
        return head if head and (head["colon"] or any(mark in head["mark"] for mark in ("#", "**", "__"))) else None
    # "table 98 : commitments to extend credit ." is a sentence of a page.
    caption = head["number"] and head["name"].lower() in ("table", "text")
    return head if head["colon"] and not caption else None


def _sections(query: str, warnings: list[str]) -> list[_Section]:
    """The sections of a query in their order, without blank lines; the first is what comes before any head."""
    sections = [_Section("", [])]
    heads: set[str] = set()
    for number, line in enumerate(_LINE_END.split(query), start=1):
        if head := _head(line):
            name, line = head["name"].lower(), head["rest"]
            sections.append(_Section(_SECTION_OF.get(name, "text" if name.endswith("text") else name), []))
            if name + head["number"] in heads and name != "table":  # `one_table` says so
                warnings.append(f"{at([number])}: a second {name}: section; it was added to the first")
            heads.add(name + head["number"])
        elif _FENCE.fullmatch(line):
            continue
        elif line.startswith("\\") and _is_special(line.lstrip("\\")):
            line = line[1:]
        if line.strip():
            sections[-1].lines.append(QueryLine(number, line))
    return sections


def _split_question(
    lines: Sequence[QueryLine], rows: Collection[int], warnings: list[str]
) -> tuple[list[QueryLine], list[QueryLine]]:
    """The question, and what follows behind a question mark at a line's end or behind `rows`, a table.

    Lines that end with a question mark themselves belong to the question, wherever they are.
    """
    question: list[QueryLine] = []
    behind: list[QueryLine] = []
    asked, previous = False, lines[0].number if lines else 0
    for line in lines:
        asked = asked or any(row in rows for row in range(previous, line.number))
        asks = line.text.rstrip().endswith("?")
        (behind if asked and not asks else question).append(line)
        asked, previous = asked or asks, line.number
    if behind:
        warnings.append(f"{at(line.number for line in behind)}: behind the question: read as text of the page")
    return question, behind


def _unclear(question: Sequence[QueryLine]) -> list[int]:
    """The lines of a question that look like part of the page: with cells, data, a heading, or three numbers or more.

    Numbers count behind the question mark; a question of one line may have any number of them before it.
    """
    unclear = []
    for number, text in ((line.number, line.text.strip()) for line in question):
        statement = text.rpartition("?")[2] if len(question) > 1 or "?" in text else ""
        if has_cells(text) or text.startswith(_DATA) or _HEADING.fullmatch(text) or len(_NUMBER.findall(statement)) > 2:
            unclear.append(number)
    return unclear
