"""Marks the numbers that programs take from a page, in the table and the sentences that the report shows of a ranking.

A part is marked "right" when the right program uses it, "picked" when the model's pick does, "both" when both do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from finrank.page.labels import number_key
from finrank.page.places import Used, used_by

Mark = Literal["", "right", "picked", "both"]


@dataclass(frozen=True)
class Part:
    """A stretch of text and its mark ("" for none)."""

    text: str
    mark: Mark = ""


@dataclass(frozen=True)
class MarkedPage:
    """The rows and sentences of a page that hold a number of either program, as marked parts."""

    header: list[str]
    rows: list[list[list[Part]]]
    other_rows: int
    """Rows of the table without any marked cell, which are left out."""
    sentences: list[list[Part]]


def mark_page(
    table: Sequence[Sequence[str]], sentences: Sequence[str], right: str | None, picked: str | None
) -> MarkedPage:
    """Mark the numbers of two programs; a program that is None or cannot be read has none.

    With right = picked = "subtract(5829, 5735)" the cells "$ 5829" and "$ 5735" are marked "both". The first row of the
    table is its header; a number of a program is marked wherever it is on the page.
    """
    used = used_by(right), used_by(picked)
    rows = [_marked_row(row, *used) for row in table[1:]]
    shown = [row for row in rows if any(_is_marked(cell) for cell in row)]
    marked = [_marked_text(sentence, *used) for sentence in sentences]
    return MarkedPage(
        header=list(table[0]) if table else [],
        rows=shown,
        other_rows=len(rows) - len(shown),
        sentences=[parts for parts in marked if _is_marked(parts)],
    )


def _marked_row(row: Sequence[str], right: Used, picked: Used) -> list[list[Part]]:
    label, cells = (row[0], row[1:]) if row else ("", [])
    if whole := _mark(label in right.rows, label in picked.rows):
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
