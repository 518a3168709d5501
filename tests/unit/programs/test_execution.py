"""Values of programs, as the official evaluator computes them."""

from __future__ import annotations

import json
import math
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finrank.programs import Program, ProgramError, execute, parse
from finrank.sources.made_up import generate

TABLE = [
    ["( in millions )", "2008", "2007"],
    ["net sales", "$ 1,637", "-32 ( 32 )"],
    ["share", "22% ( 22 % )", "50%"],
    ["gaps", "5", "n/a"],
    ["twice", "1", "2"],
    ["twice", "3", "4"],
    ["nothing"],
]


def result(program: str, table: Any) -> str:
    """The value of a program as text, "invalid" where it has none."""
    try:
        return str(execute(parse(program), table))
    except ProgramError:
        return "invalid"


@pytest.mark.parametrize(
    ("program", "value"),
    [
        ("divide(637, const_5)", 127.4),
        ("subtract(5829, 5735), divide(#0, 5735)", 0.01639),
        ("add(1,234, const_m1)", 1233.0),
        ("multiply(200, 15%)", 30.0),
        ("exp(2, 10)", 1024.0),
        ("greater(3, 2)", "yes"),
        ("greater(2, 2)", "no"),
        ("table_sum(net sales, none)", 1605.0),
        ("table_average(share, none)", 0.36),
        ("table_max(twice, none)", 4.0),
        ("table_min(twice, anything)", 3.0),
        ("table_sum(nothing, none)", 0.0),
        ("exp(-8, 0.5), add(1, 2)", 3.0),  # complex, but unused
        ("greater(1, 2), greater(2, 1), add(#0, #1), greater(#2, #1)", "no"),  # "noyes" > "yes"
        ("table_max(twice, none), table_sum(#0, none)", 7.0),  # the row last read
        ("multiply(1e300, 1e300)", math.inf),
        ("divide(nan, 2)", math.nan),
    ],
)
def test_values(program: str, value: float | str) -> None:
    assert result(program, TABLE) == str(value)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("divide(1, 0)", "step 0: divide: .*division by zero"),
        ("add(const_pi, 1), divide(1, 2)", "step 0: no number"),
        ("add(1, 2), divide(#0, abc)", "step 1: no number: 'abc'"),
        ("add(1, $ 2)", "no number"),
        ("add(#0, 1)", "no earlier step"),
        ("add(1, 2), add(#-1, 1)", "no earlier step"),
        ("add(#x, 1)", "no reference"),
        ("exp(-8, 0.5)", "no real number"),
        ("exp(1e300, 2)", "exp"),
        ("greater(1, 2), add(#0, 1)", "add"),
        ("greater(1, 2), greater(2, 1), add(#0, #1)", "no real number"),
        ("table_sum(gaps, none)", "row 'gaps': no number in cell 'n/a'"),
        ("table_sum(profit, none)", "no row 'profit'"),
        ("table_average(nothing, none)", "division by zero"),
        ("table_max(nothing, none)", "table_max"),
        ("add(1, 2), table_max(#0, none)", "no row"),
    ],
)
def test_a_failing_program_says_where_and_why(program: str, reason: str) -> None:
    with pytest.raises(ProgramError, match=reason):
        execute(parse(program), TABLE)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ([["a", "1"], []], "row 1 of the table is empty"),
        ([[]], "row 0 of the table is empty"),
        ([["a", None]], "row 'a': a cell is text, not NoneType"),
        ([["a", "1", 5]], "row 'a': a cell is text, not int"),
        ([["a", "n/a"]], "row 'a': no number in cell 'n/a'"),
        (None, "step 0: table_sum: .*NoneType"),
        ([[["a"], "1"]], "step 0: table_sum: .*list"),
    ],
)
def test_a_malformed_table_says_why(table: Any, reason: str) -> None:
    with pytest.raises(ProgramError, match=reason):
        execute(parse("table_sum(a, none)"), table)
    with pytest.raises(ProgramError, match="no steps"):
        execute(Program(()), table)


@pytest.mark.parametrize(
    ("start", "step", "value"),
    [
        ("add(2, 3)", "multiply(#{0}, #{0})", "inf"),
        ("greater(1, 2)", "add(#{0}, #{0})", "invalid"),
        ("add(9, 9)", "exp(#{0}, #{0})", "invalid"),
    ],
)
def test_nothing_grows_with_doubling_steps(start: str, step: str, value: str) -> None:
    program = ", ".join([start, *(step.format(index) for index in range(10_000))])
    begin = time.perf_counter()
    assert result(program, []) == value
    assert time.perf_counter() - begin < 5


def test_agrees_with_the_official_evaluator(finqa_dir: Path) -> None:
    tables = {example["id"]: example["table"] for example in json.loads((finqa_dir / "dev.json").read_text())}
    cases = json.loads((finqa_dir / "evaluator_cases.json").read_text())
    expected = ["invalid" if case["invalid"] else str(case["result"]) for case in cases]
    assert [result(case["program"], tables[case["id"]]) for case in cases] == expected


def test_all_gold_programs_execute_to_their_answer(finqa_dir: Path) -> None:
    splits = [json.loads((finqa_dir / f"{split}.json").read_text()) for split in ("train", "dev")]
    examples = [(example["qa"], example["table"]) for split in splits for example in split]
    gold = [(qa, table) for qa, table in examples if qa.get("program")]
    assert len(gold) > 800
    assert not [qa["program"] for qa, table in gold if execute(parse(qa["program"]), table) != qa["exe_ans"]]


def test_speed_of_execution_with_and_without_parsing() -> None:
    """Floors several times below a slow core's speed, in programs per second of processor time."""
    examples = generate(train=150, dev=0, test=0)["train"] * 10
    texts = [(example["qa"]["program"], example["table"]) for example in examples]
    programs = [(parse(text), table) for text, table in texts]

    def per_second(work: Callable[[], object]) -> float:
        return len(texts) / min(timeit.repeat(work, timer=time.process_time, repeat=7, number=1))

    assert per_second(lambda: [execute(*pair) for pair in programs]) > 100_000
    assert per_second(lambda: [execute(parse(text), table) for text, table in texts]) > 30_000
