"""Reading programs and their numbers."""

from __future__ import annotations

import tracemalloc

import pytest

from finrank.programs import (
    ProgramError,
    equal,
    execute,
    operands,
    parse,
    parse_or_none,
    read_number,
    referenced_step,
    table_rows,
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("94", "expected operation"),
        ("add(1, 2", "expected operation"),
        ("add(1)", "expected operation"),
        ("add(1, 2, 3)", "expected operation"),
        ("add(1,2)", "expected operation"),
        ("divide(3", "expected operation"),
        ("add(1, 2), divide(3)", "expected operation"),
        ("add(1, 2), foo(3", "expected operation"),
        ("add(1, 2),divide(#0, 2)", "expected operation|no operation"),
        (" add(1, 2)", "no operation"),
        ("plus(1, 2)", "known: add"),
        ("plus\n\ud800" + "x" * 10_000 + "(1, 2)", r"step 0: no operation 'plus\\n\\ud800xxx"),
        ("add(subtract(1, 2), 3)", "expected operation"),
        ("add(1, ))", "argument"),
        ("add(f()", "argument"),
        ("add(1|2, 3)", "argument"),
        ("table_max(( in millions ), none)", "argument"),
        (None, "NoneType"),
    ],
)
def test_a_text_that_is_not_a_program_says_why(text: str, reason: str) -> None:
    with pytest.raises(ProgramError, match=reason):
        parse(text)
    assert parse_or_none(text) is None


@pytest.mark.parametrize("end", ["divide(3", "divide(#0, 3", "divide(", "divide", "table_max(net sales"])
def test_a_last_step_that_is_cut_off_is_left_out_as_officially(end: str) -> None:
    program = parse(f"add(1, 2), {end}")
    assert program == parse("add(1, 2)")
    assert str(program) == "add(1, 2)"
    assert program.cut_off
    assert equal("add(1, 2)", f"add(1, 2), {end}")
    assert equal(f"add(2, 1), {end}", "add(1, 2)")
    assert not parse("add(1, 2)").cut_off


def test_operands_leave_out_constants_references_and_labels() -> None:
    program = parse("table_sum(years ended may 31,, none), divide(#0, 5,735), multiply(12%, const_100)")
    assert operands(program) == ["5,735", "12%"]
    assert table_rows(program) == ["years ended may 31,"]


def test_a_reference_names_a_step_or_nothing() -> None:
    assert referenced_step("#12") == 12
    with pytest.raises(ProgramError, match="no reference"):
        referenced_step("#" + "9" * 100_000)


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        ("637; $ 1,637; 2014; const_m1", [637.0, 1637.0, 2014.0, -1.0]),
        ("-32 ( 32 ); $ -32 ( 32 ); ( 10 ); $ ( 10 )", [-32.0, -32.0, -10.0, -10.0]),
        ("22% ( 22 % ); -4.5% ( 4.5 % ); ( 10 ) %; ( 10 % )", [0.22, -0.045, -0.1, -0.1]),
        ("net sales; ; ( a ); nan; 1e999", [None] * 5),
    ],
)
def test_numbers_of_cells_and_programs(texts: str, values: list[float | None]) -> None:
    assert [read_number(text) for text in texts.split("; ")] == values


@pytest.mark.parametrize(
    "text", ["({blanks}x", "({blanks}1{blanks}", "({blanks}){blanks}%x", "{blanks}(((", "-1 ({blanks}"]
)
def test_numbers_with_many_blanks_take_no_longer(text: str) -> None:
    assert read_number(text.format(blanks=" " * 200_000)) in (None, -1.0)


def test_long_texts_are_not_kept_in_memory() -> None:
    tracemalloc.start()
    for digit in range(20):
        read_number(f"{digit}" * 1_000_000)
        execute(parse(f"table_max({digit}, none), add(#0, {'0' * 1_000_000}{digit})"), [[f"{digit}", "1" * 1_000_000]])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 5_000_000
