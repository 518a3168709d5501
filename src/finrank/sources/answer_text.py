"""How `qa.answer`, the answer as a person wrote it, stands to `exe_ans`, the value of the program.

FinQA's answer texts are noisy, and finrank trains and measures by `exe_ans` alone. What is noisy about a text is told
apart here, so that `finrank check` can count it.
"""

from __future__ import annotations

import math
import re
from typing import Any

from finrank.programs.numbers import NUMBER
from finrank.records import Answer

_NUMBER = re.compile(rf"-?\s?{NUMBER}\s?%?")
_LONGEST = 1000  # characters; a longer text is no answer
_SCALES = (1e3, 1e6, 1e9, 1e-3, 1e-6, 1e-9, 10.0, 0.1, 1e-2)
_CLOSE = 0.01  # relative; a text this near was rounded on the way, not taken from elsewhere


def answer_text_of(element: Any) -> Any:
    """`qa.answer` of an element of an official file, whatever type it has; None where there is none.

    >>> answer_text_of({"id": "V/2008/page_17.pdf-1", "qa": {"answer": "127.40"}})
    '127.40'
    """
    qa = element.get("qa") if isinstance(element, dict) else None
    return qa.get("answer") if isinstance(qa, dict) else None


def compare_answer(text: Any, exe_ans: Answer | None) -> str | None:
    """The name of what is noisy about an answer text, None where it says `exe_ans` plainly or nothing is known.

    A number agrees when it is `exe_ans` rounded to the decimals that are written.

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
    text = text.strip()[:_LONGEST]
    if isinstance(exe_ans, str):
        return None if text.lower() == exe_ans else "answer_texts_that_disagree"
    plain = text.removeprefix("$").strip()
    if _NUMBER.fullmatch(plain):
        return _compare_number(plain, exe_ans)
    said = (_compare_number(match.group(), exe_ans) for match in _NUMBER.finditer(text))
    agree = (None, "percent_answers_of_fractions", "percent_answers_of_percentages")
    return "answer_texts_with_words" if any(name in agree for name in said) else "answer_texts_that_disagree"


def _compare_number(written: str, value: float) -> str | None:
    percent = written.endswith("%")
    digits = written.rstrip("% ").replace(",", "").replace(" ", "")
    number = float(digits)
    if math.isinf(number):
        return "answer_texts_that_disagree"
    # half a unit of the last decimal written, and what the five decimals of exe_ans may be off when times 100
    tolerance = 0.5001 * 10.0 ** -len(digits.partition(".")[2]) + 1e-9 * abs(number)

    def says(other: float) -> bool:
        return abs(number - other) <= tolerance

    if says(100 * value):
        return "percent_answers_of_fractions" if percent else None if says(value) else "percent_answers_without_sign"
    if says(value):
        return "percent_answers_of_percentages" if percent else None
    if says(-value) or says(-100 * value):
        return "answer_texts_of_other_sign"
    if any(abs(number - other) <= _CLOSE * abs(other) for other in (value, 100 * value)):
        return "answer_texts_rounded_otherwise"
    if any(says(scale * value) and value for scale in _SCALES):
        return "answer_texts_of_other_scale"
    return "answer_texts_that_disagree"
