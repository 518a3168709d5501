"""The numbers of a report page, written as programs write them, with their place and kind.

A cell "$ 1,637" is written 1637, "-32 ( 32 )" is -32, "22% ( 22 % )" is 22%. Day numbers, footnotes and the character
codes that broken unicode leaves in FinQA's text ("2014" for a dash) are left out or marked as years.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

from finrank.page.broken_characters import NEVER_A_YEAR, word_set
from finrank.programs import read_number
from finrank.programs.execution import numeric_rows
from finrank.programs.numbers import NUMBER

Kind = Literal["number", "percent", "year"]

_TEXT_NUMBER = re.compile(rf"\$?(-?{NUMBER}%?)")
_ANY_NUMBER = re.compile(rf"-?{NUMBER}%?")
_FROM_FIRST_DIGIT = re.compile(r"\d\S*")  # the rest of a word from its first digit on
_BEFORE_DIGITS = frozenset("$-.")  # characters that may begin a number
# A number that is a whole word, but not the second copy in "22% ( 22 % )".
_NUMBER_IN_SENTENCE = re.compile(rf"(?<!\S){_TEXT_NUMBER.pattern}(?!\S|\s+%(?!\S))")
_YEARS = range(1900, 2101)

# A bare 2014 in a sentence is a year after these words, else the remains of a dash or a quote.
_BEFORE_YEAR = word_set("in of and to fiscal during through since for year years from until by , ; 30 31")
_BEFORE_LABEL = word_set(
    "note item page section level tier phase no no. ( january february march april may june july august september "
    "october november december"
)
_LONGEST_WORD = 16  # characters, more than any word before a year or a label has


class Cell(NamedTuple):
    """The position of a cell in the table; row 0 is the header, column 0 holds the labels."""

    row: int
    column: int


class PageNumber(NamedTuple):
    """A number of the page, as a program writes it, and its kind."""

    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Operand:
    """A number of a program as its page has it; `fits` remembers which numbers can replace it."""

    text: str
    size: float
    kind: Kind
    places: Sequence[Cell]
    drops_sign: bool  # written without the minus sign of its cell
    fits: dict[str, tuple[str, float]] = field(default_factory=dict)


@lru_cache(maxsize=65536)
def size_of(text: str) -> float:
    """The absolute value of a number's digits as written: 32 for "-32", 22 for "22%"; nan for other texts."""
    try:
        return abs(float(text.replace(",", "").rstrip("%")))
    except ValueError:
        return math.nan


class Page:
    """All numbers of one report page.

    >>> page = Page([["", "2009", "2008"], ["revenue", "$ 5,829", "$ -5 ( 5 )"]], ["we paid 4.5% in tax ."])
    >>> page.cells[Cell(1, 1)], page.cells[Cell(1, 2)].text, page.text_numbers, page.numeric_rows
    (PageNumber(text='5829', kind='number'), '-5', [PageNumber(text='4.5%', kind='percent')], ['revenue'])
    """

    def __init__(self, table: Sequence[Sequence[str]], text: Sequence[str]) -> None:
        self._table = table
        self.cells: dict[tuple[int, int], PageNumber] = {}
        self._places: dict[float, list[Cell]] = {}
        self.in_row: dict[int, list[PageNumber]] = {}
        self.in_column: dict[int, list[tuple[int, PageNumber]]] = {}
        for row, cells in enumerate(table):
            for column, cell in enumerate(cells):
                if column == 0 or (number := cell_number(cell)) is None:
                    continue
                position = Cell(row, column)
                self.cells[position] = number
                self._places.setdefault(size_of(number.text), []).append(position)
                self.in_row.setdefault(row, []).append(number)
                self.in_column.setdefault(column, []).append((row, number))
        self.text_numbers = [number for sentence in text for number in _sentence_numbers(sentence)]
        self.last_row, self.last_column = max(self.in_row, default=0), max(self.in_column, default=0)
        self.everywhere = [*self.cells.values(), *self.text_numbers]
        self.text_index: dict[float, int] = {}
        for index, number in enumerate(self.text_numbers):
            self.text_index.setdefault(size_of(number.text), index)
        self._operands: dict[str, Operand] = {}
        self._homes: dict[tuple[str, ...], dict[str, Cell]] = {}

    @cached_property
    def numeric_rows(self) -> list[str]:
        """Labels of the rows that a table operation can read; few programs have one."""
        return numeric_rows(self._table)

    def operand(self, text: str) -> Operand:
        """A program's operand as the page has it, worked out once: programs share the few numbers."""
        operand = self._operands.get(text)
        if operand is None:
            places = self.places(text)
            drops_sign = text[:1] != "-" and any(self.cells[cell].text.startswith("-") for cell in places)
            operand = self._operands[text] = Operand(text, size_of(text), self.kind(text), places, drops_sign)
        return operand

    def homes(self, numbers: tuple[str, ...]) -> dict[str, Cell]:
        """The cell of each number that is in the table; of several, one in the row that holds most of the numbers."""
        homes = self._homes.get(numbers)
        if homes is None:
            places = {text: cells for text in numbers if (cells := self.places(text))}
            rows = [row for cells in places.values() for row in {cell.row for cell in cells}]
            homes = {text: max(cells, key=lambda cell: rows.count(cell.row)) for text, cells in places.items()}
            self._homes[numbers] = homes
        return homes

    def places(self, operand: str) -> list[Cell]:
        """The cells that hold a program's operand, whatever its sign and percent mark."""
        return self._places.get(size_of(operand), [])

    def kind(self, operand: str) -> Kind:
        """The kind of an operand: by its own percent mark, else by its cell, else by its place in the text."""
        if operand.endswith("%"):
            return "percent"
        places = self.places(operand)
        if places:
            return self.cells[places[0]].kind
        index = self.text_index.get(size_of(operand))
        return self.text_numbers[index].kind if index is not None else _kind(operand)

    def written_like(self, number: PageNumber, operand: str) -> str:
        """A number of the page written as the program writes an operand: its percent mark, a dropped minus sign."""
        text = number.text.rstrip("%") + ("%" if operand.endswith("%") else "")
        return text.removeprefix("-") if self.operand(operand).drops_sign else text


