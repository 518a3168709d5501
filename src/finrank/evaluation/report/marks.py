"""Where the numbers of a program stand on its page: what the report marks in the table and the sentences of a ranking.

A part is marked "right" when the right program uses it, "picked" when the model's pick does, "both" when both do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from finrank.page.labels import number_key
from finrank.page.places import Used, used_by

Mark = Literal["", "right", "picked", "both"]


@dataclass(frozen=True)
class Part:
    """A stretch of text and how it is marked ("" for not at all)."""

    text: str
    mark: Mark = ""


@dataclass(frozen=True)
class Evidence:
    """The rows and sentences of a page that hold a number of either program, as marked parts."""

    header: list[str]
    rows: list[list[list[Part]]]
    other_rows: int
    """Rows of the table without any marked cell, which are left out."""
    sentences: list[list[Part]]


def mark_evidence(
    table: Sequence[Sequence[str]], sentences: Sequence[str], right: str | None, picked: str | None
) -> Evidence:
    """What the two programs take from the page; a program that is None or cannot be read takes nothing.

    With right = picked = "subtract(5829, 5735)" the cells "$ 5829" and "$ 5735" are marked "both". The first row of the
    table is its header; a number of a program is marked wherever on the page it stands.
    """
    wanted = used_by(right), used_by(picked)
    rows = [_marked_row(row, *wanted) for row in table[1:]]
    kept = [row for row in rows if any(_is_marked(cell) for cell in row)]
    marked = [_marked_text(sentence, *wanted) for sentence in sentences]
    return Evidence(
        header=list(table[0]) if table else [],
        rows=kept,
        other_rows=len(rows) - len(kept),
        sentences=[parts for parts in marked if _is_marked(parts)],
    )


def _marked_row(row: Sequence[str], right: Used, picked: Used) -> list[list[Part]]:
    label, cells = (row[0], row[1:]) if row else ("", [])
    whole = _mark(label in right.rows, label in picked.rows)
    if whole:
        return [[Part(cell, whole)] for cell in row]
    return [[Part(label)], *(_marked_cell(cell, right, picked) for cell in cells)]


def _marked_cell(cell: str, right: Used, picked: Used) -> list[Part]:
    key = number_key(cell)
    return [Part(cell, _mark(key in right.numbers, key in picked.numbers))]


def _marked_text(text: str, right: Used, picked: Used) -> list[Part]:
    """The text in as few parts as its marks allow."""
    parts: list[Part] = []
    for token in re.split(r"(\s+)", text):
        key = number_key(token)
        mark = _mark(key in right.numbers, key in picked.numbers)
        if parts and parts[-1].mark == mark == "":
            parts[-1] = Part(parts[-1].text + token)
        else:
            parts.append(Part(token, mark))
    return [part for part in parts if part.text]


def _mark(right: bool, picked: bool) -> Mark:
    if right and picked:
        return "both"
    return "right" if right else "picked" if picked else ""


def _is_marked(parts: Sequence[Part]) -> bool:
    return any(part.mark for part in parts)


def right_and_picked(item: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The right program of a ranking (gold, else the first candidate with reward 1.0) and the one the model picked."""
    candidates = item["candidates"]
    right = item.get("program") or next((one["program"] for one in candidates if one["reward"] == 1.0), None)
    return right, candidates[item["picked"]]["program"]
