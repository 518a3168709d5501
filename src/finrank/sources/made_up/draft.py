"""What a question of the sample is made of, and the helpers that the kinds of question share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from finrank.sources.made_up.pages import Fact, Page


@dataclass(frozen=True)
class Draft:
    """A question with its program; `rows` (labels) and `facts` are the evidence that it rests on."""

    question: str
    program: str
    rows: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    shown_as: Literal["number", "percent", "yes or no"] = "number"


Kind = Callable[[Page, Random], Draft | None]


def two_years(page: Page, rng: Random) -> tuple[str, str]:
    """An earlier and a later year of the page."""
    earlier, later = sorted(rng.sample(page.years, 2))
    return earlier, later


def ask(rng: Random, phrasings: tuple[str, ...], **names: str) -> str:
    return rng.choice(phrasings).format(**names)
