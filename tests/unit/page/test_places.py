"""The places of a program's numbers on a page."""

from __future__ import annotations

import pytest

from finrank.page.places import PagePlaces, Places
from finrank.programs.value import value_of

PAGE = PagePlaces(
    [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5,735.0"], ["costs", "-11 ( 11 )"], [], ["7", "7"]],
    ["revenue rose to 5829 in 2009 .", "costs were 11 , then 5735 ."],
)


def test_of_rows_with_one_label_the_last_is_read_whole_as_the_program_reads_it() -> None:
    table = [["total", "1"], ["total", "2", "3"], ["costs", "9"], ["total", "4", "5"]]
    program = "table_sum(total, none)"
    assert value_of(program, table).answer == 9.0
    assert PagePlaces(table, []).of(program) == Places([(3, 0), (3, 1), (3, 2)], [])
    assert PagePlaces(table, []).of("add(2, 4)") == Places([(1, 1), (3, 1)], [])


@pytest.mark.parametrize(
    ("program", "cells", "sentences"),
    [
        ("subtract(5829, 5735), divide(#0, 5735)", [(1, 1), (1, 2)], [0, 1]),
        ("add(11, const_2)", [(2, 1)], [1]),
        ("table_sum(costs, none)", [(2, 0), (2, 1)], []),
        ("table_sum(costs, none), add(#0, 11)", [(2, 0), (2, 1)], [1]),
        ("add(7, 7)", [(4, 1)], []),  # the first column holds labels
        ("add(2009, 1)", [], [0]),  # the header is named by its columns, not marked
        ("no program", [], []),
        (None, [], []),
    ],
)
def test_places(program: str | None, cells: list[tuple[int, int]], sentences: list[int]) -> None:
    assert PAGE.of(program) == Places(cells, sentences)
    assert PagePlaces([], []).of(program) == Places([], [])
