"""Each quirk: an example that has it, and its nearest neighbour that does not."""

from __future__ import annotations

from typing import Any

import pytest

from finrank.records import Answer
from finrank.sources.findings import KINDS
from finrank.sources.finqa import Example
from finrank.sources.quirks import LONGEST_READ, compare_answer, question_words, quirks_of
from tests.helpers.raw_files import raw_example

PLAIN: dict[str, Any] = {
    "pre_text": ["we paid 40 in tax ."],
    "table": [["", "2008", "2007"], ["volume", "$ 637", "512"], ["costs", "30", "29"]],
    "question": "what is the average of 12 and the volume ?",
}


def _quirks(**changes: Any) -> dict[str, str]:
    """Reasons by name of PLAIN with fields changed."""
    quirks = list(quirks_of(Example.model_validate(raw_example(**PLAIN | changes))))
    names = [quirk.name for quirk in quirks]
    assert len(set(names)) == len(names), "a name comes at most once"
    assert set(names) <= set(KINDS)
    return {quirk.name: quirk.reason for quirk in quirks}


def _cell(cell: str) -> dict[str, Any]:
    return {"table": [["", "2008", "2007"], ["volume", "$ 637", "512"], ["costs", cell, "29"]]}


def _rows(*rows: list[str]) -> dict[str, Any]:
    return {"table": [["", "2008"], ["volume", "$ 637"], *rows]}


def _program(program: str) -> dict[str, Any]:
    return {"program": program}


POSITIVE_AND_NEGATIVE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("oversized_texts", _cell("x" * (LONGEST_READ + 1)), _cell("x" * LONGEST_READ)),
    ("pages_without_table", {"table": []}, _rows()),
    ("pages_without_table", {"table": [["a", "637"]]}, _rows()),
    ("pages_without_table", {"table": [["a"], ["637"]]}, _rows()),
    ("pages_without_text", {"pre_text": [" "], "post_text": []}, {"pre_text": ["."], "post_text": []}),
    (
        "pages_without_numbers",
        {"table": [["", "x"]], "pre_text": ["no ."]},
        {"table": [["", "x"]], "pre_text": ["7 ."]},
    ),
    ("ragged_tables", _rows(["costs"]), _rows(["costs", ""])),
    ("duplicate_row_labels", _rows(["volume", "3"]), _rows(["volumes", "3"])),
    ("duplicate_column_labels", {"table": [["", "2008", "2008"], ["a", "637", "1"]]}, {}),
    ("rows_without_label", _rows([" ", "3"]), _rows(["-", "3"])),
    ("columns_without_label", {"table": [["", ""], ["a", "637"]]}, {"table": [["", "-"], ["a", "637"]]}),
    ("tables_without_header", {"table": [["cash", "$ 29"]]}, {"table": [["cash", "2029"]]}),
    ("tables_without_header", {"table": [["cash", "2010.5"]]}, {"table": [["cash", "2010 ( in millions )"]]}),
    ("percent_cells", _cell("22% ( 22 % )"), _cell("22%")),
    ("percent_cells", _cell("-22% ( 22 % )"), _cell("22% ( b )")),
    ("negative_cells", _cell("$ -32 ( 32 )"), _cell("-32")),
    ("negative_cells", _cell("-32.5 ( 32.5 )"), _cell("32 ( 32 )")),
    ("bracketed_cells", _cell("( 32 )"), _cell("-32 ( 32 )")),
    ("bracketed_cells", _cell("( $ 32 )"), _cell("( a )")),
    ("unreadable_bracketed_cells", _cell("( 5 ) % (  % )"), _cell("( 32 )")),
    ("broken_characters_in_text", {"pre_text": ["the company 2019s tax ."]}, {"pre_text": ["tax of 2019 ."]}),
    ("broken_characters_in_labels", _rows(["debt 2014 net", "3"]), _rows(["debt in 2014", "3"])),
    ("broken_characters_in_questions", {"question": "what is visa 2019s volume ?"}, {"question": "volume in 2019 ?"}),
    ("dashes_in_cells", _cell("$ 2014"), _cell("$ 2114")),
    ("glued_dates", _rows(["december 312008", "3"]), _rows(["december 31 2008", "3"])),
    ("glued_dates", _rows(["dec . 92008", "3"]), _rows(["lot 3120081", "3"])),
    ("unused_program_steps", _program("add(637, 512), divide(637, 512)"), _program("add(637, 512), divide(#0, 512)")),
    ("constants_outside_the_list", _program("divide(637, const_12)"), _program("divide(637, const_10)")),
    ("constants_written_as_numbers", _program("divide(637, 100)"), _program("divide(637, const_100)")),
    ("operands_only_in_the_question", _program("divide(637, 12)"), _program("divide(637, 40)")),
    ("operands_nowhere_on_the_page", _program("divide(637, 41)"), _program("divide(637, 40)")),
    ("operands_nowhere_on_the_page", _program("divide(6370, 40)"), _program("divide(-637, 40%)")),
    ("operands_in_several_cells", _cell("637"), _cell("6370")),
    (
        "table_steps_on_repeated_labels",
        _rows(["volume", "3"]) | _program("table_sum(volume, none)"),
        _rows(["volume", "3"], ["costs", "3"]) | _program("table_sum(costs, none)"),
    ),
    (
        "table_steps_on_dashes",
        _rows(["costs", "$ 2014"]) | _program("table_sum(costs, none)"),
        _rows(["costs", "$ 2014"]) | _program("table_sum(volume, none)"),
    ),
]


