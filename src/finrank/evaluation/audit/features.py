"""Binary features of a candidate's own program and value, by name, for the linear attacker.

Neither page nor question nor siblings are looked at. Numbers go into buckets, so that every feature is there or not:

>>> from finrank.records import Candidate
>>> names = features_of(Candidate(program="subtract(12, 10), divide(#0, 10)", answer=0.2, origin="gold"))
>>> [name for name in names if name.startswith(("value sign", "shape:", "order: 0"))]
['value sign: +', 'shape: subtract(a, b), divide(#0, b)', 'order: 0 subtract larger first']
"""

from __future__ import annotations

import math
import sys

from finrank.page.page import is_year
from finrank.programs import ARITHMETIC_OPERATIONS as ARITHMETIC
from finrank.programs import Program, is_constant, is_operand, is_reference, operands, parse_or_none, read_number
from finrank.programs.shape import shape_of
from finrank.records import Answer, Candidate

_LARGEST_MAGNITUDE = 9  # powers of ten beyond 10^9 and below 10^-9 share a bucket
_CHARACTERS_PER_BUCKET = 8


def features_of(candidate: Candidate) -> list[str]:
    """Names of the features of a candidate, each once, in a fixed order."""
    names = _value_features(candidate.answer)
    program = parse_or_none(candidate.program)
    if program is None:
        names.append("program: none")
    else:
        names += _form_features(program, candidate.program or "") + _operand_features(program)
        names += _pair_features(program) + _joint_features(program, candidate.answer)
    # Interned: the same few thousand names recur in every pool.
    return [sys.intern(name) for name in dict.fromkeys(names)]


def decimals(text: str) -> int:
    """Digits behind the decimal point: 2 for "1,637.50%"."""
    return len(text.rstrip("%").partition(".")[2])


def written(value: float) -> str:
    """A value in plain digits, at the 5 decimals of the official evaluator: "0.2", "1500000"."""
    return f"{value:.5f}".rstrip("0").rstrip(".")


def _magnitude(value: float) -> int | str:
    return "zero" if value == 0 else _within(_LARGEST_MAGNITUDE, math.floor(math.log10(abs(value))))


def _within(bound: int, number: int) -> int:
    return max(-bound, min(bound, number))


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdecimal()).lstrip("0")


def _trailing_zeros(text: str) -> int:
    whole = text.replace(",", "").rstrip("%")
    return 0 if "." in whole else len(whole) - len(whole.rstrip("0"))


def _value_features(answer: Answer | None) -> list[str]:
    if answer is None or isinstance(answer, str):
        return [f"value: {answer}"]
    text, size = written(answer), abs(answer)
    names = [
        f"value sign: {'+' if answer > 0 else '-' if answer < 0 else '0'}",
        f"value magnitude: {_magnitude(answer)}",
        f"value decimals: {decimals(text)}",
        f"value leading digit: {_digits(text)[:1]}",
        f"value trailing zeros: {min(_trailing_zeros(text), 4)}",
        f"value digits: {len(_digits(text))}",
    ]
    tests = {
        "below 1": size < 1,
        "between 0 and 1": 0 < answer < 1,
        "below -1": answer < -1,
        "above 1e6": size > 1e6,
        "close to 1": abs(answer - 1) < 0.1,
        "close to 0": size < 0.01,
        "like a share of 100": 1 < size < 100 and decimals(text) > 0,
        "like a year": is_year(text),
    }
    return names + [f"value {name}" for name, holds in tests.items() if holds]


def _form_features(program: Program, text: str) -> list[str]:
    operations = [step.operation for step in program.steps]
    arguments = [argument for step in program.steps for argument in step.arguments]
    names = [f"shape: {shape_of(program)}", f"steps: {len(program.steps)}"]
    names += [f"operation: {name}" for name in operations]
    names += [f"operations: {' '.join(pair)}" for pair in zip(["^", *operations], [*operations, "$"], strict=True)]
    names += [f"constant: {argument}" for argument in arguments if is_constant(argument)]
    unused = {f"#{index}" for index in range(len(program.steps) - 1)} - set(arguments)
    names += ["unused step"] if unused else []
    names += ["text written unusually"] if text != str(program) else []
    names.append(f"references: {min(sum(map(is_reference, arguments)), 4)}")
    names.append(f"characters: {len(text) // _CHARACTERS_PER_BUCKET}")
    for step in program.steps:
        kinds = ["row" if step.operation not in ARITHMETIC else _kind(one) for one in step.arguments]
        names.append(f"arguments: {step.operation} {' '.join(kinds)}")
    return names


