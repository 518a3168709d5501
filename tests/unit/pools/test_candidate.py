"""Candidates in any form: each case of the table of readings, and what a candidate keeps beside its value."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from finrank.pools.candidate import read_candidate
from finrank.records import Candidate, Pool
from finrank.store.json_lines import encode
from tests.helpers.readings import DIFFERENCE, READINGS, TABLE, Reading, name_of


@pytest.mark.parametrize("case", READINGS, ids=name_of)
def test_a_candidate_is_read_as_the_table_says(case: Reading) -> None:
    made = read_candidate(case.given, TABLE)
    assert made.answer == case.answer
    if case.kind == "refused":
        assert case.error is not None
        assert case.error in str(made.error)
    elif case.program is not None:
        assert made.program == case.program
        assert made.stated is None
        assert case.error in (None, str(made.error)[: len(case.error or "")])
    pool = Pool(id="a", page="p", question="q", table=[], text=[], candidates=[made])
    assert Pool.model_validate_json(encode(pool)) == pool


@pytest.mark.parametrize("number", [np.int64(94), np.float32(94), np.float64(94), Decimal("94"), Fraction(94)])
def test_numbers_of_other_types_are_numbers(number: Any) -> None:
    assert read_candidate(number, TABLE).answer == read_candidate({"answer": number}, TABLE).answer == 94.0


def test_the_value_is_the_programs_never_the_one_that_is_stated_beside_it() -> None:
    assert read_candidate({"program": DIFFERENCE, "answer": 95}, TABLE).answer == 94.0
    assert read_candidate({"answer": 95, "program": "greater(2, 1)"}, TABLE).answer == "yes"


def test_an_answer_beside_a_program_without_a_value_counts_and_keeps_the_fault() -> None:
    made = read_candidate({"program": "divide(1, 0)", "answer": "about 94"}, TABLE)
    assert made == Candidate(
        program="divide(1, 0)", answer=94.0, stated="about 94", origin="imported",
        error="step 0: divide: float division by zero",
    )  # fmt: skip
    unreadable = read_candidate({"program": "so it is unclear", "answer": 94}, TABLE)
    assert (unreadable.program, unreadable.answer, unreadable.stated) == ("so it is unclear", 94.0, "94.0")


@pytest.mark.parametrize(
    ("fields", "stated"),
    [
        ({"answer": 0.2496, "text": "The share is 24.96 %."}, "24.96 %"),
        ({"answer": 24.96, "text": "The share is 24.96 %."}, "24.96 %"),
        ({"answer": 0.3, "text": "The share is 24.96 %."}, None),
        ({"answer": 0.3, "text": "I cannot say."}, None),
        ({"answer": 0.2496, "stated": "24.96 %"}, "24.96 %"),
    ],
)
def test_a_numbers_text_says_how_precise_it_is(fields: dict[str, Any], stated: str | None) -> None:
    assert read_candidate(fields, TABLE).stated == stated


def test_system_and_origin_are_kept_where_they_can_be_stored() -> None:
    made = read_candidate({"program": DIFFERENCE, "model": " my-llm ", "origin": "sampled"}, TABLE)
    assert (made.model, made.origin) == ("my-llm", "sampled")
    other = read_candidate({"answer": 1, "model": 7, "origin": "elsewhere"}, TABLE, "proposed")
    assert (other.model, other.origin) == (None, "proposed")
    assert read_candidate({"answer": 1, "model": "\ud800"}, TABLE).model is None
    long = read_candidate({"answer": 1, "model": "m" * 1000}, TABLE).model
    assert long is not None
    assert len(long) < 250


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (math.nan, "nan is no finite number"),
        (-math.inf, "no finite number"),
        (10**400, "the number is too large"),
        ("9" * 5000, "no program, number"),
        ("add(" + "9" * 20_000 + ", 1)", "a program of 20008 characters"),
        ("add(1, \ud800)", "half a surrogate pair"),
        ('{"answer": "add(1, \\ud800)"}', "half a surrogate pair"),  # by an escape: it is there once JSON is read
        (["add(", "1", "\ud800", ")"], "half a surrogate pair"),
        (["add(", "1" * 30_000, "2", ")"], "a program of 30008 characters"),
        ({"program": "\ud800", "answer": "\ud800"}, "half a surrogate pair"),
        ({"program": ["add(", 1]}, "expected a program, a number or a text"),
        ({1: 2}, "no program and no answer"),
        (b"add(1, 2)", "expected a program, a number or a text"),
        (object(), "a value of type object"),
    ],
)
def test_what_no_table_holds_has_a_reason_that_can_be_stored(given: Any, reason: str) -> None:
    made = read_candidate(given, TABLE)
    assert made.answer is None
    assert reason in str(made.error)
    assert len(str(made.error)) < 300
    encode(Pool(id="a", page="p", question="q", table=[], text=[], candidates=[made]))


def test_values_nested_without_end_have_a_reason() -> None:
    given: list[Any] = []
    for _ in range(100_000):
        given = [given]
    assert "deeply nested" in str(read_candidate(given, TABLE).error)


@pytest.mark.parametrize(
    ("given", "kept"),
    [(-0.5, -0.5), (-3, -3.0), (None, None), ("-0.5", None), (True, None), (math.nan, None), (-(10**400), None)],
)
def test_the_log_probability_of_its_system_is_kept_where_it_is_a_number(given: Any, kept: float | None) -> None:
    read = read_candidate({"program": "add(1, 2)", "log_probability": given}, [])
    assert (read.answer, read.log_probability) == (3.0, kept)
