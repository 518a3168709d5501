"""How much a program looks like a gold one: a log-linear model of what can be seen without reading the question.

    log density = log(count of the program's shape among gold programs) + the weights of its features

Features say how its numbers are written, where on the page they stand and how they lie to each other, which constants
it uses, and what its value looks like. This is the maximum entropy form (Berger et al. 1996): with the weights that
`calibration.py` fits, corrupted programs have each feature as often as gold programs have, so that none of them gives
gold away. Corruption keeps or drops an edit by this density (`corrupt.py`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from itertools import accumulate

from finrank.candidates.page import Page, size_of
from finrank.candidates.shapes import FINQA_SHAPES
from finrank.programs import TABLE_OPERATIONS, Program, is_constant, operands
from finrank.records import Answer

Feature = tuple[Hashable, ...]
# A number, or two numbers with the role in which they are looked at.
_Part = tuple[str, ...]

_MOST_ROWS, _MOST_COLUMNS = 6, 4


@dataclass
class Likeness:
    """The counts of gold shapes and the weights of features; all weights 0 is the density of shapes alone."""

    shapes: dict[str, float] = field(default_factory=lambda: dict(FINQA_SHAPES))
    weights: dict[Feature, float] = field(default_factory=dict)
    _of_shape: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    _drawn: tuple[list[str], list[float]] | None = field(default=None, init=False, repr=False, compare=False)

    def of_shape(self, shape: str, program: Program) -> float:
        """The part of a program's log density that its shape decides. A shape never seen counts as seen once."""
        score = self._of_shape.get(shape)
        if score is None:
            score = math.log(self.shapes.get(shape, 1.0)) + self.weigh(shape_features(shape, program))
            self._of_shape[shape] = score
        return score

    def weigh(self, features: Iterable[Feature]) -> float:
        """The sum of the features' weights."""
        return sum([self.weights.get(feature, 0.0) for feature in features])

    def draw_shape(self, rng: random.Random) -> str:
        """A shape of gold programs, as often as it occurs."""
        if self._drawn is None:
            self._drawn = list(self.shapes), list(accumulate(self.shapes.values()))
        shapes, cumulative = self._drawn
        return rng.choices(shapes, cum_weights=cumulative)[0]

    def change(self, steps: dict[Feature, float]) -> None:
        """Add to the weights. A PageLikeness made before has the old ones."""
        for feature, step in steps.items():
            self.weights[feature] = self.weights.get(feature, 0.0) + step
        self._of_shape.clear()


def shape_features(shape: str, program: Program) -> list[Feature]:
    """The features that all programs of one shape share."""
    features: list[Feature] = [("shape", shape), ("steps", len(program.steps))]
    for operation, arguments in program.steps:
        features.append(("operation", operation))
        if operation not in TABLE_OPERATIONS:
            features += [("constant", argument, operation) for argument in arguments if is_constant(argument)]
    return features


class PageLikeness:
    """The likeness of programs on one page. What is known of a number, or of two, is worked out once."""

    def __init__(self, page: Page, likeness: Likeness) -> None:
        self._page = page
        self._likeness = likeness
        self._last_row = max(page.in_row, default=0)
        self._features: dict[_Part, list[Feature]] = {}
        self._scores: dict[_Part, float] = {}

    def score(self, program: Program, answer: Answer | None) -> float:
        """The part of the log density that the program's numbers and its value decide."""
        total = self._likeness.weigh(_of_value(answer, program.steps[-1].operation))
        for part in _parts(program):
            score = self._scores.get(part)
            if score is None:
                score = self._scores[part] = self._likeness.weigh(self._of_part(part))
            total += score
        return total

    def features(self, program: Program, answer: Answer | None) -> list[Feature]:
        """The features behind `score`, repeats included."""
        found = _of_value(answer, program.steps[-1].operation)
        for part in _parts(program):
            found += self._of_part(part)
        return found

    def _of_part(self, part: _Part) -> list[Feature]:
        features = self._features.get(part)
        if features is None:
            features = self._of_number(*part) if len(part) == 1 else self._of_pair(*part)
            self._features[part] = features
        return features

    def _of_number(self, text: str) -> list[Feature]:
        """How a number is written, and where it stands."""
        digits = text.lstrip("-").rstrip("%")
        whole, _, decimals = digits.partition(".")
        places = self._page.places(text)
        features: list[Feature] = [
            ("size", _half_decades(size_of(text))),
            ("decimals", len(decimals)),
            ("kind", self._page.kind(text)),
            ("written", text[:1] == "-", text[-1:] == "%"),
            ("zeros", len(whole) - len(whole.rstrip("0")) if len(whole) > 2 else 0),
            ("leading digit", digits.lstrip("0.")[:1]),
            ("stands", min(len(places), 3)),
        ]
        if places:
            row, column = places[0]
            features += [("row", min(row, _MOST_ROWS)), ("column", min(column, _MOST_COLUMNS))]
            features.append(("last row", row == self._last_row))
        return features

    def _of_pair(self, role: str, first: str, second: str) -> list[Feature]:
        """How two numbers of a program lie to each other: by size, by digits, and on the page."""
        size, other = size_of(first), size_of(second)
        ratio = _half_decades(size / other) if other > 0.0 and 0.0 < size / other < math.inf else None
        features: list[Feature] = [
            ("ratio", ratio),
            ("first is larger", size > other if ratio in (-1, 0) else None),
            ("decimals alike", len(first.partition(".")[2]) == len(second.partition(".")[2])),
            ("relation", self._relation(first, second)),
        ]
        of_role: list[Feature] = [(role, *feature) for feature in features]
        return of_role if role == "last two" else features + of_role

    def _relation(self, first: str, second: str) -> Hashable:
        """Same row or column, and how many cells apart (at most 3); else which of the two stand in the table."""
        places, others = self._page.places(first), self._page.places(second)
        for place in places:
            for other in others:
                if place.row == other.row:
                    return "row", max(-3, min(3, place.column - other.column))
        for place in places:
            for other in others:
                if place.column == other.column:
                    return "column", max(-3, min(3, place.row - other.row))
        return bool(places), bool(others)


def _parts(program: Program) -> list[_Part]:
    """The numbers of a program, its first two by its first operation, and of three or more its last two."""
    numbers = list(dict.fromkeys(operands(program)))
    parts: list[_Part] = [(text,) for text in numbers]
    if len(numbers) > 1:
        parts.append((program.steps[0].operation, numbers[0], numbers[1]))
    if len(numbers) > 2:
        parts.append(("last two", numbers[-2], numbers[-1]))
    return parts


def _of_value(answer: Answer | None, operation: str) -> list[Feature]:
    if answer is None or isinstance(answer, str):
        return [("value", answer)]
    size = max(-10, min(16, _half_decades(abs(answer))))
    return [
        ("value size", size),
        ("value", operation, size // 2, answer < 0.0),
        ("value decimals", len(repr(answer).partition(".")[2])),
        ("value is whole", answer.is_integer()),
    ]


def _half_decades(size: float) -> int:
    """The order of magnitude in steps of sqrt(10): 0 for 1 to 3.16, 1 for 3.16 to 10, -1 for 0.316 to 1."""
    return math.floor(2.0 * math.log10(size)) if 0.0 < size < math.inf else -99