def _kind(argument: str) -> str:
    if is_reference(argument) or is_constant(argument):
        return argument
    if is_year(argument):
        return "year"
    return "percent" if argument.endswith("%") else "number"


def _operand_features(program: Program) -> list[str]:
    numbers = operands(program)
    names = [
        f"operands: {min(len(numbers), 7)}",
        f"repeated operands: {len(numbers) - len(set(numbers))}",
        f"years: {sum(map(is_year, numbers))}",
        f"percent marks: {sum(text.endswith('%') for text in numbers)}",
        f"negative operands: {sum(text.startswith('-') for text in numbers)}",
    ]
    for text in numbers:
        value, digits = read_number(text), _digits(text)
        names += [
            f"operand magnitude: {'none' if value is None else _magnitude(value)}",
            f"operand digits: {len(digits)}",
            f"operand significant digits: {len(digits.rstrip('0'))}",
            f"operand decimals: {decimals(text)}",
            f"operand trailing zeros: {min(_trailing_zeros(text), 4)}",
            f"operand leading digit: {digits[:1]}",
            f"operand last digit: {digits[-1:]}",
            "operand with a comma" if "," in text else "operand without a comma",
        ]
        if value is not None and value == round(value) and abs(value) <= 31:
            names.append("operand small and whole")
    return names


def _pair_features(program: Program) -> list[str]:
    names = []
    for index, step in enumerate(program.steps):
        if step.operation in ARITHMETIC and all(map(is_operand, step.arguments)):
            names += _pair(f"{index} {step.operation}", *step.arguments)
            names += _pair(step.operation, *step.arguments)
    distinct = list(dict.fromkeys(operands(program)))
    if len(distinct) > 2:
        sizes = [value for text in distinct if (value := read_number(text)) is not None]
        names += ["all operands falling"] if sizes == sorted(sizes, reverse=True) else []
        names += ["all operands rising"] if sizes == sorted(sizes) else []
        names.append(f"kinds of operands: {len({_kind(text) for text in distinct})}")
        names.append(f"decimals of operands differ: {len({decimals(text) for text in distinct}) > 1}")
    return names


def _pair(where: str, first: str, second: str) -> list[str]:
    left, right = read_number(first), read_number(second)
    if left is None or right is None:
        return [f"order: {where} unreadable"]
    order = "equal" if left == right else "larger first" if left > right else "smaller first"
    names = [
        f"order: {where} {order}",
        f"size ratio: {where} {_ratio(left, right)}",
        f"kinds: {where} {_kind(first)} {_kind(second)}",
        f"decimals: {where} {decimals(first) - decimals(second)}",
        f"digits: {where} {_within(3, len(_digits(first)) - len(_digits(second)))}",
    ]
    if is_year(first) and is_year(second):
        names.append(f"years: {where} {order}")
    return names


def _ratio(left: float, right: float) -> int | str:
    """The bucket of |left / right|: two per factor of ten away from 1, finer around it."""
    if left == 0 or right == 0:
        return "zero"
    log = math.log10(abs(left)) - math.log10(abs(right))
    close = round(log * 10)
    return f"about {close}" if abs(close) <= 3 else _within(10, round(log * 2))


def _joint_features(program: Program, answer: Answer | None) -> list[str]:
    shape, last = shape_of(program), program.steps[-1].operation
    if answer is None or isinstance(answer, str):
        return [f"joint: {last} {answer}"]
    bucket = f"{'-' if answer < 0 else '+'}{_magnitude(answer)}"
    numbers = operands(program)
    names = [
        f"joint: {last} {bucket}",
        f"joint: {shape} {bucket}",
        f"joint: {last} near 1: {abs(answer - 1) < 0.1}",
        f"joint: {shape} years {sum(map(is_year, numbers))}",
        f"joint: {shape} percent {sum(text.endswith('%') for text in numbers)}",
    ]
    pair = [read_number(text) for text in dict.fromkeys(numbers)][:2]
    if len(pair) == 2 and pair[0] is not None and pair[1] is not None:
        names.append(f"joint: {shape} {'larger' if pair[0] > pair[1] else 'smaller'} first")
        names.append(f"joint: {shape} ratio {_ratio(pair[0], pair[1])}")
    return names
