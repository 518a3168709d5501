"""Marks the numbers that the right program and the model's pick take from a page: "right", "picked", or "both"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from finrank.page.labels import number_key
from finrank.page.places import Used, rows_by_label, used_by

Mark = Literal["", "right", "picked", "both"]


class Part(NamedTuple):
    """A stretch of text and its mark ("" for none)."""

    text: str
    mark: Mark = ""


class MarkedPage(NamedTuple):
    """The rows and sentences of a page that hold a number of either program, as marked parts."""

    header: list[str]
    rows: list[list[list[Part]]]
    other_rows: int  # left out, as no cell is marked
    sentences: list[list[Part]]


def mark_page(
    table: Sequence[Sequence[str]], sentences: Sequence[str], right: str | None, picked: str | None
) -> MarkedPage:
    """Mark the numbers of two programs, wherever they are on the page; None and unreadable programs have none.

    With right = picked = "subtract(5829, 5735)" the cells "$ 5829" and "$ 5735" are marked "both".
    """
    used = used_by(right), used_by(picked)
    named = rows_by_label(table).values()
    rows = [_marked_row(row, *used, is_named=index in named) for index, row in enumerate(table[1:], start=1)]
    shown = [row for row in rows if any(_is_marked(cell) for cell in row)]
    marked = [_marked_text(sentence, *used) for sentence in sentences]
    return MarkedPage(
        header=list(table[0]) if table else [],
        rows=shown,
        other_rows=len(rows) - len(shown),
        sentences=[parts for parts in marked if _is_marked(parts)],
    )


def _marked_row(row: Sequence[str], right: Used, picked: Used, *, is_named: bool) -> list[list[Part]]:
    """A row's cells; `is_named`: programs that name its label read it, not a later row of that label."""
    label, cells = (row[0], row[1:]) if row else ("", [])
    if is_named and (whole := _mark(label in right.rows, label in picked.rows)):
        return [[Part(cell, whole)] for cell in row]
    return [[Part(label)], *([Part(cell, _mark_of_number(cell, right, picked))] for cell in cells)]


def _marked_text(text: str, right: Used, picked: Used) -> list[Part]:
    """The text in as few parts as its marks allow."""
    parts: list[Part] = []
    for token in re.split(r"(\s+)", text):
        mark = _mark_of_number(token, right, picked)
        if parts and parts[-1].mark == mark == "":
            parts[-1] = Part(parts[-1].text + token)
        else:
            parts.append(Part(token, mark))
    return [part for part in parts if part.text]


def _mark_of_number(text: str, right: Used, picked: Used) -> Mark:
    key = number_key(text)
    return _mark(key in right.numbers, key in picked.numbers)


def _mark(right: bool, picked: bool) -> Mark:
    if right and picked:
        return "both"
    return "right" if right else "picked" if picked else ""


def _is_marked(parts: Sequence[Part]) -> bool:
    return any(part.mark for part in parts)
