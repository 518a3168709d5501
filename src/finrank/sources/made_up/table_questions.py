"""Kinds of question that the table alone answers.

A kind is one function: it draws rows and years of a page and returns a `Draft`, or None where the page has
not what it needs. To add a kind, write a function and name it in `TABLE_KINDS`. Questions name items and
years but never give a figure of the page.
"""

from __future__ import annotations

from random import Random
from typing import Literal

from finrank.sources.made_up.draft import Draft, Kind, ask, two_years
from finrank.sources.made_up.pages import Page

# Change over time.


def absolute_change(page: Page, rng: Random) -> Draft:
    item, (old, new) = rng.choice(page.amounts), two_years(page, rng)
    phrasings = (
        "what was the change in {item} from {old} to {new} , in {unit} ?",
        "by how many {unit} did {item} change between {old} and {new} ?",
        "what is the net change in {item} during the period {old} to {new} ?",
        "how much higher or lower was {item} in {new} than in {old} ?",
    )
    question = ask(rng, phrasings, item=item, old=old, new=new, unit=page.unit)
    values = page.rows[item]
    return Draft(question, f"subtract({values[new]}, {values[old]})", (item,))


def percent_change(page: Page, rng: Random) -> Draft:
    item, (old, new) = rng.choice(page.positive_items), two_years(page, rng)
    phrasings = (
        "what was the percentage change in {item} from {old} to {new} ?",
        "what is the growth rate of {item} between {old} and {new} ?",
        "in percent , how did {item} develop from {old} to {new} ?",
        "by what percent did {item} change in {new} compared with {old} ?",
    )
    a, b = page.rows[item][old], page.rows[item][new]
    question = ask(rng, phrasings, item=item, old=old, new=new)
    return Draft(question, f"subtract({b}, {a}), divide(#0, {a})", (item,), shown_as="percent")


def percent_decline(page: Page, rng: Random) -> Draft | None:
    item, (old, new) = rng.choice(page.positive_items), two_years(page, rng)
    a, b = page.rows[item][old], page.rows[item][new]
    if float(b) >= float(a):
        return None
    phrasings = (
        "by what percent did {item} decline from {old} to {new} ?",
        "what was the percentage decrease of {item} between {old} and {new} ?",
        "how large was the drop in {item} from {old} to {new} , as a percent ?",
    )
    question = ask(rng, phrasings, item=item, old=old, new=new)
    return Draft(question, f"subtract({a}, {b}), divide(#0, {a})", (item,), shown_as="percent")


def rate_change(page: Page, rng: Random) -> Draft | None:
    rate, (old, new) = page.theme.rate, two_years(page, rng)
    if rate not in page.rows:
        return None
    phrasings = (
        "by how many percentage points did the {rate} change from {old} to {new} ?",
        "what is the difference between the {rate} of {new} and that of {old} ?",
    )
    values = page.rows[rate]
    question = ask(rng, phrasings, rate=rate, old=old, new=new)
    return Draft(question, f"subtract({values[new]}, {values[old]})", (rate,), shown_as="percent")


def change_in_share(page: Page, rng: Random) -> Draft:
    part, total, (old, new) = rng.choice(page.parts), page.theme.total, two_years(page, rng)
    phrasings = (
        "by how much did the share of {part} in {total} change from {old} to {new} ?",
        "what is the change in {part} as a portion of {total} between {old} and {new} ?",
    )
    parts, totals = page.rows[part], page.rows[total]
    program = f"divide({parts[new]}, {totals[new]}), divide({parts[old]}, {totals[old]}), subtract(#0, #1)"
    return Draft(
        ask(rng, phrasings, part=part, total=total, old=old, new=new),
        program,
        (part, total),
        shown_as="percent",
    )


# Items beside each other.


def ratio(page: Page, rng: Random) -> Draft:
    (top, bottom), year = rng.sample(page.positive_items, 2), rng.choice(page.years)
    phrasings = (
        "what was the ratio of {top} to {bottom} in {year} ?",
        "in {year} , how many times {bottom} was {top} ?",
        "for {year} , what is {top} divided by {bottom} ?",
    )
    program = f"divide({page.rows[top][year]}, {page.rows[bottom][year]})"
    return Draft(ask(rng, phrasings, top=top, bottom=bottom, year=year), program, (top, bottom))


