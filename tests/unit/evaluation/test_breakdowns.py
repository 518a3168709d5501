"""Each table by hand, on questions made for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from finrank.evaluation.baselines import chance
from finrank.evaluation.breakdowns import break_down, context_words, fooled_by
from finrank.evaluation.metrics import pool_metrics
from finrank.records import RewardedPool

MakePool = Callable[..., RewardedPool]

TABLE = [["", "2008"], ["revenue", "$ 637"], ["costs", "210"]]
TEXT = ["we paid 55 in tax .", "revenue of 637 rose ."]


def tables(pools: list[RewardedPool], scores: Sequence[Sequence[float]]) -> dict[str, list[dict[str, Any]]]:
    arrays = [np.array(own) for own in scores]
    return break_down(pools, arrays, pool_metrics(pools, arrays)["accuracy"], chance(pools)["accuracy"], seed=0)


def rows(table: list[dict[str, Any]]) -> list[tuple[str, int, float, float]]:
    return [(row["name"], row["n"], row["accuracy"], row["chance"]) for row in table]


@pytest.fixture
def four(make_pool: MakePool) -> list[RewardedPool]:
    """Four questions, the first two answered right by the scores [1, 0]."""
    programs = [
        "subtract(637, 210)",
        "subtract(637, 55), divide(#0, 55)",
        "add(55, const_1), add(#0, 1), add(#1, 2), divide(#2, const_4), add(#3, 1)",
        "table_max(revenue, none)",
    ]
    return [
        make_pool([1.0, 2.0], [int(number > 1)], program=program, table=TABLE, text=TEXT)
        for number, program in enumerate(programs)
    ]


def test_steps_and_operations(four: list[RewardedPool]) -> None:
    found = tables(four, [[1.0, 0.0]] * 4)
    assert rows(found["steps"]) == [("1", 2, 0.5, 0.5), ("2", 1, 1.0, 0.5), ("4 or more", 1, 0.0, 0.5)]
    assert rows(found["operation"]) == [
        ("add", 1, 0.0, 0.5), ("subtract", 2, 1.0, 0.5), ("divide", 2, 0.5, 0.5), ("table_max", 1, 0.0, 0.5)
    ]  # fmt: skip


def test_origin_of_the_needed_numbers(four: list[RewardedPool], make_pool: MakePool) -> None:
    nowhere = make_pool([1.0, 2.0], program="add(9, const_2)", table=TABLE, text=TEXT)
    found = tables([*four, nowhere], [[1.0, 0.0]] * 5)
    assert rows(found["origin"]) == [
        ("table", 2, 0.5, 0.5),  # 637 and 210, though 637 is in a sentence too; the row of table_max
        ("text", 1, 0.0, 0.5),  # 55
        ("both", 1, 1.0, 0.5),
        ("nowhere", 1, 1.0, 0.5),
    ]


def test_questions_without_a_program_are_in_none_of_these(make_pool: MakePool) -> None:
    found = tables([make_pool([1.0, 2.0]), make_pool([1.0, 2.0], program="no program")], [[1.0, 0.0]] * 2)
    assert found["steps"] == found["operation"] == found["origin"] == found["candidates"] == []
    assert rows(found["context_length"]) == [("1 words", 2, 1.0, 0.5)]


def test_length_of_the_page_in_quarters(make_pool: MakePool) -> None:
    pools = [make_pool([1.0, 2.0], [0], text=["word " * length]) for length in (10, 20, 30, 40, 50, 60, 70, 80)]
    assert [context_words(pool) for pool in pools[:2]] == [11, 21]  # the table has one word, 2008
    found = tables(pools, [[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 2)
    assert rows(found["context_length"]) == [
        ("11 to 21 words", 2, 1.0, 0.5), ("31 to 41 words", 2, 1.0, 0.5),
        ("51 to 61 words", 2, 1.0, 0.5), ("71 to 81 words", 2, 0.0, 0.5),
    ]  # fmt: skip


def test_size_of_the_pool_where_sizes_differ(make_pool: MakePool) -> None:
    pools = [make_pool([1.0] * size, [0]) for size in (2, 4, 4)]
    found = tables(pools, [[1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0] * 4])
    assert rows(found["candidates"]) == [("2", 1, 1.0, 0.5), ("4", 2, 0.625, 0.25)]
    many = [make_pool([1.0] * size, [0]) for size in range(2, 14)]
    assert [row["name"] for row in tables(many, [np.zeros(size) for size in range(2, 14)])["candidates"]] == [
        "2 to 4 candidates", "5 to 7 candidates", "8 to 10 candidates", "11 to 13 candidates"
    ]  # fmt: skip


def test_a_row_has_an_interval_from_ten_pages_on(make_pool: MakePool) -> None:
    pools = [
        make_pool([1.0, 2.0], [number % 2], page=f"page {number}", program=f"add(1, 2){', add(#0, 1)' * (number > 9)}")
        for number in range(19)
    ]
    one_step, two_steps = tables(pools, [[1.0, 0.0]] * 19)["steps"]
    low, high = one_step["interval"]
    assert low < one_step["accuracy"] < high
    assert two_steps["interval"] is None


def test_the_corruptions_that_were_picked(make_pool: MakePool) -> None:
    pools = [
        make_pool([1.0, 2.0, 3.0], [0], edits=[[], ["sign"], ["sign", "row", "row"]]),
        make_pool([1.0, 2.0, 3.0], [0], edits=[[], ["row"], []]),
    ]
    found = fooled_by(pools, [np.array([0.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0])])
    assert found == [
        {"name": "corrupted", "picked": 0.5, "offered": 1, "share": 0.5, "chance": 0.333333},
        {"name": "sign", "picked": 1.0, "offered": 2, "share": 0.5, "chance": 0.333333},
        {"name": "row", "picked": 0.5, "offered": 2, "share": 0.25, "chance": 0.333333},
    ]