@pytest.mark.parametrize(("name", "positive", "negative"), POSITIVE_AND_NEGATIVE)
def test_a_quirk_is_found_and_its_neighbour_is_not(name: str, positive: Any, negative: Any) -> None:
    assert name in _quirks(**positive)
    assert name not in _quirks(**negative)


def test_a_plain_example_has_none_and_a_reason_quotes_the_data() -> None:
    assert _quirks() == {}
    assert _quirks(**_cell("22% ( 22 % )"))["percent_cells"] == "'22% ( 22 % )'"
    assert _quirks(**_program("divide(637, 41)"))["operands_nowhere_on_the_page"] == "41 in divide(637, 41)"
    assert _quirks(answer="17")["answer_texts_that_disagree"] == "'17' for 127.4"


@pytest.mark.parametrize("program", ["about five", "add(#, 5)"])
def test_a_broken_program_keeps_the_quirks_of_its_page(program: str) -> None:
    assert set(_quirks(program=program, **_cell("( 32 )"))) == {"bracketed_cells"}


@pytest.mark.parametrize(
    "changes",
    [
        {"table": [[]]},
        {"table": [[], [], ["a"]]},
        {"table": [["", "2008"], [], ["a", "2014", "2014"]]},
        {"pre_text": ["9" * LONGEST_READ, "(" * LONGEST_READ, "1," * 5000]},
        _cell("-" + "9" * 10_000 + " ( 1 )"),
        _program("table_max(#0, none)"),
        _program("add(1e308, 9e999)"),
    ],
)
def test_odd_shapes_do_not_crash(changes: dict[str, Any]) -> None:
    _quirks(**changes)


def test_near_identical_questions_have_the_same_words() -> None:
    assert question_words("What was the change, in 2009 (millions)?") == question_words(
        "what was the change in 2009 millions"
    )
    assert question_words("change from 2008 to 2009 ?") != question_words("change from 2009 to 2008 ?")
    assert question_words("a rate of 1.5 ?") != question_words("a rate of 15 ?")


# Answer texts with the value of the program, by their quirk.
ANSWER_TEXTS: dict[str | None, list[tuple[Any, Answer | None]]] = {
    None: [
        ("127.40", 127.4), ("$ 1,637", 1637.0), (".2", 0.2), ("- 1.9", -1.9), ("1.16", 1.15663), ("yes", "yes"),
        ("22556579533.3", 22556579533.35), ("No ", "no"), (94, 94.0), ("0", 0.0), ("anything", None),
    ],
    "percent_answers_of_fractions": [("93.5%", 0.935), ("3044%", 30.44323), ("0%", 0.0)],
    "percent_answers_of_percentages": [("24.69%", 24.69136)],
    "percent_answers_without_sign": [("27.9", 0.27867)],
    "answer_texts_with_words": [
        ("$ 2458.3 million", 2458.3), ("sales grew 211% from 2006 to 2008", 2.11269), ("6.7%\\n", 0.06685)
    ],
    "answer_texts_rounded_otherwise": [("32.8%", 0.32885), ("1719526", 1714285.71429)],
    "answer_texts_of_other_sign": [("3.4%", -0.0339), ("11.3", -11.33333)],
    "answer_texts_of_other_scale": [("156250000", 156.25), ("19%", 0.01925)],
    "answer_texts_that_disagree": [
        ("25%", 0.19495), ("5", 0.0), ("no", "yes"), ("yes", 3.0), ("it fell by 7 in 2008", 5.0)
    ],
    "answer_texts_missing": [("", 5.0), (None, "yes"), (["5"], 5.0), (True, 1.0)],
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWER_TEXTS)
def test_each_kind_of_answer_text_has_its_name(name: str | None) -> None:
    for text, exe_ans in ANSWER_TEXTS[name]:
        assert compare_answer(text, exe_ans) == name, text


@pytest.mark.parametrize("text", ["9" * 500, "1" * 10_000_000, float("inf"), float("nan"), "٣٤", "-" * 5000, "7,,"])
def test_no_answer_text_is_too_odd(text: Any) -> None:
    assert compare_answer(text, 5.0) == "answer_texts_that_disagree"