def share_of_total(page: Page, rng: Random) -> Draft:
    part, total, year = rng.choice(page.parts), page.theme.total, rng.choice(page.years)
    phrasings = (
        "what percentage of {total} was {part} in {year} ?",
        "in {year} , what portion of {total} came from {part} ?",
        "what share did {part} have in {total} in {year} ?",
        "{part} accounted for what percent of {total} in {year} ?",
    )
    program = f"divide({page.rows[part][year]}, {page.rows[total][year]})"
    return Draft(ask(rng, phrasings, part=part, total=total, year=year), program, (part, total), shown_as="percent")


def share_of_the_rest(page: Page, rng: Random) -> Draft:
    part, total, year = rng.choice(page.parts), page.theme.total, rng.choice(page.years)
    phrasings = (
        "what percentage of {total} was not {part} in {year} ?",
        "in {year} , what share of {total} came from items other than {part} ?",
    )
    program = f"divide({page.rows[part][year]}, {page.rows[total][year]}), subtract(const_1, #0)"
    return Draft(ask(rng, phrasings, part=part, total=total, year=year), program, (part, total), shown_as="percent")


def total_without_item(page: Page, rng: Random) -> Draft:
    part, total, year = rng.choice(page.parts), page.theme.total, rng.choice(page.years)
    phrasings = (
        "what was {total} excluding {part} in {year} ?",
        "how much of {total} in {year} , in {unit} , was left without {part} ?",
    )
    program = f"subtract({page.rows[total][year]}, {page.rows[part][year]})"
    return Draft(ask(rng, phrasings, part=part, total=total, year=year, unit=page.unit), program, (total, part))


def sum_of_items(page: Page, rng: Random) -> Draft:
    (one, two), year = rng.sample(page.positive_items, 2), rng.choice(page.years)
    phrasings = (
        "what was the sum of {one} and {two} in {year} ?",
        "what did {one} and {two} come to together in {year} , in {unit} ?",
        "in {year} , what is the combined amount of {one} and {two} ?",
    )
    program = f"add({page.rows[one][year]}, {page.rows[two][year]})"
    return Draft(ask(rng, phrasings, one=one, two=two, year=year, unit=page.unit), program, (one, two))


def difference_between_items(page: Page, rng: Random) -> Draft:
    (one, two), year = rng.sample(page.amounts, 2), rng.choice(page.years)
    phrasings = (
        "what is the difference between {one} and {two} in {year} ?",
        "in {unit} , how much more or less was {one} than {two} in {year} ?",
        "in {year} , how much is {one} less {two} ?",
    )
    program = f"subtract({page.rows[one][year]}, {page.rows[two][year]})"
    return Draft(ask(rng, phrasings, one=one, two=two, year=year, unit=page.unit), program, (one, two))


# Averages and totals over years.


def average_of_two_years(page: Page, rng: Random) -> Draft:
    item, (old, new) = rng.choice(page.amounts), two_years(page, rng)
    phrasings = (
        "what was the average {item} for {old} and {new} ?",
        "what is the mean of {item} in {old} and {new} , in {unit} ?",
    )
    program = f"add({page.rows[item][old]}, {page.rows[item][new]}), divide(#0, const_2)"
    return Draft(ask(rng, phrasings, item=item, old=old, new=new, unit=page.unit), program, (item,))


def average_of_three_years(page: Page, rng: Random) -> Draft:
    item, years = rng.choice(page.amounts), page.years[-3:]
    phrasings = (
        "what was the average {item} over {a} , {b} and {c} ?",
        "what is the three year average of {item} from {a} to {c} ?",
    )
    a, b, c = (page.rows[item][year] for year in years)
    question = ask(rng, phrasings, item=item, a=years[0], b=years[1], c=years[2])
    return Draft(question, f"add({a}, {b}), add(#0, {c}), divide(#1, const_3)", (item,))


def cumulative_total(page: Page, rng: Random) -> Draft:
    item, years = rng.choice(page.positive_items), page.years[-3:]
    phrasings = (
        "what was the cumulative {item} from {a} to {c} ?",
        "what did {item} add up to over {a} , {b} and {c} , in {unit} ?",
        "in {unit} , how much {item} was there in the three years ended {c} ?",
    )
    a, b, c = (page.rows[item][year] for year in years)
    question = ask(rng, phrasings, item=item, a=years[0], b=years[1], c=years[2], unit=page.unit)
    return Draft(question, f"add({a}, {b}), add(#0, {c})", (item,))


