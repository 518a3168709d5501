"""Which numbers of the page are marked."""

from __future__ import annotations

import pytest

from finrank.evaluation.report.marks import Part, mark_evidence, right_and_picked
from tests.helpers.example_result import ranking

TABLE = [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5,735.0"], ["costs", "-11 ( 11 )", "12"], ["tax", "1", "2"]]
TEXT = ["revenue rose to 5829 in 2009 .", "costs were 11 .", "nothing ."]


def test_numbers_of_either_program_are_marked_by_whose_they_are() -> None:
    found = mark_evidence(TABLE, TEXT, "subtract(5829, 5735)", "subtract(5829, 11)")
    assert found.header == ["", "2009", "2008"]
    assert found.rows == [
        [[Part("revenue")], [Part("$ 5829", "both")], [Part("$ 5,735.0", "right")]],
        [[Part("costs")], [Part("-11 ( 11 )", "picked")], [Part("12")]],
    ]
    assert found.other_rows == 1
    assert found.sentences == [
        [Part("revenue rose to "), Part("5829", "both"), Part(" in 2009 .")],
        [Part("costs were "), Part("11", "picked"), Part(" .")],
    ]


def test_a_row_that_is_read_whole_is_marked_whole() -> None:
    found = mark_evidence(TABLE, TEXT, "table_average(tax, none)", None)
    assert found.rows == [[[Part("tax", "right")], [Part("1", "right")], [Part("2", "right")]]]
    assert found.sentences == []


@pytest.mark.parametrize("program", [None, "no program", "divide(const_2, const_1)", "add(7777, 8888)"])
def test_a_program_without_numbers_of_the_page_marks_nothing(program: str | None) -> None:
    found = mark_evidence(TABLE, TEXT, program, program)
    assert (found.rows, found.other_rows, found.sentences) == ([], 3, [])


def test_a_page_without_table_or_with_an_empty_row() -> None:
    assert mark_evidence([], TEXT[:1], "add(5829, 1)", None).header == []
    assert mark_evidence([["a"], []], [], "add(5829, 1)", None).other_rows == 1


def test_the_right_program_is_gold_or_else_the_first_with_full_reward() -> None:
    item = ranking()
    assert right_and_picked(item) == ("subtract(5829, 5735)", "subtract(5829, 11)")
    assert right_and_picked({**item, "program": None})[0] == "subtract(5829, 5735)"
    item["candidates"][0]["reward"] = 0.5
    assert right_and_picked({**item, "program": None})[0] is None
