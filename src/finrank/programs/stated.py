"""Stated answers: a number, yes or no as people and models write it, rounded as they please, and what it agrees with.

    24.96 %              0.2496, two decimals of a percentage
    $ 1.2 million        1.2 (FinQA leaves scale words out), one decimal
    (1,234)              -1234
    5 percent decrease   -0.05
    about 0.06           0.06

A stated answer agrees with an exact value that, written at its precision, is the stated number. So "24.96 %" agrees
with 0.24958, and "1.61" with 1.61039 but not with 1.616.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from finrank.programs.execution import DECIMALS
from finrank.records import Answer
from finrank.store.json_lines import shorten

LONGEST_STATED = 100  # characters; a longer text is not a stated answer

_CURRENCY = r"(?:us\$|\$|€|£|¥|(?:usd|eur|gbp|jpy|cad|rs)(?![a-z])\.?)"
_SCALES = {
    "thousand": 3,
    "k": 3,
    "million": 6,
    "mm": 6,
    "mn": 6,
    "mil": 6,
    "m": 6,
    "billion": 9,
    "bn": 9,
    "b": 9,
    "trillion": 12,
}
_ABOUT = re.compile(r"(?:[≈~=]|(?:about|around|approximately|approx\.?|roughly|nearly|almost|circa)\b)\s*")
_UNIT = r"(?:times|x|shares|years|days|months|dollars|employees|basis points?|bps|points?)"
_FALL = r"(?:decreas\w*|declin\w*|reduc\w*|drop\w*|fell|fall|loss|lower|down)"
_RISE = r"(?:increas\w*|growth|grew|ris\w*|rose|gain\w*|higher|up)"
# At most one sign or pair of brackets. A comma must set off three digits: "1,2" may mean 1.2.
_WRITTEN = re.compile(
    rf"(?:(?P<before>{_FALL}|{_RISE})(?: (?:of|by))? )?(?P<sign>[-+]?) ?{_CURRENCY}? ?(?P<open>\(?) ?{_CURRENCY}? ?"
    rf"(?P<inner>[-+]?) ?{_CURRENCY}? ?(?P<digits>(?:[1-9]\d{{0,2}}(?:,\d{{3}})+|\d+)(?:\.\d*)?|\.\d+)"
    r"(?P<power>e[-+]?\d{1,3})? ?"
    r"(?P<percent>%(?:-? ?points?\b)?|(?:percent(?:age|s)?|per[ -]cent)(?:[ -]points?)?\b|pct\b|pp\b)? ?"
    rf"(?P<scale>(?:{'|'.join(_SCALES)})\b)? ?(?P<close>\)?) ?(?P<after>%?)"
    rf" ?{_CURRENCY}? ?{_UNIT}? ?(?P<direction>{_FALL}|{_RISE})?"
)
_DECIMAL_COMMA = re.compile(r"(?<![\d.,])0,\d|\d,\d{1,2}(?!\d)|\d,\d{4,}|\d{4,},\d|\d\.\d{3},\d")
MINUS = "-\u2010-\u2013\u2212\ufe63\uff0d"
"""The characters that are written as a minus sign, for a set in a regular expression."""
_MINUS_SIGN = re.compile(f"[{MINUS}]")
_CHARACTERS = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\uff05": "%"})
_ESCAPE = re.compile(r"\\(?=[$%,;! ])")
_MINUS = re.compile(r"\A(?:minus|negative) (?=\S)")
_ASKS_FOR_PERCENTAGE = re.compile(r"percent|%|\brate\b|growth|\broi\b|\breturn|portion|margin|basis point")


@dataclass(frozen=True)
class Stated:
    """A stated answer: `stated.answer` is what it says in FinQA's units, the rest how precisely it says it."""

    answer: Answer
    """The number (a percentage and percentage points as a fraction, scale words left out), "yes" or "no"."""
    written: float = 0.0
    """The number as written: 24.96 of "24.96 %"."""
    decimals: int = 0
    """Digits written after the point."""
    percent: bool = False
    scale: int = 0
    """The power of ten of its scale word: 6 for "million"."""
    signed_by_word: bool = False
    """True if a word says the sign, as in "5 percent decrease"."""


def read_stated(value: float | str) -> Stated:
    """The answer that a number or a short text states; ValueError, with the reason, where there is none.

    >>> [read_stated(text).answer for text in ("Yes.", "12.5%", "(1,200)", "≈ $ -4.5 million", "94 USD", "1.2e3")]
    ['yes', 0.125, -1200.0, -4.5, 94.0, 1200.0]
    """
    if not isinstance(value, str):
        if not math.isfinite(value):
            raise ValueError(f"answer: {value} is no finite number")
        # JSON numbers have lost their trailing zeros: 0.7 may have been 70.0 %, hardly 0.65 to 0.75.
        decimals = max(_decimals_of(value), 2 if abs(value) < 10 else 0)
        return Stated(float(value), float(value), decimals)
    plain = _ESCAPE.sub(" ", _MINUS_SIGN.sub("-", value.lower().translate(_CHARACTERS)))
    if plain.count("*") % 2 == 0:  # "**94**", not "100 *"
        plain = plain.replace("*", " ")
    plain = _MINUS.sub("-", " ".join(plain.split()).removesuffix(".").strip())
    if plain in ("yes", "no", "true", "false"):
        return Stated("yes" if plain in ("yes", "true") else "no")
    short = shorten(value, 60)
    if len(plain) <= LONGEST_STATED:
        match = _WRITTEN.fullmatch(_ABOUT.sub("", plain, count=1) if _ABOUT.match(plain) else plain)
        stated = None if match is None else _stated(match)
        if stated is not None:
            return stated
        if _DECIMAL_COMMA.search(plain):
            raise ValueError(
                f"answer: the comma in {short!r} may be a decimal point or set off thousands: write a point"
            )
    raise ValueError(f"answer: {short!r} is no number that can be read, nor yes or no; give the program instead")


