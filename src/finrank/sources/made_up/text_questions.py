"""Kinds of question that need a figure from the text, or another unit than the table's.

Written like those of `table_questions`; a new kind is a function named in `TEXT_KINDS`.
"""

from __future__ import annotations

from random import Random

from finrank.sources.made_up.draft import Draft, Kind, ask
from finrank.sources.made_up.pages import Fact, FactKind, Page


def _fact_and_year(page: Page, kind: FactKind) -> tuple[Fact, str, str] | None:
    """The page's fact of a kind with its one year and number."""
    fact = page.fact(kind)
    if fact is None:
        return None
    ((year, number),) = fact.values.items()
    return fact, year, number


# Figures that only the text has.


def change_in_text(page: Page, rng: Random) -> Draft | None:
    fact = page.fact("two years")
    if fact is None:
        return None
    old, new = sorted(fact.values)
    phrasings = (
        "what was the change in {item} from {old} to {new} , in millions of dollars ?",
        "how much more or less were {item} in {new} than in {old} ?",
    )
    question = ask(rng, phrasings, item=fact.subject, old=old, new=new)
    return Draft(question, f"subtract({fact.values[new]}, {fact.values[old]})", facts=(fact,))


def percent_change_in_text(page: Page, rng: Random) -> Draft | None:
    fact = page.fact("two years")
    if fact is None:
        return None
    old, new = sorted(fact.values)
    phrasings = (
        "what was the percentage change in {item} from {old} to {new} ?",
        "by what percent did {item} change between {old} and {new} ?",
    )
    question = ask(rng, phrasings, item=fact.subject, old=old, new=new)
    a, b = fact.values[old], fact.values[new]
    return Draft(question, f"subtract({b}, {a}), divide(#0, {a})", facts=(fact,), shown_as="percent")


def percent_of_total(page: Page, rng: Random) -> Draft | None:
    found = _fact_and_year(page, "share")
    if found is None:
        return None
    (fact, year, share), total = found, page.theme.total
    phrasings = (
        "how much of {total} in {year} related to {origin} , in {unit} ?",
        "what amount of {year} {total} related to {origin} ?",
    )
    question = ask(rng, phrasings, total=total, year=year, origin=fact.subject, unit=page.unit)
    return Draft(question, f"multiply({page.rows[total][year]}, {share})", (total,), (fact,))


def growth_projection(page: Page, rng: Random) -> Draft | None:
    found = _fact_and_year(page, "guidance")
    if found is None:
        return None
    (fact, _, growth), last = found, page.years[-1]
    phrasings = (
        "if the growth expected by management is reached , what will {item} be in {next} ?",
        "what is the projected {item} for {next} , in {unit} ?",
    )
    question = ask(rng, phrasings, item=fact.subject, next=str(int(last) + 1), unit=page.unit)
    program = f"add(const_1, {growth}), multiply({page.rows[fact.subject][last]}, #0)"
    return Draft(question, program, (fact.subject,), (fact,))


def compound_projection(page: Page, rng: Random) -> Draft | None:
    found = _fact_and_year(page, "guidance")
    if found is None:
        return None
    (fact, _, growth), last = found, page.years[-1]
    phrasings = (
        "if {item} grew two years in a row at the rate expected by management , what would it be in {then} ?",
        "what would {item} be in {then} at the expected yearly growth ?",
    )
    question = ask(rng, phrasings, item=fact.subject, then=str(int(last) + 2))
    program = f"add(const_1, {growth}), exp(#0, const_2), multiply({page.rows[fact.subject][last]}, #1)"
    return Draft(question, program, (fact.subject,), (fact,))


# Units.


def other_unit(page: Page, rng: Random) -> Draft | None:
    if not page.is_money:
        return None
    item, year = rng.choice(page.amounts), rng.choice(page.years)
    smaller = page.unit == "millions" and rng.random() < 0.5
    unit = "thousands" if smaller else {"millions": "billions", "thousands": "millions"}[page.unit]
    phrasings = (
        "what was {item} in {year} , expressed in {unit} of dollars ?",
        "in {unit} of dollars , how much was {item} in {year} ?",
    )
    program = f"{'multiply' if smaller else 'divide'}({page.rows[item][year]}, const_1000)"
    return Draft(ask(rng, phrasings, item=item, year=year, unit=unit), program, (item,))


def amount_per_share(page: Page, rng: Random) -> Draft | None:
    found = _fact_and_year(page, "shares outstanding")
    if found is None or not page.is_money:
        return None
    (fact, year, shares), item = found, rng.choice(page.positive_items)
    phrasings = (
        "what was {item} per share of common stock in {year} , in dollars ?",
        "in {year} , how many dollars of {item} were there for each share outstanding ?",
    )
    amount = page.rows[item][year]
    in_thousands = f"divide({amount}, const_1000), divide(#0, {shares})"  # shares are counted in millions
    program = f"divide({amount}, {shares})" if page.unit == "millions" else in_thousands
    return Draft(ask(rng, phrasings, item=item, year=year), program, (item,), (fact,))


def amount_per_employee(page: Page, rng: Random) -> Draft | None:
    found = _fact_and_year(page, "employees")
    if found is None or not page.is_money:
        return None
    (fact, year, employees), item = found, rng.choice(page.positive_items)
    phrasings = (
        "what was {item} per employee in {year} , in thousands of dollars ?",
        "in {year} , how many thousand dollars of {item} were there for each employee ?",
    )
    amount = page.rows[item][year]
    in_millions = f"multiply({amount}, const_1000), divide(#0, {employees})"
    program = f"divide({amount}, {employees})" if page.unit == "thousands" else in_millions
    return Draft(ask(rng, phrasings, item=item, year=year), program, (item,), (fact,))


TEXT_KINDS: tuple[Kind, ...] = (
    change_in_text,
    percent_change_in_text,
    percent_of_total,
    growth_projection,
    compound_projection,
    other_unit,
    amount_per_share,
    amount_per_employee,
)
