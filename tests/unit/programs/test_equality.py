"""Equality of programs as calculations."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from finrank.programs import Program, equal, parse
from finrank.programs import equality as equality_module


@pytest.mark.parametrize(
    ("gold", "other", "same"),
    [
        ("add(1, 2)", "add(2, 1)", True),
        ("add(1, 2)", "add(1.0, 2)", False),
        ("add(100, 2)", "add(const_100, 2)", False),
        ("divide(1, 2)", "add(1, 2), divide(1, 2)", True),
        ("add(1, 2), divide(1, 2)", "divide(1, 2)", True),
        ("subtract(5, 4), divide(#0, 4)", "divide(5, 4), subtract(#0, 4)", False),
        ("add(1, 2), add(#0, 3)", "add(3, 2), add(#0, 1)", True),
        ("divide(1, 2), multiply(#0, 3)", "multiply(1, 3), divide(#0, 2)", True),
        ("divide(1, 2)", "divide(1, 2), divide(#0, 1), multiply(#1, 1)", True),
        ("add(2, 3), exp(1, #0)", "exp(1, 2), exp(1, 3), multiply(#0, #1)", True),
        ("table_sum(a, none)", "table_max(a, none)", False),
        ("table_sum(a, none), divide(#0, 2)", "divide(2, 2), table_sum(a, none), divide(#1, 2)", False),
        ("divide(1, 2)", "divide(#0, 2)", False),
        ("divide(1, 2)", "divide(1, 2), add(#1, 2)", False),
        ("add(#0, 1)", "add(#0, 1)", False),  # not even to itself
        ("add(1, 2), add(#2, 1)", "add(1, 2), add(#2, 1)", False),
        ("add(1, 2), add(#x, 1)", "add(1, 2), add(#x, 1)", False),
        ("multiply(1, 3), divide(#0, 3)", "multiply(1, 1), divide(#0, 1)", True),
        ("multiply(1, 1), divide(#0, 1)", "multiply(1, 3), divide(#0, 3)", False),  # a number that gold lacks
        ("add(3, 4), divide(1, 2)", "divide(1, 2)", True),
        ("divide(1, 2)", "add(3, 4), divide(1, 2)", False),
        ("divide(1, 2)", "divide(1, #x)", False),
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


class SympyAsked(BaseException):
    """Not an Exception: `equal` would take that for sympy refusing an expression."""


def refuse(*_: object) -> None:
    raise SympyAsked


@pytest.mark.parametrize("operation", ["add", "multiply", "exp", "divide", "greater"])
def test_expressions_that_double_at_each_step_do_not_hang(operation: str) -> None:
    doubling = ", ".join([f"{operation}(1, 2)", *(f"{operation}(#{i}, #{i})" for i in range(10_000))])
    begin = time.perf_counter()
    assert equal(doubling, doubling)
    assert not equal(doubling, "add(1, 2), subtract(#0, #0)")
    assert time.perf_counter() - begin < 10


def chain(first: str, step: str, count: int) -> str:
    """A first step and `count` more, each on the one before: {0} is its number."""
    return ", ".join([first, *(step.format(number) for number in range(count))])


@pytest.mark.parametrize(
    ("gold", "other", "same"),
    [
        ("subtract(5, 4), divide(#0, 4)", "subtract(5, 4), divide(#0, 5)", False),
        ("add(1, 2), multiply(#0, 3)", "add(2, 1), multiply(3, #0)", True),
        # 2 ** 2 ** 2 ** 65536, with 2 as (1 + 1) / 1 and as 1 / 1 + 1 / 1
        (
            "add(1, 1), divide(#0, 1), exp(#1, #1), exp(#1, #2), exp(#1, #3), exp(#1, #4), exp(#1, #5)",
            "divide(1, 1), add(#0, #0), exp(#1, #1), exp(#1, #2), exp(#1, #3), exp(#1, #4), exp(#1, #5)",
            True,
        ),
        # (1 + 2 + 3) ** 3 ** 3 ** 3, the second with another 3 at the bottom
        (
            "add(1, 1), add(#0, 1), divide(#1, 1), exp(#2, #2), exp(#2, #3), add(1, 2), add(#5, 3), exp(#6, #4)",
            "add(1, 1), add(#0, 1), divide(#1, 1), exp(#2, #2), exp(#2, #3), add(1, 3), add(#5, 3), exp(#6, #4)",
            False,
        ),
        # x squared 10,000 times, the first two squarings written as products with x
        (
            chain("add(1, 2)", "multiply(#{0}, #{0})", 10_000),
            "add(1, 2), multiply(#0, #0), multiply(#1, #0), multiply(#2, #0), "
            + ", ".join(f"multiply(#{number}, #{number})" for number in range(3, 10_001)),
            True,
        ),
        (chain("add(1, 2)", "divide(#{0}, 2)", 9_999), chain("divide(1, 2)", "divide(#{0}, 2)", 9_998), False),
        (chain("divide(1, 2)", "add(#{0}, 3)", 9_999), chain("add(3, 3)", "add(#{0}, 3)", 9_997), False),
        (chain("subtract(1, 1)", "divide(2, #{0})", 10_000), chain("subtract(2, 2)", "divide(1, #{0})", 10_000), False),
        (chain("add(1, 2)", "exp(#{0}, 2)", 10_000), chain("add(2, 1)", "exp(#{0}, 2)", 10_000), True),
        ("add(1, #" + "9" * 4_000 + ")", "add(1, #" + "9" * 4_000 + ")", False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_clear_and_large_pairs_are_decided_without_sympy(
    gold: str, other: str, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equality_module._Expressions, "_simplified", refuse)
    assert equal(gold, other) is same


def test_exp_and_greater_of_equal_arguments_are_equal_however_large() -> None:
    total = "add(1, 2), add(#0, 3), add(#1, 4), add(#2, 5), add(#3, 6), add(#4, 7), add(#5, 8), add(#6, 9)"
    again = "add(9, 8), add(#0, 7), add(#1, 6), add(#2, 5), add(#3, 4), add(#4, 3), add(#5, 2), add(#6, 1)"
    for operation in ("exp", "greater"):
        gold = f"{total}, multiply(1, 2), multiply(#8, 3), multiply(#9, 4), {operation}(#7, #10)"
        same = f"{again}, multiply(4, 3), multiply(#8, 2), multiply(#9, 1), {operation}(#7, #10)"
        assert equal(gold, same)
        assert not equal(gold, same.replace("(#7, #10)", "(#10, #7)"))
        assert not equal(gold, same.replace(f"{operation}(", "divide("))


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