def _stated(match: re.Match[str]) -> Stated | None:
    signs = match["sign"] + match["inner"] + match["open"]
    if (
        bool(match["open"]) != bool(match["close"])
        or signs not in ("", "-", "+", "(", "-(")
        or (match["percent"] and match["after"])
    ):
        return None
    percent = bool(match["percent"] or match["after"])
    power = int((match["power"] or "e0")[1:])
    digits = match["digits"].replace(",", "")
    # The power goes into the text: 16.7 / 100 is not the float nearest to 0.167.
    size, fraction = float(f"{digits}e{power}"), float(f"{digits}e{power - (2 if percent else 0)}")
    if not math.isfinite(size):
        return None
    words = (match["before"] or "") + (match["direction"] or "")
    falls = bool(re.match(_FALL, words))
    sign = -1.0 if signs in ("-", "(", "-(") or (falls and not signs) else 1.0
    return Stated(
        answer=sign * fraction,
        written=sign * size,
        decimals=max(len(digits.partition(".")[2]) - power, 0),
        percent=percent,
        scale=_SCALES.get(match["scale"] or "", 0),
        signed_by_word=falls,
    )


def _decimals_of(number: float) -> int:
    """Digits after the point of a number's shortest text: 2 for 0.06, 0 for 94.0."""
    digits, _, power = repr(float(number)).partition("e")
    return max(len(digits.partition(".")[2].rstrip("0")) - int(power or 0), 0)


def asks_for_percentage(question: str) -> bool:
    """True if a question asks for a percentage, which may then be stated as 24.96 or as 0.2496."""
    return _ASKS_FOR_PERCENTAGE.search(question.lower()) is not None


def agrees(stated: Stated, exact: Answer, *, percentage: bool = False) -> bool:
    """True if an exact value, written at the precision of a stated answer, is that answer.

    A percentage may be stated as a number or as a fraction where it has a percent sign or `percentage` is true (the
    question asks for one); a scale word may count or not; a sign that a word says may be written or not.

    >>> [agrees(read_stated(text), 0.24958) for text in ("24.96 %", "25%", "0.25", "24.9%")]
    [True, True, True, False]
    """
    if isinstance(stated.answer, str) or isinstance(exact, str):
        return stated.answer == exact
    numbers = [abs(stated.written), abs(exact)] if stated.signed_by_word else [stated.written, exact]
    return any(
        _rounds_to(numbers[1], numbers[0], stated.decimals, power) for power in _powers(stated, percentage=percentage)
    )


def bounds(stated: Stated, *, percentage: bool) -> list[tuple[float, float]]:
    """Intervals outside of which no exact number agrees with a stated one; inside, `agrees` decides.

    >>> [(round(low, 2), round(high, 2)) for low, high in bounds(read_stated("25"), percentage=False)]
    [(24.49, 25.51)]
    """
    if stated.written == 0:
        return [(0.0, 0.0)]
    found = []
    for power in _powers(stated, percentage=percentage):
        value = stated.written * 10.0**power
        margin = 1.01 * _half(stated.decimals, power) + 1e-11 * abs(value)
        found.append((value - margin, value + margin))
    return found + [(-high, -low) for low, high in found if stated.signed_by_word]


def _powers(stated: Stated, *, percentage: bool) -> set[int]:
    """The powers of ten by which an exact value may differ from what is written."""
    powers = {0}
    if stated.percent or percentage:
        powers |= {-2} if stated.percent else {-2, 2}
    if stated.scale:
        powers |= {stated.scale - power for power in (0, 3, 6, 9) if power < stated.scale}
    return powers


def _half(decimals: int, power: int) -> float:
    """Half a unit of the last decimal that is written, as far as exact values are known."""
    return 0.5 * 10.0 ** -min(decimals - power, DECIMALS)


def _rounds_to(exact: float, written: float, decimals: int, power: int) -> bool:
    """True if `exact`, known to 5 decimals, is `written` * 10^`power` at the precision of the latter."""
    half = _half(decimals, power)
    if written == 0 and exact != 0:  # nothing is rounded to zero on purpose
        return False
    value = written * 10.0**power
    return abs(exact - value) <= half * (1 + 1e-9) + 1e-12 * abs(exact)