def written_numbers(table: Sequence[Sequence[str]], text: Sequence[str]) -> list[str]:
    """Every number that is written in a table or in sentences, in each form that programs have, in reading order.

    Annotators drop signs and percent marks. Years, day numbers and footnotes count too.

    >>> written_numbers([["", "2008"], ["revenue", "$ -5 ( 5 )"]], ["we paid 4.5% of 1,200 ."])
    ['2008', '-5', '5', '4.5%', '4.5', '1200']
    """
    found: dict[str, None] = {}
    for cell in [*(cell for cells in table for cell in cells), *text]:
        number = cell_number(cell)  # -10 for "( 10 )"
        for written in [*([] if number is None else [number.text]), *_ANY_NUMBER.findall(cell)]:
            exact = written.replace(",", "")
            unsigned = exact.removeprefix("-")
            found |= dict.fromkeys((exact, unsigned, exact.removesuffix("%"), unsigned.removesuffix("%")))
    return list(found)


def is_year(text: str) -> bool:
    """True if a number is written like a year: "2008", but not "2008.5" or "2,008"."""
    # The length first: int() refuses texts of thousands of digits.
    return len(text) < 10 and text.isdecimal() and int(text) in _YEARS


def _kind(text: str) -> Kind:
    return "percent" if text.endswith("%") else "year" if is_year(text) else "number"


def cell_number(cell: str) -> PageNumber | None:
    """The number of a cell that holds nothing else."""
    if read_number(cell) is None:
        return None
    written = cell.replace("$", "").replace(",", "").strip()
    head = written.split("(")[0].strip()
    # All in brackets, as in ( 10 ), is a negative number.
    text = head.replace(" ", "") if head else "-" + re.sub(r"[()\s]", "", written)
    if not _TEXT_NUMBER.fullmatch(text):
        return None
    # A broken dash in an amount column reads "$ 2014": a year too.
    return PageNumber(text, _kind(text))


def _sentence_numbers(sentence: str) -> list[PageNumber]:
    # Looking for digits first, not splitting into words, takes half of the time: most words have none.
    numbers = []
    for first_digit in _FROM_FIRST_DIGIT.finditer(sentence):
        start = first_digit.start()
        while start > 0 and sentence[start - 1] in _BEFORE_DIGITS:
            start -= 1
        match = _NUMBER_IN_SENTENCE.match(sentence, start)
        if match is None or match[0] in NEVER_A_YEAR:
            continue
        before = _word_before(sentence, start)
        text = match[1].replace(",", "")
        number = PageNumber(text, _kind(text))
        # "-32 ( 32 )" says the same number twice; "may 31" and "note 5" count nothing.
        if before not in _BEFORE_LABEL and (number.kind != "year" or before in _BEFORE_YEAR):
            numbers.append(number)
    return numbers


def _word_before(sentence: str, position: int) -> str:
    """The word that ends before a position, or the end of a longer one; "" where there is none."""
    while position > 0 and sentence[position - 1].isspace():
        position -= 1
    words = sentence[max(0, position - _LONGEST_WORD) : position].split()
    return words[-1] if words else ""
