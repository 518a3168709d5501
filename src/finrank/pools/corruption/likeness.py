"""How much a program looks like a gold one: a log-linear model of what can be seen without reading the question.

    log density = log(count of the program's shape among gold programs) + sum of the weights of its features

Features describe how its numbers are written, where on the page they are and how they relate to each other, which
constants it uses, and the look of its value. This is the maximum entropy form (Berger et al. 1996): with the weights
that `fit_likeness.py` fits, corrupted programs have each feature as often as gold programs have, so that none of them
reveals gold. Corruption keeps or drops an edit by this density (`corrupt.py`).
"""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from finrank.page.page import Cell, Page
from finrank.pools.corruption.gold_shapes import FINQA_SHAPES
from finrank.programs import TABLE_OPERATIONS, Program, is_constant
from finrank.programs.shape import numbers_of, shape_of
from finrank.records import Answer

Feature = tuple[Hashable, ...]
# What is seen of a number, of two numbers or of a value: the function that lists its features, and the function's
# arguments. As a key it is short, and most of the time its score is known and nobody needs the features.
Sight = tuple[Any, ...]

_MOST_REMEMBERED = 5000
_MOST_ROWS, _MOST_COLUMNS = 6, 4
_LAST_TWO = "last two"  # the role of a pair that has no operation