def _over_the_row(operation: str, phrasings: tuple[str, ...], page: Page, rng: Random) -> Draft:
    item = rng.choice(list(page.rows))
    shown_as: Literal["percent", "number"] = "percent" if item == page.theme.rate else "number"
    return Draft(ask(rng, phrasings, item=item), f"{operation}({item}, none)", (item,), shown_as=shown_as)


def table_average(page: Page, rng: Random) -> Draft:
    phrasings = (
        "what was the average {item} over all years shown ?",
        "what is the mean {item} of the table ?",
    )
    return _over_the_row("table_average", phrasings, page, rng)


def table_max(page: Page, rng: Random) -> Draft:
    phrasings = (
        "what was the highest {item} of any year ?",
        "what is the greatest {item} in the years shown ?",
    )
    return _over_the_row("table_max", phrasings, page, rng)


def table_min(page: Page, rng: Random) -> Draft:
    phrasings = (
        "what was the lowest {item} of any year ?",
        "what is the smallest {item} in the years shown ?",
    )
    return _over_the_row("table_min", phrasings, page, rng)


def table_sum(page: Page, rng: Random) -> Draft:
    item = rng.choice(page.amounts)
    phrasings = (
        "what is the total of {item} over all years shown ?",
        "what does {item} sum to in the table ?",
    )
    return Draft(ask(rng, phrasings, item=item), f"table_sum({item}, none)", (item,))


def range_of_row(page: Page, rng: Random) -> Draft:
    item = rng.choice(page.amounts)
    phrasings = (
        "what is the difference between the highest and the lowest {item} of the table ?",
        "how wide is the range of {item} over the years shown ?",
    )
    program = f"table_max({item}, none), table_min({item}, none), subtract(#0, #1)"
    return Draft(ask(rng, phrasings, item=item), program, (item,))


def year_against_average(page: Page, rng: Random) -> Draft:
    item, year = rng.choice(page.positive_items), rng.choice(page.years)
    phrasings = (
        "how does {item} of {year} compare with its average over all years , as a ratio ?",
        "what is the ratio of {item} in {year} to the average of the years shown ?",
    )
    program = f"table_average({item}, none), divide({page.rows[item][year]}, #0)"
    return Draft(ask(rng, phrasings, item=item, year=year), program, (item,))


# Yes or no.


def comparison(page: Page, rng: Random) -> Draft | None:
    (one, two), year = rng.sample(page.amounts, 2), rng.choice(page.years)
    a, b = page.rows[one][year], page.rows[two][year]
    if float(a) == float(b):
        return None
    phrasings = (
        "was {one} greater than {two} in {year} ?",
        "in {year} , did {one} exceed {two} ?",
        "is {one} of {year} more than {two} of the same year ?",
    )
    question = ask(rng, phrasings, one=one, two=two, year=year)
    return Draft(question, f"greater({a}, {b})", (one, two), shown_as="yes or no")


def comparison_of_changes(page: Page, rng: Random) -> Draft:
    (one, two), (old, new) = rng.sample(page.positive_items, 2), two_years(page, rng)
    phrasings = (
        "did {one} rise by more {unit} than {two} from {old} to {new} ?",
        "from {old} to {new} , was the change in {one} larger than the change in {two} ?",
    )
    a, b = page.rows[one], page.rows[two]
    program = f"subtract({a[new]}, {a[old]}), subtract({b[new]}, {b[old]}), greater(#0, #1)"
    question = ask(rng, phrasings, one=one, two=two, old=old, new=new, unit=page.unit)
    return Draft(question, program, (one, two), shown_as="yes or no")


TABLE_KINDS: tuple[Kind, ...] = (
    absolute_change,
    percent_change,
    percent_decline,
    rate_change,
    change_in_share,
    ratio,
    share_of_total,
    share_of_the_rest,
    total_without_item,
    sum_of_items,
    difference_between_items,
    average_of_two_years,
    average_of_three_years,
    cumulative_total,
    table_average,
    table_max,
    table_min,
    table_sum,
    range_of_row,
    year_against_average,
    comparison,
    comparison_of_changes,
)
