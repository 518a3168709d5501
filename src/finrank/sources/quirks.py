"""The quirks of one FinQA example: what is odd in its table, text, question and program, and still no fault.

`quirks_of` is what `finrank check` counts; every other function looks for one group of quirks. None of them changes
anything: what the pipeline does about each quirk stands in `sources/findings.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from finrank.page.broken_characters import broken_characters, dash_cells, report_year
from finrank.programs import (
    CONSTANTS,
    Program,
    ProgramError,
    is_constant,
    is_reference,
    operands,
    parse,
    read_number,
    referenced_step,
    table_rows,
)
from finrank.programs.numbers import NUMBER
from finrank.sources.finqa import Example

LONGEST_READ = 20_000  # characters of a cell or sentence, ten times as many as any in FinQA

_PERCENT_TWICE = re.compile(r"[\d.,]+\s*%\s*\(\s*[\d.,]+\s*%\s*\)")
_NEGATIVE_TWICE = re.compile(r"-\s*[\d.,]+\s*%?\s*\(\s*[\d.,]+\s*%?\s*\)")
_BRACKETS_ONLY = re.compile(r"[$\s]*\(\s*[$\s]*[\d.,]+\s*\)?\s*%?(?:\s*\(\s*%\s*\))?")
_NUMBER = re.compile(NUMBER)
_LONGEST_NUMBER, _LONGEST_FORM = 30, 100  # characters of a number, and of one written twice
_YEAR = re.compile(r"\s*(?:19|20)\d\d(?![\d.,])")
_GLUED_DATE = re.compile(r"(?<!\d)(?:3[01]|[12]\d|[1-9])(?:19|20)\d\d(?![\d.,])")
_WORD = re.compile(r"[a-z]+|\d[\d,.]*\d|\d")


class Quirk(NamedTuple):
    """The name of a finding, and where and what it is, as literal text."""

    name: str
    reason: str


def quirks_of(example: Example) -> Iterator[Quirk]:
    """All quirks of an example, each name at most once.

    Texts longer than `LONGEST_READ` are named and not looked into.
    """
    sentences = example.pre_text + example.post_text
    too_long = [text for text in (*sentences, *_cells(example.table)) if len(text) > LONGEST_READ]
    if too_long:
        lengths = ", ".join(str(len(text)) for text in too_long[:3])
        yield Quirk("oversized_texts", f"{len(too_long)} of up to {max(map(len, too_long))} characters ({lengths})")
        return
    yield from page_quirks(example.table, sentences)
    yield from header_quirks(example.table)
    yield from cell_quirks(example.table)
    yield from character_quirks(example)
    if example.qa.program is not None:
        try:
            program = parse(example.qa.program)
        except ProgramError:  # a finding of its own
            return
        yield from program_quirks(program, example)


def question_words(question: str) -> str:
    """A question's words and numbers in lower case, what stands between them left out: near-identical ones are equal.

    >>> question_words("What was the change in 2009 (in millions)?")
    'what was the change in 2009 in millions'
    """
    return " ".join(_WORD.findall(question.lower()))


def page_quirks(table: list[list[str]], sentences: list[str]) -> Iterator[Quirk]:
    """Pages with nothing, or next to nothing, to read."""
    columns = max((len(row) for row in table), default=0)
    if len(table) < 2 or columns < 2:
        yield Quirk("pages_without_table", f"table of {len(table)} rows and {columns} columns")
    if not any(sentence.strip() for sentence in sentences):
        yield Quirk("pages_without_text", f"{len(sentences)} sentences, all empty" if sentences else "no sentence")
    if not any(_NUMBER.search(text) for text in (*_cells(table), *sentences)):
        yield Quirk("pages_without_numbers", "no digit in table and text")


def header_quirks(table: list[list[str]]) -> Iterator[Quirk]:
    """Tables whose rows and columns cannot be told by their labels."""
    if not table:
        return
    lengths = sorted({len(row) for row in table})
    if len(lengths) > 1:
        yield Quirk("ragged_tables", f"rows of {' and '.join(map(str, lengths))} cells")
    labels = [row[0] for row in table[1:] if row]
    header = table[0][1:]
    if repeated := _repeated(label for label in labels if label.strip()):
        yield Quirk("duplicate_row_labels", _first_of(repeated))
    if repeated := _repeated(cell for cell in header if cell.strip()):
        yield Quirk("duplicate_column_labels", _first_of(repeated))
    if "" in map(str.strip, labels):
        yield Quirk("rows_without_label", repr(next(row for row in table[1:] if row and not row[0].strip())))
    if "" in map(str.strip, header):
        yield Quirk("columns_without_label", repr(table[0]))
    if any(read_number(cell) is not None and not _YEAR.match(cell) for cell in header):
        yield Quirk("tables_without_header", f"the first row is {table[0]!r}")


def cell_quirks(table: list[list[str]]) -> Iterator[Quirk]:
    """Forms of numbers in cells; the header and the labels are left out."""
    first: dict[str, str] = {}
    for row in table[1:]:
        for cell in row[1:]:
            if "(" not in cell or len(cell) > _LONGEST_FORM:
                continue
            if _BRACKETS_ONLY.fullmatch(cell):
                name = "bracketed_cells" if read_number(cell) is not None else "unreadable_bracketed_cells"
                first.setdefault(name, cell)
                continue
            if _PERCENT_TWICE.search(cell):
                first.setdefault("percent_cells", cell)
            if _NEGATIVE_TWICE.search(cell):
                first.setdefault("negative_cells", cell)
    for name, cell in first.items():
        yield Quirk(name, repr(cell))


def character_quirks(example: Example) -> Iterator[Quirk]:
    """Codes of lost characters that look like years, and dates grown together with their year."""
    year = report_year(example.filename)
    for sentence in example.pre_text + example.post_text:
        if found := broken_characters(sentence, year):
            yield Quirk("broken_characters_in_text", repr(found[0]))
            break
    labels = example.table[0] + [row[0] for row in example.table[1:] if row] if example.table else []
    for label in labels:
        if found := broken_characters(label, year):
            yield Quirk("broken_characters_in_labels", repr(found[0]))
            break
    if found := broken_characters(example.qa.question, year):
        yield Quirk("broken_characters_in_questions", repr(found[0]))
    if places := dash_cells(example.table):
        row, column = places[0]
        others = f", and {len(places) - 1} more" if len(places) > 1 else ""
        yield Quirk("dashes_in_cells", f"{example.table[row][column]!r} in row {row}{others}")
    for label in labels:
        if glued := _GLUED_DATE.search(label):
            yield Quirk("glued_dates", f"{glued.group()!r} in {label!r}")
            break


def program_quirks(program: Program, example: Example) -> Iterator[Quirk]:
    """What is odd in a gold program: dead steps, numbers of unknown origin, rows that it may misread."""
    arguments = [argument for step in program.steps for argument in step.arguments]
    used = set()
    for argument in filter(is_reference, arguments):
        try:
            used.add(referenced_step(argument))
        except ProgramError:
            return  # "#" that names no step: the program does not execute, a finding of its own
    if unused := [step for step in range(len(program.steps) - 1) if step not in used]:
        yield Quirk("unused_program_steps", f"step {unused[0]} of {program}")
    if unknown := [argument for argument in arguments if is_constant(argument) and argument not in CONSTANTS]:
        yield Quirk("constants_outside_the_list", f"{unknown[0]} in {program}")
    yield from _operand_quirks(program, example)
    yield from _row_quirks(program, example.table)


def _operand_quirks(program: Program, example: Example) -> Iterator[Quirk]:
    """Where the numbers of a program come from, sign and percent mark aside."""
    wanted = {operand: size for operand in operands(program) if (size := _size(operand)) is not None}
    if not wanted:
        return
    in_cells = Counter(size for row in example.table[1:] for cell in row[1:] for size in set(_sizes(cell)))
    headings = (*(example.table[0] if example.table else ()), *(row[0] for row in example.table[1:] if row))
    on_page = {size for text in (*headings, *example.pre_text, *example.post_text) for size in _sizes(text)}
    asked = set(_sizes(example.qa.question))
    first: dict[str, str] = {}
    for operand, size in wanted.items():
        if in_cells[size] > 1:
            first.setdefault("operands_in_several_cells", f"{operand} in {in_cells[size]} cells")
        elif size not in in_cells and size not in on_page:
            if size in _CONSTANT_SIZES:
                name = "constants_written_as_numbers"
            else:
                name = "operands_only_in_the_question" if size in asked else "operands_nowhere_on_the_page"
            first.setdefault(name, f"{operand} in {program}")
    for name, reason in first.items():
        yield Quirk(name, reason)


def _row_quirks(program: Program, table: list[list[str]]) -> Iterator[Quirk]:
    """Table operations on rows that are not what they seem."""
    labels = [row[0] for row in table if row]
    read = table_rows(program)
    if repeated := [label for label in read if labels.count(label) > 1]:
        yield Quirk("table_steps_on_repeated_labels", f"{labels.count(repeated[0])} rows {repeated[0]!r} for {program}")
    if not read:
        return
    dashed = {table[row][0]: table[row] for row, _ in dash_cells(table)}
    if label := next((label for label in read if label in dashed), None):
        yield Quirk("table_steps_on_dashes", f"{program} reads {dashed[label]!r}")


def _cells(table: list[list[str]]) -> Iterator[str]:
    return (cell for row in table for cell in row)


def _repeated(texts: Iterable[str]) -> list[str]:
    return [text for text, count in Counter(texts).items() if count > 1]


def _first_of(texts: list[str]) -> str:
    return f"{texts[0]!r} and {len(texts) - 1} more" if len(texts) > 1 else repr(texts[0])


def _size(written: str) -> float | None:
    """The absolute value of the first number in a text, None for none: 22.0 for "-22%"."""
    return next(iter(_sizes(written)), None)


def _sizes(text: str) -> list[float]:
    """The absolute values of all numbers in a text; what is too long for a number is left out."""
    return [float(found.replace(",", "")) for found in _NUMBER.findall(text) if len(found) <= _LONGEST_NUMBER]


_CONSTANT_SIZES = {_size(constant) for constant in CONSTANTS}
