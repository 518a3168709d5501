"""Character codes in FinQA's text that replace dashes, quotes and bullets, and look like years.

The files hold hexadecimal codes where characters outside ASCII were: "management 2019s discussion" was "management’s
discussion", a cell "$ 2014" was "$ —". A bare 2014 may also be the year, so the words around it and the year of the
report decide; where they do not, it counts as a year.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


def word_set(text: str) -> frozenset[str]:
    """The words of a text, for membership tests."""
    return frozenset(text.split())


# – — ‘ ’ ‚ “ ” „ • … ‰ ™ − ● • in this order.
_CODES = word_set("2013 2014 2018 2019 201a 201c 201d 201e 2022 2026 2030 2122 2212 25cf f0b7")
NEVER_A_YEAR = word_set("2122 2212")
_QUOTES = word_set("2018 2019")
_BULLETS = word_set("2022 2026 2030")
_AFTER_APOSTROPHE = word_set("s t d m re ll ve")

# Words before a year rather than before a dash or a quote. Wider than the words of `page.py`, which decide whether
# candidates may use a number: this list only feeds notes of `finrank check`.
_INTRODUCES_YEAR = re.compile(
    r"in|of|and|to|for|during|the|from|through|until|by|since|fiscal|calendar|years?|ended|ending|due|or|at|between"
    r"|before|after|beyond|thru|vs|versus|than|with|early|late|mid|maturing|expiring|quarter|period|and/or|a|our|its"
    r"|january|february|march|april|may|june|july|august|september|october|november|december"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|[,()$./-]"
)
# Words after a year that names a thing, as in "2014 notes".
_AFTER_YEAR = word_set("notes senior debentures convertible bonds credit facility annual plan tax , and")
_REPORT_YEAR = re.compile(r"(?:19|20)\d\d(?!\d)")
_YEAR_CELL = re.compile(r"(?:[a-z]+ )?(?:\d\d? )?(?:19|20)\d\d(?: ?[-/] ?(?:19|20)?\d\d)?(?: \( \w+ \))?")
_BARE_DASH = re.compile(r"(\$?)\s*(2013|2014|2212)\s*(%?)(?:\s*\(.*\))?")
_LONGEST_CELL = 40  # characters; "2014% ( 2014 % )" and the like are short


def report_year(page: str) -> int | None:
    """The year in a page's name: 2008 for "V/2008/page_17.pdf", None when it names none."""
    match = _REPORT_YEAR.search(page)
    return int(match.group()) if match else None


def broken_characters(text: str, year: int | None) -> list[str]:
    """The codes in a text that are not years, each with the word before and after it; `year` is the report's.

    >>> broken_characters("management 2019s discussion for 2014", 2008)
    ['management 2019s discussion']
    >>> broken_characters("the years 2013 , 2014 and 2015", 2008)
    []
    """
    tokens = text.split()
    return [
        " ".join(tokens[max(0, index - 1) : index + 2])
        for index, token in enumerate(tokens)
        if token[:4] in _CODES and _is_character(tokens, index, year)
    ]


def _is_character(tokens: Sequence[str], index: int, year: int | None) -> bool:
    code, rest = tokens[index][:4], tokens[index][4:]
    before = tokens[index - 1] if index else ""
    after = tokens[index + 1] if index + 1 < len(tokens) else ""
    if not code.isdecimal() or (code in NEVER_A_YEAR and not rest):
        return True
    if rest:
        return _is_glued(code, rest, at_start=index == 0, late=year is None or int(code) > year + 1)
    if code in _QUOTES and (before.startswith(code) or after.startswith(code)):
        return True
    if year is None or int(code) <= year + 1 or code == "2018":
        return False
    if code in _BULLETS:
        return before in ("", ":", ";") and after[:1].isalpha() and after not in ("and", "to", "through")
    if code == "2019":  # the apostrophe of "stockholders’ equity"
        return before.endswith("s") and after[:1].isalpha()
    introduced = before == "" or before[-1].isdigit() or _INTRODUCES_YEAR.fullmatch(before) is not None
    return not introduced and after not in _AFTER_YEAR


def _is_glued(code: str, rest: str, *, at_start: bool, late: bool) -> bool:
    """True if a code grown together with a word is a character; `late`: too late for the report's year.

    "risk 2014country" lost a dash; "2013and 2014" at the start of a text, or in a report of 2014, lost a blank.
    """
    if code in _BULLETS or (not late and (at_start or rest.startswith(("and", "to", "through")))):
        return False
    return (len(rest) > 1 and rest[:2].isalpha()) or (code == "2019" and rest in _AFTER_APOSTROPHE)


def dash_cells(table: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """The cells (row, column) that read 2013, 2014 or 2212 for a dash; the header and the labels are left out.

    A dollar or percent sign decides, or a column whose other cells are mostly not years.

    >>> dash_cells([["", "2008", "maturity"], ["notes", "$ 2014", "2014"], ["bonds", "2014", "2015"]])
    [(1, 1), (2, 1)]
    """
    dashes = []
    for row, cells in enumerate(table[1:], start=1):
        for column, text in enumerate(cells[1:], start=1):
            match = _BARE_DASH.fullmatch(text.strip()) if len(text) <= _LONGEST_CELL and "2" in text else None
            if match and (match[1] or match[3] or match[2] == "2212" or not _column_of_years(table, column)):
                dashes.append((row, column))
    return dashes


def _column_of_years(table: Sequence[Sequence[str]], column: int) -> bool:
    """True if at least half of a column's cells, possible dashes aside, are years."""
    cells = [row[column].strip() for row in table[1:] if column < len(row)]
    others = [text for text in cells if text and not _BARE_DASH.fullmatch(text[:_LONGEST_CELL])]
    years = sum(_YEAR_CELL.fullmatch(text[:_LONGEST_CELL]) is not None for text in others)
    return years > 0 and 2 * years >= len(others)
