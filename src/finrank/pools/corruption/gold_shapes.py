"""How common each shape is among gold programs, so that corrupted programs look no different.

The shape of subtract(5829, 5735), divide(#0, 5735) is "subtract(a, b), divide(#0, b)" (`programs/shape.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from finrank.programs import Program
from finrank.programs.shape import shape_of


def count_shapes(programs: Iterable[Program]) -> dict[str, float]:
    """How often each shape occurs among gold programs; those seen once are left out, as too rare to repeat."""
    counts = Counter(map(shape_of, programs))
    return {shape: float(count) for shape, count in sorted(counts.items()) if count > 1}


# The counts among 3,402 gold programs of FinQA's train split; shapes seen fewer than 4 times are left out.
FINQA_SHAPES = {
    "subtract(a, b), divide(#0, b)": 1057,
    "divide(a, b)": 769,
    "subtract(a, b)": 293,
    "add(a, b), add(#0, c)": 87,
    "add(a, b)": 82,
    "subtract(a, const_100), divide(#0, const_100)": 59,
    "add(a, b), divide(#0, const_2)": 58,
    "multiply(a, b)": 57,
    "add(a, b), add(#0, c), divide(#1, const_3)": 55,
    "greater(a, b)": 44,
    "subtract(a, b), divide(#0, a)": 39,
    "divide(a, b), subtract(#0, const_1)": 39,
    "multiply(a, const_1000), divide(#0, b)": 38,
    "multiply(a, b), divide(#0, const_1000000)": 34,
    "add(a, b), divide(#0, c)": 32,
    "add(a, b), add(#0, c), add(#1, d)": 30,
    "add(a, b), divide(a, #0)": 25,
    "subtract(a, b), divide(c, #0)": 23,
    "subtract(a, const_100), divide(#0, const_100), "
    "subtract(b, const_100), divide(#2, const_100), subtract(#1, #3)": 22,
    "add(a, b), divide(b, #0)": 18,
    "divide(a, b), multiply(#0, const_100)": 18,
    "multiply(a, const_1000000), divide(#0, b)": 15,
    "add(a, b), add(c, #0)": 13,
    "subtract(a, b), divide(#0, b), multiply(#1, const_100)": 13,
    "subtract(a, b), divide(#0, a), multiply(#1, const_100)": 13,
    "add(a, b), add(c, #0), divide(#1, const_3)": 11,
    "table_average(row)": 9,
    "add(a, b), divide(c, #0)": 9,
    "multiply(a, const_1000), divide(b, #0)": 8,
    "divide(a, b), multiply(#0, a)": 7,
    "subtract(a, b), divide(b, #0)": 7,
    "divide(a, b), divide(#0, b)": 6,
    "multiply(a, const_1000000), divide(b, #0)": 6,
    "add(a, b), add(#0, b)": 6,
    "divide(const_100, a)": 6,
    "add(a, b), multiply(#0, const_1000000)": 5,
    "subtract(a, const_100)": 5,
    "subtract(a, b), subtract(#0, c)": 5,
    "add(a, b), subtract(c, #0)": 5,
    "add(a, b), add(c, d), divide(#0, #1)": 5,
    "subtract(a, b), multiply(#0, const_1000000)": 5,
    "divide(a, const_100), multiply(#0, b)": 4,
    "divide(a, const_1000), subtract(#0, b)": 4,
    "table_sum(row)": 4,
    "divide(a, const_1000), divide(b, #0)": 4,
    "divide(a, const_1000), subtract(#0, b), divide(#1, b)": 4,
    "add(a, b), subtract(#0, c)": 4,
    "add(a, b), add(#0, c), add(#1, d), add(#2, e)": 4,
    "subtract(a, b), multiply(#0, const_1000)": 4,
}
