"""Which numbers of the page are marked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from finrank.evaluation.explain import rank_pool
from finrank.evaluation.report.marks import Part, mark_page
from tests.helpers.evaluated_pools import make_pool

TABLE = [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5,735.0"], ["costs", "-11 ( 11 )", "12"], ["tax", "1", "2"]]
TEXT = ["revenue rose to 5829 in 2009 .", "costs were 11 .", "nothing ."]


def test_numbers_of_either_program_are_marked_by_whose_they_are() -> None:
    found = mark_page(TABLE, TEXT, "subtract(5829, 5735)", "subtract(5829, 11)")
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
    found = mark_page(TABLE, TEXT, "table_average(tax, none)", None)
    assert found.rows == [[[Part("tax", "right")], [Part("1", "right")], [Part("2", "right")]]]
    assert found.sentences == []


def test_of_rows_with_one_label_the_last_is_marked() -> None:
    found = mark_page([["", "2009"], ["tax", "1"], ["costs", "7"], ["tax", "2"]], [], "table_max(tax, none)", None)
    assert found.rows == [[[Part("tax", "right")], [Part("2", "right")]]]


@pytest.mark.parametrize("program", [None, "no program", "divide(const_2, const_1)", "add(7777, 8888)"])
def test_a_program_without_numbers_of_the_page_marks_nothing(program: str | None) -> None:
    found = mark_page(TABLE, TEXT, program, program)
    assert (found.rows, found.other_rows, found.sentences) == ([], 3, [])


def test_a_page_without_table_or_with_an_empty_row() -> None:
    assert mark_page([], TEXT[:1], "add(5829, 1)", None).header == []
    assert mark_page([["a"], []], [], "add(5829, 1)", None).other_rows == 1


def test_the_right_program_is_gold_or_else_the_first_with_full_reward() -> None:
    pool = make_pool([1.0, 2.0], [1], programs=["add(1, 0)", "add(2, 0)"], program="add(0, 2)")
    ranked = rank_pool(pool, np.array([1.0, 0.0]))
    assert (ranked.right_program, ranked.pick.program) == ("add(0, 2)", "add(1, 0)")
    assert replace(ranked, program=None).right_program == "add(2, 0)"
    assert rank_pool(make_pool([1.0], []), np.array([1.0])).right_program is None
