"""What is noisy about an answer text."""

from __future__ import annotations

from typing import Any

import pytest

from finrank.records import Answer
from finrank.sources.answer_text import answer_text_of, compare_answer


@pytest.mark.parametrize(
    ("text", "exe_ans"),
    [
        ("127.40", 127.4),
        ("$ 1,637", 1637.0),
        (".2", 0.2),
        ("- 1.9", -1.9),
        ("1.16", 1.15663),
        ("22556579533.3", 22556579533.35),
        ("yes", "yes"),
        ("No ", "no"),
        (94, 94.0),
        ("0", 0.0),
        ("anything", None),
    ],
)
def test_a_text_that_says_the_answer_is_not_noisy(text: Any, exe_ans: Answer | None) -> None:
    assert compare_answer(text, exe_ans) is None


@pytest.mark.parametrize(
    ("text", "exe_ans", "name"),
    [
        ("93.5%", 0.935, "percent_answers_of_fractions"),
        ("3044%", 30.44323, "percent_answers_of_fractions"),
        ("0%", 0.0, "percent_answers_of_fractions"),
        ("24.69%", 24.69136, "percent_answers_of_percentages"),
        ("27.9", 0.27867, "percent_answers_without_sign"),
        ("$ 2458.3 million", 2458.3, "answer_texts_with_words"),
        ("sales grew 211% from 2006 to 2008", 2.11269, "answer_texts_with_words"),
        ("6.7%\\n", 0.06685, "answer_texts_with_words"),
        ("32.8%", 0.32885, "answer_texts_rounded_otherwise"),
        ("1719526", 1714285.71429, "answer_texts_rounded_otherwise"),
        ("3.4%", -0.0339, "answer_texts_of_other_sign"),
        ("11.3", -11.33333, "answer_texts_of_other_sign"),
        ("156250000", 156.25, "answer_texts_of_other_scale"),
        ("19%", 0.01925, "answer_texts_of_other_scale"),
        ("25%", 0.19495, "answer_texts_that_disagree"),
        ("5", 0.0, "answer_texts_that_disagree"),
        ("no", "yes", "answer_texts_that_disagree"),
        ("yes", 3.0, "answer_texts_that_disagree"),
        ("it fell by 7 in 2008", 5.0, "answer_texts_that_disagree"),
        ("", 5.0, "answer_texts_missing"),
        (None, "yes", "answer_texts_missing"),
        (["5"], 5.0, "answer_texts_missing"),
        (True, 1.0, "answer_texts_missing"),
    ],
)
def test_each_kind_of_noise_has_its_name(text: Any, exe_ans: Answer, name: str) -> None:
    assert compare_answer(text, exe_ans) == name


@pytest.mark.parametrize("text", ["9" * 500, "1" * 10_000_000, float("inf"), float("nan"), "٣٤", "-" * 5000, "7,,"])
def test_no_text_is_too_odd(text: Any) -> None:
    assert compare_answer(text, 5.0) == "answer_texts_that_disagree"


def test_the_text_is_found_in_an_element_of_any_type() -> None:
    elements: list[Any] = [{"qa": {"answer": "5"}}, None, 7, {"qa": []}, {"qa": {}}, {"qa": {"answer": [1]}}, []]
    assert [answer_text_of(element) for element in elements] == ["5", None, None, None, None, [1], None]
