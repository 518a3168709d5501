"""The rows of a table in a query, with their cells separated by bars, tabs or, as in CSV files, commas.

Bars around rows and rules of dashes, as Markdown and databases write them, are left out. `|` inside a cell is written
`\\|`; a cell with commas is in quotes.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

Separator = Literal["\t", "|", ",", ""]

_BAR = re.compile(r"(?<!\\)\|")
_OUTER_BAR = re.compile(r"\A\s*\||(?<!\\)\|\s*\Z")
_RULE = frozenset("-=+|: \t")
_CELL_COMMA = re.compile(r"(?<!\d),|(?<=\d{4}),|(?<=\.\d\d),|,(?!\d{3}(?!\d))")  # not that of thousands, as in 5,829
_QUOTED = re.compile(r'"[^"]*"')


class QueryLine(NamedTuple):
    """A line of a query and its number, from 1."""

    number: int
    text: str


class Row(NamedTuple):
    """The cells of a line, and its number."""

    line: int
    cells: list[str]


def at(lines: Iterable[int]) -> str:
    """The lines as warnings name them: "query, lines 3, 4, 5 and 12 more"."""
    first, *others = sorted(lines)
    more = f" and {len(others) - 2} more" if len(others) > 2 else ""
    return f"query, line{'s' if others else ''} {', '.join(map(str, [first, *others[:2]]))}{more}"


def has_cells(text: str) -> bool:
    """True if tabs or bars separate parts of a line."""
    return "\t" in text.strip() or _BAR.search(text) is not None


def named_table(lines: Sequence[QueryLine], warnings: list[str]) -> tuple[list[list[Row]], list[QueryLine]]:
    """The table under `table:`, or no table if there are no rows, and the captions and sentences among its rows."""
    separator = _separator(lines)
    rows: list[QueryLine] = []
    others: list[QueryLine] = []
    for line in lines:
        is_sentence = line.text.rstrip().endswith((".", "?", "!"))
        is_row = _separates(separator, line.text) and not (separator == "," and is_sentence and ", " in line.text)
        # Behind the first row, a line without cells may be the label of a group of rows.
        (others if separator and not is_row and (is_sentence or not rows) else rows).append(line)
    table = _rows(rows, separator, warnings)
    if not table:
        warnings.append("query: there are no rows under table:")
    elif not separator:
        warnings.append(f"{at(line.number for line in rows)}: rows of one cell; separate cells by |")
    if others:
        warnings.append(f"{at(line.number for line in others)}: no row of the table: read as text of the page")
    return [table] if table else [], others


def tables_among(lines: Sequence[QueryLine], warnings: list[str]) -> tuple[list[list[Row]], list[QueryLine]]:
    """The tables among the lines of a page or question, each of two rows or more in succession, and the other lines."""
    tables: list[list[Row]] = []
    others: list[QueryLine] = []

    def run_of(place: tuple[int, QueryLine]) -> tuple[Separator, int]:
        index, line = place
        separator = _separator_of_prose(line.text)
        # Blank lines, which are left out, end CSV rows: prose has commas too.
        return separator, line.number - index if separator == "," else 0

    for (separator, _), run in groupby(enumerate(lines), key=run_of):
        block = [line for _, line in run]
        table = _rows(block, separator, warnings) if _is_table(block, separator) else []
        if table:  # else prose, or rules alone
            tables.append(table)
        else:
            others += block
    return tables, [line for line in others if not _is_rule(line.text)] or others


def one_table(tables: Sequence[Sequence[Row]], warnings: list[str]) -> list[list[str]]:
    """The rows of all tables, filled up with empty cells where they are shorter than the longest."""
    rows = [row for table in tables for row in table]
    if len(tables) > 1:
        warnings.append(f"{at([tables[1][0].line])}: a second table: its rows were put under those of the first")
    if len(rows) == 1:
        warnings.append(f"{at([rows[0].line])}: the table is a header without rows; each row has a line of its own")
    uneven = [row.line for row in rows if len(row.cells) != len(rows[0].cells)]
    if uneven:
        expected = f"not as many cells as the header, {len(rows[0].cells)}"
        warnings.append(f"{at(uneven)}: {expected}: short rows were filled up with empty ones")
    width = max((len(row.cells) for row in rows), default=0)
    return [[*row.cells, *[""] * (width - len(row.cells))] for row in rows]


def _separator(lines: Sequence[QueryLine]) -> Separator:
    """What separates the cells of these rows; "" for nothing."""
    if any("\t" in line.text for line in lines):
        return "\t"
    if any(_BAR.search(line.text) for line in lines):
        return "|"
    return "," if any(_CELL_COMMA.search(line.text) for line in lines) else ""


def _separates(separator: Separator, text: str) -> bool:
    return _is_rule(text) or (_BAR.search(text) is not None if separator == "|" else separator in text)


def _separator_of_prose(text: str) -> Separator:
    """As `_separator`, for a line that may be prose, where commas, tabs and single bars occur too."""
    if "?" in text:
        return ""
    if "\t" in text:
        return "\t"
    *before, last = _BAR.split(text)
    is_sentence = len(last.split()) > 3 and last.rstrip().endswith(".")
    if (before and not is_sentence) or _is_rule(text):
        return "|"
    return "," if "," in text and not text.rstrip().endswith((".", "!", ":", ";")) else ""


def _is_table(lines: Sequence[QueryLine], separator: Separator) -> bool:
    if not separator or len(lines) < 2:
        return False
    if separator != ",":
        return any(has_cells(line.text) for line in lines)  # else an indented paragraph, or rules
    if sum(_CELL_COMMA.search(line.text) is not None for line in lines) < 2:
        return False
    rows = [_csv_cells(line.text) for line in lines]
    values = [cell for row in rows[1:] for cell in row[1:]]
    are_values = min(map(len, rows)) > 2 and not any(map(str.isalpha, "".join(values)))
    return are_values or not any(re.search(r",\s", _QUOTED.sub("", line.text)) for line in lines)


def _rows(lines: Sequence[QueryLine], separator: Separator, warnings: list[str]) -> list[Row]:
    if separator == "|":
        lines = _without_borders(lines)
    elif separator == "\t":
        return [Row(line.number, [_unescaped(cell) for cell in line.text.split("\t")]) for line in lines]
    elif separator == ",":
        return _csv_rows(lines, warnings)
    return [Row(line.number, [_unescaped(cell) for cell in _BAR.split(line.text)]) for line in lines]


def _unescaped(cell: str) -> str:
    return cell.strip().replace("\\|", "|")


def _without_borders(lines: Sequence[QueryLine]) -> list[QueryLine]:
    """The rows without bars around them and without rules, as in Markdown."""
    bordered = all(
        _is_rule(text) or (text[0] == "|" and text.endswith("|")) for text in (one.text.strip() for one in lines)
    )
    short_rule = bordered and len(lines) > 1 and "-" in lines[1].text and _RULE.issuperset(lines[1].text)
    rules = {line for line in lines if _is_rule(line.text)} | ({lines[1]} if short_rule else set())
    # In "x | 2009" above "--- | ---" and in " | 2009" above "---+---" bars only separate cells.
    if bordered or any(rule.text.lstrip()[0] in "|+" for rule in rules):
        return [QueryLine(line.number, _OUTER_BAR.sub("", line.text)) for line in lines if line not in rules]
    return [line for line in lines if line not in rules]


def _is_rule(text: str) -> bool:
    return ("---" in text or "===" in text) and _RULE.issuperset(text)


def _csv_rows(lines: Sequence[QueryLine], warnings: list[str]) -> list[Row]:
    rows = [Row(line.number, _csv_cells(line.text)) for line in lines]
    joined = []
    for index, line in enumerate(lines):
        cells = _CELL_COMMA.split(line.text)
        if len(rows[index].cells) > len(rows[0].cells) == len(cells) and '"' not in line.text:
            rows[index] = Row(line.number, [cell.strip() for cell in cells])
            joined.append(line.number)
    uneven = [row.line for row in rows if len(row.cells) != len(rows[0].cells)]
    for numbers, fault in ((joined, "commas were read as those of thousands"), (uneven, "commas separate its cells")):
        if numbers:
            warnings.append(f'{at(numbers)}: {fault}; a cell with commas needs quotes: "5,829"')
    return rows


def _csv_cells(text: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([text], skipinitialspace=True))]
    except csv.Error:  # a cell of more than 131,072 characters
        return [cell.strip() for cell in text.split(",")]
