"""The kinds of question that a made-up page can answer: each is data, and `QuestionKind.ask` draws one.

Programs and phrasings are templates. `{x}` is the label of the first row that a kind draws and `{x[old]}` its number in
the year called `old`; `{y}` is the second row and `{fact}` a fact of the page's text. A question names rows and years
but never a figure of the page. To add a kind, add it to `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from finrank.sources.made_up.pages import Fact, FactKind, MadeUpPage

Rows = Literal[
    "amount", "two amounts", "positive", "two positive", "any", "part and total", "total", "rate", "guidance", "none"
]

_ROWS: dict[Rows, Callable[[MadeUpPage, Random], list[str]]] = {
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
    percent: bool
    """Its answer is written as a percentage."""


class Figures(dict[str, str]):
    """Numbers by the name of their year (`old`, `new`, ...); as text, their label."""

    def __init__(self, label: str, numbers: dict[str, str]) -> None:
        super().__init__(numbers)
        self.label = label

    def __str__(self) -> str:
        return self.label


@dataclass(frozen=True)
class QuestionKind:
    """One calculation: which rows and years it draws, its program, and the ways to ask for it."""

    name: str
    rows: Rows
    years: Literal["two", "one", "last"]
    """two: `old` and `new`, drawn; one: `year`, drawn; last: `old` and `new`, or `y1` to `y3`, the last of the page."""
    program: str | Callable[[MadeUpPage, Random], tuple[str, str]]
    """A template, or a function that returns the template and the unit to name in the question."""
    phrasings: tuple[str, ...]
    percent: bool = False
    fact: FactKind | None = None
    money_only: bool = False
    only_if: Callable[[Figures, Figures], bool] = lambda x, y: True

    def ask(self, page: MadeUpPage, rng: Random) -> MadeUpQuestion | None:
        """A question of this kind about the page; None where the page lacks what it needs."""
        fact = next((fact for fact in page.facts if fact.kind == self.fact), None)
        if (self.fact and fact is None) or (self.money_only and not page.is_money):
            return None
        labels, years = _ROWS[self.rows](page, rng), self._draw_years(page, rng)
        if not page.rows.keys() >= set(labels):
            return None
        drawn = [Figures(label, {name: page.rows[label][year] for name, year in years.items()}) for label in labels]
        x, y, *_ = *drawn, Figures("", {}), Figures("", {})
        if not self.only_if(x, y):
            return None
        program, unit = (self.program, page.unit) if isinstance(self.program, str) else self.program(page, rng)
        coming = {"next": str(int(page.years[-1]) + 1), "then": str(int(page.years[-1]) + 2)}
        names = {"x": x, "y": y, "fact": fact and Figures(fact.subject, fact.numbers), "unit": unit, **years, **coming}
        question = rng.choice(self.phrasings).format(**names)
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
    if page.unit == "millions" and rng.random() < 0.5:
        return "multiply({x[year]}, const_1000)", "thousands"
    return "divide({x[year]}, const_1000)", {"millions": "billions", "thousands": "millions"}[page.unit]


def _per_share(page: MadeUpPage, rng: Random) -> tuple[str, str]:
    # shares are counted in millions
    in_thousands = "divide({x[new]}, const_1000), divide(#0, {fact[new]})"
    return "divide({x[new]}, {fact[new]})" if page.unit == "millions" else in_thousands, page.unit


def _per_employee(page: MadeUpPage, rng: Random) -> tuple[str, str]:
    in_millions = "multiply({x[new]}, const_1000), divide(#0, {fact[new]})"
    return "divide({x[new]}, {fact[new]})" if page.unit == "thousands" else in_millions, page.unit


# Generation draws from this list: a kind that is moved or renamed changes the embedded data of every seed.
KINDS = (
    # change over time
    QuestionKind(
        "absolute_change",
        "amount",
        "two",
        "subtract({x[new]}, {x[old]})",
        (
            "what was the change in {x} from {old} to {new} , in {unit} ?",
            "by how many {unit} did {x} change between {old} and {new} ?",
            "what is the net change in {x} during the period {old} to {new} ?",
            "how much higher or lower was {x} in {new} than in {old} ?",
        ),
    ),
    QuestionKind(
        "percent_change",
        "positive",
        "two",
        "subtract({x[new]}, {x[old]}), divide(#0, {x[old]})",
        (
            "what was the percentage change in {x} from {old} to {new} ?",
            "what is the growth rate of {x} between {old} and {new} ?",
            "in percent , how did {x} develop from {old} to {new} ?",
            "by what percent did {x} change in {new} compared with {old} ?",
        ),
        percent=True,
    ),
    QuestionKind(
        "percent_decline",
        "positive",
        "two",
        "subtract({x[old]}, {x[new]}), divide(#0, {x[old]})",
        (
            "by what percent did {x} decline from {old} to {new} ?",
            "what was the percentage decrease of {x} between {old} and {new} ?",
            "how large was the drop in {x} from {old} to {new} , as a percent ?",
        ),
        percent=True,
        only_if=lambda x, y: float(x["new"]) < float(x["old"]),
    ),
    QuestionKind(
        "rate_change",
        "rate",
        "two",
        "subtract({x[new]}, {x[old]})",
        (
            "by how many percentage points did the {x} change from {old} to {new} ?",
            "what is the difference between the {x} of {new} and that of {old} ?",
        ),
    ),
    QuestionKind(
        "change_in_share",
        "part and total",
        "two",
        "divide({x[new]}, {y[new]}), divide({x[old]}, {y[old]}), subtract(#0, #1)",
        (
            "by how much did the share of {x} in {y} change from {old} to {new} ?",
            "what is the change in {x} as a portion of {y} between {old} and {new} ?",
        ),
        percent=True,
    ),
    # several rows
    QuestionKind(
        "ratio",
        "two positive",
        "one",
        "divide({x[year]}, {y[year]})",
        (
            "what was the ratio of {x} to {y} in {year} ?",
            "in {year} , how many times {y} was {x} ?",
            "for {year} , what is {x} divided by {y} ?",
        ),
    ),
    QuestionKind(
        "share_of_total",
        "part and total",
        "one",
        "divide({x[year]}, {y[year]})",
        (
            "what percentage of {y} was {x} in {year} ?",
            "in {year} , what portion of {y} came from {x} ?",
            "what share did {x} have in {y} in {year} ?",
            "{x} accounted for what percent of {y} in {year} ?",
        ),
        percent=True,
    ),
    QuestionKind(
        "share_of_the_rest",
        "part and total",
        "one",
        "divide({x[year]}, {y[year]}), subtract(const_1, #0)",
        (
            "what percentage of {y} was not {x} in {year} ?",
            "in {year} , what share of {y} came from items other than {x} ?",
        ),
        percent=True,
    ),
    QuestionKind(
        "total_without_item",
        "part and total",
        "one",
        "subtract({y[year]}, {x[year]})",
        (
            "what was {y} excluding {x} in {year} ?",
            "how much of {y} in {year} , in {unit} , was left without {x} ?",
        ),
    ),
    QuestionKind(
        "sum_of_items",
        "two positive",
        "one",
        "add({x[year]}, {y[year]})",
        (
            "what was the sum of {x} and {y} in {year} ?",
            "what did {x} and {y} come to together in {year} , in {unit} ?",
            "in {year} , what is the combined amount of {x} and {y} ?",
        ),
    ),
    QuestionKind(
        "difference_between_items",
        "two amounts",
        "one",
        "subtract({x[year]}, {y[year]})",
        (
            "what is the difference between {x} and {y} in {year} ?",
            "in {unit} , how much more or less was {x} than {y} in {year} ?",
            "in {year} , how much is {x} less {y} ?",
        ),
    ),
    # averages and totals
    QuestionKind(
        "average_of_two_years",
        "amount",
        "two",
        "add({x[old]}, {x[new]}), divide(#0, const_2)",
        (
            "what was the average {x} for {old} and {new} ?",
            "what is the mean of {x} in {old} and {new} , in {unit} ?",
        ),
    ),
    QuestionKind(
        "average_of_three_years",
        "amount",
        "last",
        "add({x[y1]}, {x[y2]}), add(#0, {x[y3]}), divide(#1, const_3)",
        (
            "what was the average {x} over {y1} , {y2} and {y3} ?",
            "what is the three year average of {x} from {y1} to {y3} ?",
        ),
    ),
    QuestionKind(
        "cumulative_total",
        "positive",
        "last",
        "add({x[y1]}, {x[y2]}), add(#0, {x[y3]})",
        (
            "what was the cumulative {x} from {y1} to {y3} ?",
            "what did {x} add up to over {y1} , {y2} and {y3} , in {unit} ?",
            "in {unit} , how much {x} was there in the three years ended {y3} ?",
        ),
    ),
    QuestionKind(
        "table_average",
        "any",
        "last",
        "table_average({x}, none)",
        ("what was the average {x} over all years shown ?", "what is the mean {x} of the table ?"),
    ),
    QuestionKind(
        "table_max",
        "any",
        "last",
        "table_max({x}, none)",
        ("what was the highest {x} of any year ?", "what is the greatest {x} in the years shown ?"),
    ),
    QuestionKind(
        "table_min",
        "any",
        "last",
        "table_min({x}, none)",
        ("what was the lowest {x} of any year ?", "what is the smallest {x} in the years shown ?"),
    ),
    QuestionKind(
        "table_sum",
        "amount",
        "last",
        "table_sum({x}, none)",
        ("what is the total of {x} over all years shown ?", "what does {x} sum to in the table ?"),
    ),
    QuestionKind(
        "range_of_row",
        "amount",
        "last",
        "table_max({x}, none), table_min({x}, none), subtract(#0, #1)",
        (
            "what is the difference between the highest and the lowest {x} of the table ?",
            "how wide is the range of {x} over the years shown ?",
        ),
    ),
    QuestionKind(
        "year_against_average",
        "positive",
        "one",
        "table_average({x}, none), divide({x[year]}, #0)",
        (
            "how does {x} of {year} compare with its average over all years , as a ratio ?",
            "what is the ratio of {x} in {year} to the average of the years shown ?",
        ),
    ),
    # yes or no
    QuestionKind(
        "comparison",
        "two amounts",
        "one",
        "greater({x[year]}, {y[year]})",
        (
            "was {x} greater than {y} in {year} ?",
            "in {year} , did {x} exceed {y} ?",
            "is {x} of {year} more than {y} of the same year ?",
        ),
        only_if=lambda x, y: float(x["year"]) != float(y["year"]),
    ),
    QuestionKind(
        "comparison_of_changes",
        "two positive",
        "two",
        "subtract({x[new]}, {x[old]}), subtract({y[new]}, {y[old]}), greater(#0, #1)",
        (
            "did {x} rise by more {unit} than {y} from {old} to {new} ?",
            "from {old} to {new} , was the change in {x} larger than the change in {y} ?",
        ),
    ),
    # figures that only the text has
    QuestionKind(
        "change_in_text",
        "none",
        "last",
        "subtract({fact[new]}, {fact[old]})",
        (
            "what was the change in {fact} from {old} to {new} , in millions of dollars ?",
            "how much more or less were {fact} in {new} than in {old} ?",
        ),
        fact="two years",
    ),
    QuestionKind(
        "percent_change_in_text",
        "none",
        "last",
        "subtract({fact[new]}, {fact[old]}), divide(#0, {fact[old]})",
        (
            "what was the percentage change in {fact} from {old} to {new} ?",
            "by what percent did {fact} change between {old} and {new} ?",
        ),
        percent=True,
        fact="two years",
    ),
    QuestionKind(
        "percent_of_total",
        "total",
        "last",
        "multiply({x[new]}, {fact[new]})",
        (
            "how much of {x} in {new} related to {fact} , in {unit} ?",
            "what amount of {new} {x} related to {fact} ?",
        ),
        fact="share",
    ),
    QuestionKind(
        "growth_projection",
        "guidance",
        "last",
        "add(const_1, {fact[new]}), multiply({x[new]}, #0)",
        (
            "if the growth expected by management is reached , what will {x} be in {next} ?",
            "what is the projected {x} for {next} , in {unit} ?",
        ),
        fact="guidance",
    ),
    QuestionKind(
        "compound_projection",
        "guidance",
        "last",
        "add(const_1, {fact[new]}), exp(#0, const_2), multiply({x[new]}, #1)",
        (
            "if {x} grew two years in a row at the rate expected by management , what would it be in {then} ?",
            "what would {x} be in {then} at the expected yearly growth ?",
        ),
        fact="guidance",
    ),
    # units
    QuestionKind(
        "other_unit",
        "amount",
        "one",
        _other_unit,
        (
            "what was {x} in {year} , expressed in {unit} of dollars ?",
            "in {unit} of dollars , how much was {x} in {year} ?",
        ),
        money_only=True,
    ),
    QuestionKind(
        "amount_per_share",
        "positive",
        "last",
        _per_share,
        (
            "what was {x} per share of common stock in {new} , in dollars ?",
            "in {new} , how many dollars of {x} were there for each share outstanding ?",
        ),
        fact="shares outstanding",
        money_only=True,
    ),
    QuestionKind(
        "amount_per_employee",
        "positive",
        "last",
        _per_employee,
        (
            "what was {x} per employee in {new} , in thousands of dollars ?",
            "in {new} , how many thousand dollars of {x} were there for each employee ?",
        ),
        fact="employees",
        money_only=True,
    ),
)
