"""Kinds of question about a made-up page: `wording.yaml` lists them, `QuestionKind.ask` draws a question of one.

Programs and phrasings are templates. `{x}` is the label of the first row that a kind draws and `{x[old]}` its number in
the year called `old`; `{y}` is the second row, `{fact}` a fact of the page's text. A question names rows and years but
never a figure of the page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from finrank.sources.made_up.pages import WORDING, Fact, FactKind, MadeUpPage

_DRAW_ROWS: dict[str, Callable[[MadeUpPage, Random], list[str]]] = {
    "amount": lambda page, rng: [rng.choice(page.amounts)],
    "two amounts": lambda page, rng: rng.sample(page.amounts, 2),
    "positive": lambda page, rng: [rng.choice(page.positive_items)],
    "two positive": lambda page, rng: rng.sample(page.positive_items, 2),
    "any": lambda page, rng: [rng.choice(list(page.rows))],
    "part and total": lambda page, rng: [rng.choice(page.parts), page.theme.total],
    "total": lambda page, rng: [page.theme.total],
    "rate": lambda page, rng: [page.theme.rate],
    "guidance": lambda page, rng: [fact.subject for fact in page.facts if fact.kind == "guidance"],
    "none": lambda page, rng: [],
}


@dataclass(frozen=True)
class MadeUpQuestion:
    """A question with its program; `rows` (labels) and `fact` are the evidence."""

    question: str
    program: str
    rows: list[str]
    fact: Fact | None
    percent: bool  # the answer is written as a percentage


class _Figures(dict[str, str]):
    """Numbers by the name of their year; as text, their label."""

    def __init__(self, label: str, numbers: dict[str, str]) -> None:
        super().__init__(numbers)
        self.label = label

    def __str__(self) -> str:
        return self.label


class QuestionKind(BaseModel):
    """One calculation: the rows and years it draws, its program, and the ways to ask for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    rows: str  # a key of _DRAW_ROWS
    # two: `old` and `new`, drawn; one: `year`, drawn; last: the page's last three, `y1` to `y3`, and `old`, `new`
    years: Literal["two", "one", "last"]
    program: str | dict[str, str]  # or one for each unit of the table
    phrasings: list[str]
    fact: FactKind | None = None
    only_if: Literal["falls", "differ"] | None = None  # `{x}` in the new year; `{x}` from `{y}`
    other_unit: bool = False  # ask for another unit than the table's; `{operation}` converts
    money_only: bool = False
    percent: bool = False

    def ask(self, page: MadeUpPage, rng: Random) -> MadeUpQuestion | None:
        """A question of this kind about the page; None where the page lacks what it needs."""
        fact = next((fact for fact in page.facts if fact.kind == self.fact), None)
        if (self.fact and fact is None) or (self.money_only and page.theme.physical_unit):
            return None
        labels = _DRAW_ROWS[self.rows](page, rng)
        years = self._draw_years(page, rng)
        if not page.rows.keys() >= set(labels):
            return None
        rows = [_Figures(label, {name: page.rows[label][year] for name, year in years.items()}) for label in labels]
        if self.only_if == "falls" and float(rows[0]["new"]) >= float(rows[0]["old"]):
            return None
        if self.only_if == "differ" and float(rows[0]["year"]) == float(rows[1]["year"]):
            return None
        operation, unit = _other_unit(page, rng) if self.other_unit else ("", page.unit)
        last = int(page.years[-1])
        names: dict[str, object] = {"unit": unit, "operation": operation, "next": last + 1, "then": last + 2, **years}
        names |= zip("xy", rows, strict=False)
        names["fact"] = fact and _Figures(fact.subject, fact.numbers)
        question = rng.choice(self.phrasings).format(**names)
        program = self.program if isinstance(self.program, str) else self.program[page.unit]
        percent = self.percent or page.theme.rate in labels
        return MadeUpQuestion(question, program.format(**names), labels, fact, percent)

    def _draw_years(self, page: MadeUpPage, rng: Random) -> dict[str, str]:
        if self.years == "one":
            return {"year": rng.choice(page.years)}
        if self.years == "two":
            return dict(zip(("old", "new"), sorted(rng.sample(page.years, 2)), strict=True))
        first, second, third = page.years[-3:]
        return {"y1": first, "y2": second, "y3": third, "old": second, "new": third}


def _other_unit(page: MadeUpPage, rng: Random) -> tuple[str, str]:
    """The operation by 1000 that converts an amount of the page, and the unit that it converts to."""
    if page.unit == "millions" and rng.random() < 0.5:
        return "multiply", "thousands"
    return "divide", {"millions": "billions", "thousands": "millions"}[page.unit]


KINDS = TypeAdapter(tuple[QuestionKind, ...]).validate_python(WORDING["kinds"])
