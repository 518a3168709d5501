"""Candidates that no ranking may fail for: without a value, and longer than any model."""

from __future__ import annotations

from typing import Any

from finrank.programs.value import value_of
from finrank.records import Candidate

LOOPED = ", ".join(["add(1, 2)", *(f"add(#{step}, 3)" for step in range(120))])
"""A program that a model wrote until its tokens ran out; it has a value."""
VALUELESS = [
    Candidate(program="divide(1, 0)", error="step 0: divide: float division by zero", origin="imported"),
    Candidate(program="I cannot answer this .", error="no program", origin="sampled", model="shy"),
    Candidate(origin="imported", model="silent"),
    Candidate(error="expected a program, got null", origin="imported"),
]
TOO_LONG = Candidate(program=LOOPED, answer=value_of(LOOPED, []).answer, origin="imported", model="looping")
AWFUL: list[Any] = [
    None, [True], float("nan"), float("inf"), "", " \n", "what ?", "divide(1, 0)", "add(1,", LOOPED, "x" * 30_000,
    "\ud800", [], [1, 2], {}, {"error": "timeout"}, {"program": None, "answer": None}, {"answer": [1]},
    {"program": "add(1, ?)"}, {"program": [5], "model": 7}, {"answer": 10**400}, {"answer": "1,2"}, {"x": {"y": []}},
]  # fmt: skip
"""What people's files hold in place of a candidate: none has a value, or fits a model of 384 tokens."""
