"""Where a program's numbers are on a page: cells, sentences, and rows that it reads whole.

People see these places as the evidence of an answer; the model never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from finrank.page.labels import number_key, number_keys
from finrank.programs import is_constant, operands, parse_or_none, table_rows

Place = TypeVar("Place")


@dataclass(frozen=True)
class Used:
    """Keys of a program's numbers (`labels.number_key`) and labels of the rows that it reads whole."""

    numbers: frozenset[str]
    rows: frozenset[str]


def used_by(program: str | None) -> Used:
    """The numbers and rows that a program takes from its page: none for None and for unreadable programs."""
    parsed = parse_or_none(program)
    if parsed is None:
        return Used(frozenset(), frozenset())
    keys = {number_key(operand) for operand in operands(parsed) if not is_constant(operand)}
    return Used(frozenset(key for key in keys if key), frozenset(table_rows(parsed)))


def rows_by_label(table: Sequence[Sequence[str]]) -> dict[str, int]:
    """The index of the row that a program reads whole by its label: the last of equal labels, header left out."""
    return {row[0]: index for index, row in enumerate(table) if index and row}


@dataclass(frozen=True)
class Places:
    """Cells as (row, column), row 0 being the header, and indices of sentences; both ascending."""

    cells: list[tuple[int, int]]
    sentences: list[int]


class PagePlaces:
    """The places of all numbers on a page, looked up per program: the first `most` cells and sentences of each.

    >>> page = PagePlaces([["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"]], ["it rose to 5,829 ."])
    >>> page.of("subtract(5829, 5735)")
    Places(cells=[(1, 1), (1, 2)], sentences=[0])
    >>> page.of("table_sum(revenue, none)")
    Places(cells=[(1, 0), (1, 1), (1, 2)], sentences=[])
    """

    def __init__(self, table: Sequence[Sequence[str]], text: Sequence[str], most: int = 100) -> None:
        self._most = most
        self._cells: dict[str, list[tuple[int, int]]] = {}
        self._rows = {label: (row, len(table[row])) for label, row in rows_by_label(table).items()}
        self._sentences: dict[str, list[int]] = {}
        for row, cells in enumerate(table[1:], start=1):
            for column, cell in enumerate(cells):
                key = number_key(cell)
                if column and key is not None:  # column 0 holds labels
                    self._note(self._cells, key, (row, column))
        for index, sentence in enumerate(text):
            for key in dict.fromkeys(number_keys(sentence)):
                self._note(self._sentences, key, index)

    def _note(self, places: dict[str, list[Place]], key: str, place: Place) -> None:
        # A page may repeat one number without end, and many programs may use it.
        if len(known := places.setdefault(key, [])) < self._most:
            known.append(place)

    def of(self, program: str | None) -> Places:
        """The cells and sentences that hold a number of the program, and the cells of rows that it reads whole."""
        used = used_by(program)
        cells = {cell for key in used.numbers for cell in self._cells.get(key, [])}
        for row, width in (self._rows[label] for label in used.rows if label in self._rows):
            cells |= {(row, column) for column in range(min(width, self._most))}
        sentences = {index for key in used.numbers for index in self._sentences.get(key, [])}
        return Places(sorted(cells)[: self._most], sorted(sentences)[: self._most])
