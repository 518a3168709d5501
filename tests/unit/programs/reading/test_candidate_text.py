"""Texts are read as the table of readings says, from whatever surrounds them, and what was read is read as itself."""

from __future__ import annotations

import contextlib
import time

import pytest

from finrank.programs import parse
from finrank.programs.reading.candidate_text import LONGEST_TEXT, Said, Unreadable, read_text, text_of_tokens
from tests.helpers.readings import READINGS, Reading, name_of

TEXTS = [case for case in READINGS if isinstance(case.given, str)]
UNITS = [
    "<think>", "</think>", "{", "}", "```", "\\boxed{", "\\boxed{}", "\\frac{1}{2}", "\\", "add(", "add(1, 2), ",
    "add(1, 2)\n", "table_sum(", "#0 = ", "1", "1,", "1, ", "1 + ", "(1", "1(", "5%", "$", "=", "5 = ", " ", "\t",
    "\n", "\r\n", "\u200b ", "Answer: \n", "Answer: 5\n", "Answer is ", "Answer: ```", "Answer: Answer: ", "- ",
    "- \n", "the final ", "1) ", "(", "[", '"', "'", '{"', "{'a': '", '{"answer": ', '{"answer": 5}', '["a", ', "**",
    "`", "_", "<answer>", "5 or ", "june 5 ", "5. ",
]  # fmt: skip


@pytest.mark.parametrize("case", TEXTS, ids=name_of)
def test_what_was_read_is_read_as_itself(case: Reading) -> None:
    try:
        said = read_text(case.given)
    except Unreadable:
        assert case.answer is None
        return
    assert case.answer is not None or case.error in ("no number", "costs", "number", "division by zero", "comma")
    for part in (said.program, said.stated):
        if part is not None:
            again = read_text(part)
            assert part in again
            assert again in (Said(said.program, None), Said(None, said.stated))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("subtract(5829, 5735) = 94", ("subtract(5829, 5735)", "94")),
        ('{"program": "add(1, 2)", "answer": "about 3"}', ("add(1, 2)", "about 3")),
        ("Program: add(1, 2)\nAnswer: 3 %", ("add(1, 2)", "3 %")),
        ("It fell by 5 %.", (None, "decrease of 5 %")),
        ("growth = (12 - 10) / 10 = 20 %", ("subtract(12, 10), divide(#0, 10)", "20 %")),
        ("(12 - 10) / 10 * 100 = 20 %", ("subtract(12, 10), divide(#0, 10)", "20 %")),
        ("20 % - 10 % = 10 %", ("subtract(20%, 10%)", "10 %")),
        ("<THINK>İ or 95?</Think>subtract(5829, 5735)", ("subtract(5829, 5735)", None)),
        ("Türkiye İş: <Answer>94</ANSWER>", (None, "94")),
    ],
)
def test_program_and_answer_of_one_text(text: str, said: tuple[str | None, str | None]) -> None:
    assert read_text(text) == said


@pytest.mark.slow
def test_no_text_takes_long() -> None:
    slowest: dict[str, float] = {}
    for unit in UNITS:
        for start, end in (("", ""), ("5 ", "x")):
            text = (start + unit * LONGEST_TEXT)[: LONGEST_TEXT - len(end)] + end
            begin = time.process_time()
            with contextlib.suppress(Unreadable):
                read_text(text)
            slowest[unit] = max(slowest.get(unit, 0.0), time.process_time() - begin)
    assert {unit: seconds for unit, seconds in slowest.items() if seconds > 4.0} == {}  # 0.5 s on an idle core


def test_tokens_become_the_text_of_the_program() -> None:
    program = parse("table_max(net sales, none), divide(#0, 5735), greater(#1, const_m1)")
    tokens = ["table_max(", "net sales", "none", ")", "divide(", "#0", "5735", ")", "greater(", "#1", "const_m1", ")"]
    assert text_of_tokens([*tokens, "EOF"]) == text_of_tokens(tokens) == str(program)
    assert text_of_tokens(["EOF"]) == text_of_tokens([]) == ""
    assert text_of_tokens(["add(", "1"]) == "add(1"
