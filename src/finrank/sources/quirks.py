"""Quirks of one FinQA example: oddities in its table, text, question, program and answer text that are not faults.

`finrank check` counts them; `sources/findings.py` says what the pipeline does about each.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from finrank.page.broken_characters import broken_characters, dash_cells, report_year
from finrank.programs import CONSTANTS, Program, ProgramError, operands, parse, table_rows
from finrank.programs.language import is_constant, is_reference, referenced_step
from finrank.programs.numbers import NUMBER, read_number
from finrank.records import Answer
from finrank.sources.finqa import Example

LONGEST_READ = 20_000  # characters of a cell or sentence, ten times as many as any in FinQA
_LONGEST_ANSWER_TEXT = 1000  # characters; the rest is not read
_LONGEST_NUMBER, _LONGEST_FORM = 30, 100  # characters of a number, and of one written twice

_PERCENT_TWICE = re.compile(r"[\d.,]+\s*%\s*\(\s*[\d.,]+\s*%\s*\)")
_NEGATIVE_TWICE = re.compile(r"-\s*[\d.,]+\s*%?\s*\(\s*[\d.,]+\s*%?\s*\)")
_BRACKETS_ONLY = re.compile(r"[$\s]*\(\s*[$\s]*[\d.,]+\s*\)?\s*%?(?:\s*\(\s*%\s*\))?")
_NUMBER = re.compile(NUMBER)
_ANSWER_NUMBER = re.compile(rf"-?\s?{NUMBER}\s?%?")
_YEAR = re.compile(r"\s*(?:19|20)\d\d(?![\d.,])")
_GLUED_DATE = re.compile(r"(?<!\d)(?:3[01]|[12]\d|[1-9])(?:19|20)\d\d(?![\d.,])")
_SCALES = (1e3, 1e6, 1e9, 1e-3, 1e-6, 1e-9, 10.0, 0.1, 1e-2)
_ROUNDED = 0.01  # relative; a text this near was rounded on the way, not taken from elsewhere
_WORD = re.compile(r"[a-z]+|\d[\d,.]*\d|\d")


class Quirk(NamedTuple):
    """The name of a finding, and the text in question."""

    name: str
    reason: str


def quirks_of(example: Example) -> Iterator[Quirk]:
    """All quirks of an example, each name at most once; a page with a text longer than `LONGEST_READ` is not read."""
    if name := compare_answer(example.qa.answer, example.qa.exe_ans):
        text = example.qa.answer
        written = repr(text[:100]) if isinstance(text, str) else type(text).__name__
        yield Quirk(name, f"{written} for {example.qa.exe_ans}")
    sentences = example.pre_text + example.post_text
    too_long = [text for text in (*sentences, *_cells(example.table)) if len(text) > LONGEST_READ]
    if too_long:
        lengths = ", ".join(str(len(text)) for text in too_long[:3])
        yield Quirk("oversized_texts", f"{len(too_long)} of up to {max(map(len, too_long))} characters ({lengths})")
        return
    yield from _page_quirks(example.table, sentences)
    yield from _header_quirks(example.table)
    yield from _cell_quirks(example.table)
    yield from _character_quirks(example)
    if example.qa.program is not None:
        with suppress(ProgramError):  # another finding
            yield from _program_quirks(parse(example.qa.program), example)


def compare_answer(text: Any, exe_ans: Answer | None) -> str | None:
    """The name of the quirk of an answer text (`qa.answer`); None if it agrees with `exe_ans` or that is unknown.

    A number agrees when it is `exe_ans` rounded to the decimals written.

    >>> compare_answer("127.40", 127.4), compare_answer("93.5%", 0.935), compare_answer("24.69%", 24.69136)
    (None, 'percent_answers_of_fractions', 'percent_answers_of_percentages')
    >>> compare_answer("$ 63.1 million", 63.1), compare_answer("25%", 0.19495), compare_answer("", 0.65)
    ('answer_texts_with_words', 'answer_texts_that_disagree', 'answer_texts_missing')
    """
    if exe_ans is None:
        return None
    if isinstance(text, int | float) and not isinstance(text, bool):
        text = str(text)
    if not isinstance(text, str) or not text.strip():
        return "answer_texts_missing"
    text = text.strip()[:_LONGEST_ANSWER_TEXT]
    if isinstance(exe_ans, str):
        return None if text.lower() == exe_ans else "answer_texts_that_disagree"
    plain = text.removeprefix("$").strip()
    if _ANSWER_NUMBER.fullmatch(plain):
        return _compare_number(plain, exe_ans)
    names = {_compare_number(match.group(), exe_ans) for match in _ANSWER_NUMBER.finditer(text)}
    agrees = names & {None, "percent_answers_of_fractions", "percent_answers_of_percentages"}
    return "answer_texts_with_words" if agrees else "answer_texts_that_disagree"


def _compare_number(written: str, value: float) -> str | None:
    percent = written.endswith("%")
    digits = written.rstrip("% ").replace(",", "").replace(" ", "")
    number = float(digits)
    if math.isinf(number):
        return "answer_texts_that_disagree"
    # half a unit of the last decimal written, and the error of the five decimals of exe_ans times 100
    tolerance = 0.5001 * 10.0 ** -len(digits.partition(".")[2]) + 1e-9 * abs(number)

    def says(other: float) -> bool:
        return abs(number - other) <= tolerance

    if says(100 * value):
        return "percent_answers_of_fractions" if percent else None if says(value) else "percent_answers_without_sign"
    if says(value):
        return "percent_answers_of_percentages" if percent else None
    if says(-value) or says(-100 * value):
        return "answer_texts_of_other_sign"
    if any(abs(number - other) <= _ROUNDED * abs(other) for other in (value, 100 * value)):
        return "answer_texts_rounded_otherwise"
    if any(says(scale * value) and value for scale in _SCALES):
        return "answer_texts_of_other_scale"
    return "answer_texts_that_disagree"


def question_words(question: str) -> str:
    """A question's words and numbers in lower case, without punctuation.

    >>> question_words("What was the change in 2009 (in millions)?")
    'what was the change in 2009 in millions'
    """
    return " ".join(_WORD.findall(question.lower()))


def _page_quirks(table: list[list[str]], sentences: list[str]) -> Iterator[Quirk]:
    columns = max((len(row) for row in table), default=0)
    if len(table) < 2 or columns < 2:
        yield Quirk("pages_without_table", f"table of {len(table)} rows and {columns} columns")
    if not any(sentence.strip() for sentence in sentences):
        yield Quirk("pages_without_text", f"{len(sentences)} sentences, all empty" if sentences else "no sentence")
    if not any(_NUMBER.search(text) for text in (*_cells(table), *sentences)):
        yield Quirk("pages_without_numbers", "no digit in table and text")


def _header_quirks(table: list[list[str]]) -> Iterator[Quirk]:
    if not table:
        return
    lengths = sorted({len(row) for row in table})
    if len(lengths) > 1:
        yield Quirk("ragged_tables", f"rows of {' and '.join(map(str, lengths))} cells")
    labels = [row[0] for row in table[1:] if row]
    header = table[0][1:]
    for name, texts in {"duplicate_row_labels": labels, "duplicate_column_labels": header}.items():
        if repeated := [text for text, count in Counter(texts).items() if count > 1 and text.strip()]:
            others = f" and {len(repeated) - 1} more" if len(repeated) > 1 else ""
            yield Quirk(name, f"{repeated[0]!r}{others}")
    if "" in map(str.strip, labels):
        yield Quirk("rows_without_label", repr(next(row for row in table[1:] if row and not row[0].strip())))
    if "" in map(str.strip, header):
        yield Quirk("columns_without_label", repr(table[0]))
    if any(read_number(cell) is not None and not _YEAR.match(cell) for cell in header):
        yield Quirk("tables_without_header", f"the first row is {table[0]!r}")


def _cell_quirks(table: list[list[str]]) -> Iterator[Quirk]:
    """Forms of numbers in cells, header and labels left out."""
    first: dict[str, str] = {}
    for cell in _cells(row[1:] for row in table[1:]):
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


def _character_quirks(example: Example) -> Iterator[Quirk]:
    """Codes of lost characters that look like years, and dates joined to their year."""
    year = report_year(example.filename)
    labels = _headings(example.table)
    parts = {"text": example.pre_text + example.post_text, "labels": labels, "questions": [example.qa.question]}
    for part, texts in parts.items():
        broken = next((codes for text in texts if (codes := broken_characters(text, year))), None)
        if broken:
            yield Quirk(f"broken_characters_in_{part}", repr(broken[0]))
    if dashes := dash_cells(example.table):
        row, column = dashes[0]
        others = f", and {len(dashes) - 1} more" if len(dashes) > 1 else ""
        yield Quirk("dashes_in_cells", f"{example.table[row][column]!r} in row {row}{others}")
    glued = next((f"{match.group()!r} in {label!r}" for label in labels if (match := _GLUED_DATE.search(label))), None)
    if glued:
        yield Quirk("glued_dates", glued)


def _program_quirks(program: Program, example: Example) -> Iterator[Quirk]:
    """Dead steps, numbers of unknown origin, rows that the program may misread; ProgramError for "#" without a step."""
    arguments = [argument for step in program.steps for argument in step.arguments]
    used = set(map(referenced_step, filter(is_reference, arguments)))
    if unused := [step for step in range(len(program.steps) - 1) if step not in used]:
        yield Quirk("unused_program_steps", f"step {unused[0]} of {program}")
    if unknown := [argument for argument in arguments if is_constant(argument) and argument not in CONSTANTS]:
        yield Quirk("constants_outside_the_list", f"{unknown[0]} in {program}")
    yield from _operand_quirks(program, example)
    yield from _row_quirks(program, example.table)


def _operand_quirks(program: Program, example: Example) -> Iterator[Quirk]:
    """Where the numbers of a program come from, sign and percent mark ignored."""
    in_cells = Counter(size for row in example.table[1:] for cell in row[1:] for size in set(_sizes(cell)))
    elsewhere = (*_headings(example.table), *example.pre_text, *example.post_text)
    on_page = {size for text in elsewhere for size in _sizes(text)}
    asked = set(_sizes(example.qa.question))
    first: dict[str, str] = {}
    wanted = {operand: size for operand in operands(program) for size in _sizes(operand)[:1]}
    for operand, size in wanted.items():
        if in_cells[size] > 1:
            first.setdefault("operands_in_several_cells", f"{operand} in {in_cells[size]} cells")
        elif size not in in_cells and size not in on_page:
            name = "operands_only_in_the_question" if size in asked else "operands_nowhere_on_the_page"
            name = "constants_written_as_numbers" if size in _CONSTANT_SIZES else name
            first.setdefault(name, f"{operand} in {program}")
    for name, reason in first.items():
        yield Quirk(name, reason)


def _row_quirks(program: Program, table: list[list[str]]) -> Iterator[Quirk]:
    """Table operations on rows with a repeated label or a broken dash."""
    labels = [row[0] for row in table if row]
    rows_read = table_rows(program)
    if repeated := [label for label in rows_read if labels.count(label) > 1]:
        yield Quirk("table_steps_on_repeated_labels", f"{labels.count(repeated[0])} rows {repeated[0]!r} for {program}")
    dashed = {table[row][0]: table[row] for row, _ in dash_cells(table)} if rows_read else {}
    if label := next((label for label in rows_read if label in dashed), None):
        yield Quirk("table_steps_on_dashes", f"{program} reads {dashed[label]!r}")


def _cells(rows: Iterable[list[str]]) -> Iterator[str]:
    return (cell for row in rows for cell in row)


def _headings(table: list[list[str]]) -> list[str]:
    """The cells of the header, and the labels of the other rows."""
    return [*(table[0] if table else ()), *(row[0] for row in table[1:] if row)]


def _sizes(text: str) -> list[float]:
    """Absolute values of the numbers in a text, such as 22.0 for "-22%"; those of too many characters are left out."""
    return [float(digits.replace(",", "")) for digits in _NUMBER.findall(text) if len(digits) <= _LONGEST_NUMBER]


_CONSTANT_SIZES = {size for constant in CONSTANTS for size in _sizes(constant)[:1]}
