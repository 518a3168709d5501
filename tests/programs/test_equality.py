"""Whether two programs are the same calculation."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finrank.programs import OPERATIONS, Program, Step, equal, parse
from finrank.programs import equality as equality_module


@pytest.mark.parametrize(
    ("gold", "other", "same"),
    [
        ("add(1, 2)", "add(2, 1)", True),
        ("subtract(1, 2)", "subtract(2, 1)", False),
        ("add(1, 2)", "add(1.0, 2)", False),
        ("add(100, 2)", "add(const_100, 2)", False),
        ("divide(1, 2)", "add(1, 2), divide(1, 2)", True),
        ("add(1, 2), divide(1, 2)", "divide(1, 2)", True),
        ("subtract(5, 4), divide(#0, 4)", "divide(5, 4), subtract(#0, 4)", False),
        ("add(1, 2), add(#0, 3)", "add(3, 2), add(#0, 1)", True),
        ("divide(1, 2), multiply(#0, 3)", "multiply(1, 3), divide(#0, 2)", True),
        ("divide(1, 2)", "divide(1, 2), divide(#0, 1), multiply(#1, 1)", True),
        ("exp(1, 2), multiply(#0, 2)", "exp(1, 2), multiply(2, #0)", True),
        ("greater(1, 2)", "greater(1, 2)", True),
        ("greater(1, 2)", "greater(2, 1)", False),
        ("table_sum(a, none)", "table_sum(a, none)", True),
        ("table_sum(a, none)", "table_max(a, none)", False),
        ("table_sum(a, none), divide(#0, 2)", "divide(2, 2), table_sum(a, none), divide(#1, 2)", False),
        ("divide(1, 2)", "divide(#0, 2)", False),
        ("divide(1, 2)", "divide(1, 2), add(#1, 2)", False),
        ("divide(1, 2)", "divide(1, #x)", False),
        ("divide(1, 2)", "divide(1, 3)", False),
        ("add(1, 2)", "table_sum(a, none)", False),
        ("greater(1, 2), add(#0, 1)", "greater(1, 2), add(1, 2), add(#0, #1)", False),
    ],
)
def test_pairs(gold: str, other: str, same: bool) -> None:
    assert equal(gold, other) is same
    assert equal(parse(gold), parse(other)) is same


@pytest.mark.parametrize("nothing", [None, "", "94", "add(1, 2", Program(())])
def test_no_program_equals_nothing(nothing: str | Program | None) -> None:
    assert equal(nothing, "add(1, 2)") is False
    assert equal("add(1, 2)", nothing) is False
    assert equal(nothing, nothing) is False


def test_different_values_need_no_sympy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("sympy was asked")

    monkeypatch.setattr(equality_module._Expressions, "_simplified", refuse)
    assert not equal("subtract(5, 4), divide(#0, 4)", "subtract(5, 4), divide(#0, 5)")
    assert equal("add(1, 2), multiply(#0, 3)", "add(2, 1), multiply(3, #0)")


@pytest.mark.parametrize("operation", ["add", "multiply", "exp", "divide", "greater"])
def test_expressions_that_double_at_each_step_do_not_hang(operation: str) -> None:
    doubling = ", ".join([f"{operation}(1, 2)", *(f"{operation}(#{i}, #{i})" for i in range(10_000))])
    begin = time.perf_counter()
    assert equal(doubling, doubling)
    assert not equal(doubling, "add(1, 2), subtract(#0, #0)")
    assert time.perf_counter() - begin < 10


ARGUMENT = st.sampled_from(["1", "2", "3", "#0", "#1", "#2", "#-1", "#x", "none"])
PROGRAMS = st.lists(
    st.builds(Step, st.sampled_from(OPERATIONS), st.tuples(ARGUMENT, ARGUMENT)), min_size=1, max_size=3
).map(lambda steps: Program(tuple(steps)))


@given(PROGRAMS, PROGRAMS | st.text(max_size=20) | st.none())
def test_nothing_is_ever_raised(gold: Program, other: Program | str | None) -> None:
    assert equal(gold, other) in (True, False)
    assert equal(other, gold) in (True, False)


@pytest.mark.slow
def test_agrees_with_the_official_evaluator(finqa_dir: Path) -> None:
    gold = {example["id"]: example["qa"]["program"] for example in json.loads((finqa_dir / "dev.json").read_text())}
    cases = json.loads((finqa_dir / "evaluator_cases.json").read_text())
    assert {case["equals_gold"] for case in cases} == {True, False}
    differing = [
        (case["id"], gold[case["id"]], case["program"])
        for case in cases
        if equal(gold[case["id"]], case["program"]) is not case["equals_gold"]
    ]
    assert not differing
