"""Numbers as FinQA writes them: in programs, in table cells."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, wraps

# A number as texts write it, without sign and unit: the source of a regular expression.
NUMBER = r"(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
# Texts longer than any number of a report are read anew each time: remembered, they could fill the memory.
_LONGEST_REMEMBERED = 64


def _remembered(read: Callable[[str], float | None]) -> Callable[[str], float | None]:
    cached = lru_cache(maxsize=65536)(read)
    return wraps(read)(lambda text: cached(text) if len(text) <= _LONGEST_REMEMBERED else read(text))


@_remembered
def literal(text: str) -> float | None:
    """The value of a number in a program as the official evaluator reads it, None for other texts.

    "1,234" is 1234.0, "12%" is 0.12, "const_m1" is -1.0, "nan" is nan.
    """
    text = text.replace(",", "")
    try:
        return float(text)
    except ValueError:
        pass
    try:
        if "%" in text:
            return float(text.replace("%", "")) / 100.0
        if "const" in text:
            named = text.replace("const_", "")
            return -1.0 if named == "m1" else float(named)
    except ValueError:
        pass
    return None


@_remembered
def cell(text: str) -> float | None:
    """The value of a table cell as the official evaluator reads it, None for other texts.

    The dollar sign goes, and all from the first bracket on: "$ -32 ( 32 )" is -32.0, "22% ( 22 % )" is 0.22.
    """
    return literal(text.replace("$", "").strip().partition("(")[0].strip())


def read_number(text: str) -> float | None:
    """The number of a program's argument or a table cell, None for other texts and values that are not finite.

    Reads what the official evaluator reads, and also a cell that is all in brackets: a negative number in financial
    tables.

    >>> [read_number(text) for text in ("$ 1,637", "-32 ( 32 )", "22% ( 22 % )", "( 10 )", "(-10)", "const_100", "n/a")]
    [1637.0, -32.0, 0.22, -10.0, -10.0, 100.0, None]
    """
    value = cell(text)
    if value is None and (inside := _inside_brackets(text.replace("$", "").strip())) is not None:
        value = -abs(inside)
    return value if value is not None and math.isfinite(value) else None


def _inside_brackets(text: str) -> float | None:
    """The number of "( 10 )", "( 10 % )" or "( 10 ) %", without a sign; None for any other form."""
    body = text.removesuffix("%").rstrip()
    if len(body) < 2 or body[0] != "(" or body[-1] != ")":
        return None
    return literal(body[1:-1].strip() + text[len(body) :].strip())