@dataclass
class Likeness:
    """The counts of gold shapes and the weights of features; all weights 0 is the density of shapes alone."""

    shapes: dict[str, float] = field(default_factory=lambda: dict(FINQA_SHAPES))
    weights: dict[Feature, float] = field(default_factory=dict)
    _of_shape: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    _of_sight: dict[Sight, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    _drawn: tuple[list[str], list[float]] | None = field(default=None, init=False, repr=False, compare=False)

    def of_shape(self, program: Program) -> float:
        """The part of a program's log density that its shape decides. A shape never seen counts as seen once."""
        shape = shape_of(program)
        score = self._of_shape.get(shape)
        if score is None:
            score = math.log(self.shapes.get(shape, 1.0)) + self.weigh(shape_features(program))
            if len(self._of_shape) > _MOST_REMEMBERED:
                self._of_shape.clear()
            self._of_shape[shape] = score
        return score

    def of_sight(self, sight: Sight) -> float:
        """The sum of the weights of all features of a sight."""
        score = self._of_sight.get(sight)
        if score is None:
            if len(self._of_sight) > _MOST_REMEMBERED:
                self._of_sight.clear()  # memory stays flat, however many pages there are
            score = self._of_sight[sight] = self.weigh(features_of(sight))
        return score

    def weigh(self, features: Iterable[Feature]) -> float:
        """The sum of the features' weights."""
        return sum([self.weights.get(feature, 0.0) for feature in features])

    def draw_shape(self, rng: random.Random) -> str:
        """A shape of gold programs, as often as it occurs."""
        if self._drawn is None:
            self._drawn = list(self.shapes), list(accumulate(self.shapes.values()))
        shapes, cumulative = self._drawn
        return draw_weighted(shapes, cumulative, rng)

    def change(self, steps: dict[Feature, float]) -> None:
        """Add to the weights. A PageLikeness made before has the old ones."""
        for feature, step in steps.items():
            self.weights[feature] = self.weights.get(feature, 0.0) + step
        self._of_shape.clear()
        self._of_sight.clear()


def features_of(sight: Sight) -> list[Feature]:
    """All features of a sight."""
    list_features, *facts = sight
    return list_features(*facts)


def draw_weighted(names: Sequence[str], cumulative: Sequence[float], rng: random.Random) -> str:
    """The draw of `rng.choices(names, cum_weights=cumulative)` without its checks, which take most of its time."""
    return names[bisect(cumulative, rng.random() * cumulative[-1], 0, len(names) - 1)]


def shape_features(program: Program) -> list[Feature]:
    """The features that all programs of one shape share."""
    features: list[Feature] = [("shape", shape_of(program)), ("steps", len(program.steps))]
    for operation, arguments in program.steps:
        features.append(("operation", operation))
        if operation not in TABLE_OPERATIONS:
            features += [("constant", argument, operation) for argument in arguments if is_constant(argument)]
    return features


class PageLikeness:
    """The likeness of programs on one page. Scores of a number, or of two, are worked out once."""

    def __init__(self, page: Page, likeness: Likeness) -> None:
        self._page = page
        self._likeness = likeness
        self._of_number: dict[str, float] = {}
        self._of_pair: dict[tuple[str, str, str], float] = {}

    def score(self, program: Program, answer: Answer | None) -> float:
        """The part of the log density that the program's numbers and its value decide."""
        numbers = numbers_of(program)
        total = self._likeness.of_sight(_see_value(answer, program.steps[-1].operation))
        for text in numbers:
            score = self._of_number.get(text)
            if score is None:
                score = self._of_number[text] = self._likeness.of_sight(self._see_number(text))
            total += score
        for pair in _pairs(program, numbers):
            score = self._of_pair.get(pair)
            if score is None:
                score = self._of_pair[pair] = self._likeness.of_sight(self._see_pair(*pair))
            total += score
        return total

    def features(self, program: Program, answer: Answer | None) -> list[Feature]:
        """The features behind `score`, repeats included."""
        numbers = numbers_of(program)
        sights = [
            _see_value(answer, program.steps[-1].operation),
            *map(self._see_number, numbers),
            *(self._see_pair(*pair) for pair in _pairs(program, numbers)),
        ]
        return [feature for sight in sights for feature in features_of(sight)]

    def _see_number(self, text: str) -> Sight:
        """How a number is written, and where it is in the table: its first cell."""
        operand = self._page.operand(text)
        digits = text.lstrip("-").rstrip("%")
        whole, _, decimals = digits.partition(".")
        written = (
            ("size", _half_decades(operand.size)),
            ("decimals", len(decimals)),
            ("kind", operand.kind),
            ("written", text[:1] == "-", text[-1:] == "%"),
            ("zeros", len(whole) - len(whole.rstrip("0")) if len(whole) > 2 else 0),
            ("leading digit", digits.lstrip("0.")[:1]),
            ("cells", min(len(operand.places), 3)),
        )
        if not operand.places:
            return list, written
        row, column = operand.places[0]
        position = (("row", min(row, _MOST_ROWS)), ("column", min(column, _MOST_COLUMNS)))
        return list, (*written, *position, ("last row", row == self._page.last_row))

    def _see_pair(self, role: str, first: str, second: str) -> Sight:
        """How two numbers of a program relate by size, by digits and on the page."""
        left, right = self._page.operand(first), self._page.operand(second)
        quotient = left.size / right.size if right.size > 0.0 else 0.0
        ratio = _half_decades(quotient) if 0.0 < quotient < math.inf else None
        first_is_larger = left.size > right.size if ratio in (-1, 0) else None
        decimals_alike = len(first.partition(".")[2]) == len(second.partition(".")[2])
        return _pair_features, role, ratio, first_is_larger, decimals_alike, _relation(left.places, right.places)


def _pair_features(
    role: str,
    ratio: int | None,
    first_is_larger: bool | None,
    decimals_alike: bool,
    relation: tuple[str | bool, int | bool],
) -> list[Feature]:
    """The features of two numbers: for their role, and mostly for any."""
    features: list[Feature] = [
        ("ratio", ratio),
        ("first is larger", first_is_larger),
        ("decimals alike", decimals_alike),
        ("relation", relation),
    ]
    of_role: list[Feature] = [(role, *feature) for feature in features]
    return of_role if role == _LAST_TWO else features + of_role


def _relation(places: Sequence[Cell], others: Sequence[Cell]) -> tuple[str | bool, int | bool]:
    """Same row or column, and how many cells apart (at most 3); else which of the two numbers are in the table."""
    for row, column in places:
        for other_row, other_column in others:
            if row == other_row:
                return "row", max(-3, min(3, column - other_column))
    for row, column in places:
        for other_row, other_column in others:
            if column == other_column:
                return "column", max(-3, min(3, row - other_row))
    return bool(places), bool(others)


def _pairs(program: Program, numbers: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """The program's first two numbers by its first operation, and of three or more its last two."""
    if len(numbers) < 2:
        return []
    pairs = [(program.steps[0].operation, numbers[0], numbers[1])]
    if len(numbers) > 2:
        pairs.append((_LAST_TWO, numbers[-2], numbers[-1]))
    return pairs


def _see_value(answer: Answer | None, operation: str) -> Sight:
    """The look of a value; yes, no and None are features by themselves."""
    if answer is None or isinstance(answer, str):
        return list, (("value", answer),)
    size = max(-10, min(16, _half_decades(abs(answer))))
    decimals = len(repr(answer).partition(".")[2])
    return _value_features, operation, size, answer < 0.0, decimals, answer.is_integer()


def _value_features(operation: str, size: int, is_negative: bool, decimals: int, is_whole: bool) -> list[Feature]:
    """The features of a number that a program computes by a last step with this operation."""
    return [
        ("value size", size),
        ("value", operation, size // 2, is_negative),
        ("value decimals", decimals),
        ("value is whole", is_whole),
    ]


def _half_decades(size: float) -> int:
    """The order of magnitude in steps of sqrt(10): 0 for 1 to 3.16, 1 for 3.16 to 10, -1 for 0.316 to 1."""
    return math.floor(2.0 * math.log10(size)) if 0.0 < size < math.inf else -99
