"""Making one wrong program out of another, such as an annotator could have written.

The algorithm: apply an edit; with chance `rate` apply another, and so on. An edit is drawn by weight and kept with
chance min(1, density of the new program / density of the old one): the rule of Metropolis et al. (1953), under which
edited programs keep looking like gold programs (`likeness.py`) instead of drifting away from them. Departure: where an
edit is not kept another is drawn, so that every step of the walk moves.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, NamedTuple

from finrank.page.page import Page
from finrank.pools.corruption import number_edits, structure_edits
from finrank.pools.corruption.likeness import Feature, Likeness, PageLikeness, draw_weighted, shape_features
from finrank.pools.corruption.refill import refill
from finrank.programs import Program, Step
from finrank.programs.value import value_of
from finrank.records import Answer, Candidate

Edit = Callable[[Program, Page, random.Random], Program | None]

# Every edit by the name it has in a candidate's `edits`, with how often it is drawn; "refill" is one more.
EDITS: dict[str, tuple[Edit, float]] = {
    "operand": (number_edits.operand, 6.0),
    "row": (number_edits.row, 4.0),
    "column": (number_edits.column, 3.0),
    "sign": (number_edits.sign, 0.5),
    "operation": (structure_edits.operation, 1.0),
    "swap": (structure_edits.swap, 1.0),
    "denominator": (structure_edits.denominator, 1.0),
    "drop_step": (structure_edits.drop_step, 2.0),
    "add_step": (structure_edits.add_step, 1.5),
    "scale": (structure_edits.scale, 0.75),
}
_REFILL = 8.0
_NAMES = [*EDITS, "refill"]
_CUMULATIVE = list(accumulate([*(weight for _, weight in EDITS.values()), _REFILL]))
_TRIES = 25
_MOST_USES = 16  # pools by one corruptor, whose memory grows with each; FinQA has 3 questions a page
_LARGEST_GAIN = 3.0  # in log density, that the numbers and the value of a program are expected to bring


class Draft(NamedTuple):
    """A program on its way to be a candidate: its value, the edits that led to it, and how gold-like it looks."""

    program: Program
    answer: Answer | None
    edits: tuple[str, ...]
    of_shape: float
    of_numbers: float

    def as_candidate(self) -> Candidate:
        """The draft as a wrong candidate."""
        return Candidate(program=str(self.program), answer=self.answer, origin="corrupted", edits=list(self.edits))


@dataclass(slots=True)
class _Look:
    """How gold-like an edited program looks; value and numbers are looked at only if its shape is promising."""

    of_shape: float
    is_measured: bool = False
    answer: Answer | None = None
    of_numbers: float = 0.0


class Corruptor:
    """Corrupts programs on one page, by a likeness to gold; remembers what it worked out about page and programs."""

    _latest: ClassVar[Corruptor | None] = None

    def __init__(self, table: list[list[str]], text: list[str], likeness: Likeness) -> None:
        self.page = Page(table, text)
        self._table, self._text = table, text
        self._likeness = likeness
        self._on_page = PageLikeness(self.page, likeness)
        # By a program's steps: a third of all edits make a program that was made before.
        self._looks: dict[tuple[Step, ...], _Look] = {}
        self._uses = 0

    @classmethod
    def on(cls, table: list[list[str]], text: list[str], likeness: Likeness) -> Corruptor:
        """A corruptor of this page: the latest one where it is of the same page, since a page's questions follow one
        another, with all that it remembers. The likeness must not have changed since."""
        corruptor = cls._latest
        if corruptor is None or corruptor._uses == _MOST_USES or not corruptor._is_of(table, text, likeness):
            corruptor = cls._latest = cls(table, text, likeness)
        corruptor._uses += 1
        return corruptor

    def _is_of(self, table: list[list[str]], text: list[str], likeness: Likeness) -> bool:
        return self._likeness is likeness and self._table == table and self._text == text

    def draft(self, program: Program, answer: Answer | None) -> Draft:
        """A program and its value as the start of corruption."""
        return Draft(program, answer, (), self._likeness.of_shape(program), self._on_page.score(program, answer))

    def features(self, draft: Draft) -> list[Feature]:
        """All features whose weights make up the draft's likeness."""
        return shape_features(draft.program) + self._on_page.features(draft.program, draft.answer)

    def corrupt(self, start: Draft, rng: random.Random, rate: float) -> Draft | None:
        """A corrupted program, the names of its edits after those of `start`; None where no edit is possible.

        `rate` in [0, 1) is the chance of a further edit after each one: the number of edits is geometric with mean
        1 / (1 - rate). The program has a value, which may be that of another one.
        """
        draft = start
        while draft is start or rng.random() < rate:
            edited = self._edit_once(draft, rng)
            if edited is None:
                break
            draft = edited
        return None if draft is start else draft

    def _edit_once(self, draft: Draft, rng: random.Random) -> Draft | None:
        """One edit, kept by the rule of Metropolis; where `_TRIES` draws keep none, the last that has a value."""
        possible: tuple[str, Program, _Look] | None = None
        for _ in range(_TRIES):
            name = draw_weighted(_NAMES, _CUMULATIVE, rng)
            edited = self._edit(name, draft.program, rng)
            if edited is None or edited.steps == draft.program.steps:
                continue
            look = self._look(edited)
            threshold = math.log(1.0 - rng.random())
            gain = look.of_shape - draft.of_shape
            # Hopeless by its shape: not worth executing.
            if gain + _LARGEST_GAIN < threshold and possible is not None:
                continue
            if not look.is_measured:
                self._measure(edited, look)
            if look.answer is None:
                continue
            possible = name, edited, look
            if gain + look.of_numbers - draft.of_numbers >= threshold:
                break
        if possible is None:
            return None
        name, edited, look = possible
        return Draft(edited, look.answer, (*draft.edits, name), look.of_shape, look.of_numbers)

    def _look(self, program: Program) -> _Look:
        look = self._looks.get(program.steps)
        if look is None:
            look = self._looks[program.steps] = _Look(self._likeness.of_shape(program))
        return look

    def _measure(self, program: Program, look: _Look) -> None:
        look.is_measured = True
        look.answer = value_of(program, self._table).answer
        if look.answer is not None:
            look.of_numbers = self._on_page.score(program, look.answer)

    def _edit(self, name: str, program: Program, rng: random.Random) -> Program | None:
        if name == "refill":
            return refill(program, self.page, rng, self._likeness.draw_shape(rng))
        return EDITS[name][0](program, self.page, rng)
