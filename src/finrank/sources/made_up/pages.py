"""Pages of the embedded data: a made-up company, a table over several years, sentences around it.

Written as in FinQA: lower case, spaces round punctuation, "$ 637", "-32 ( 32 )" and "22% ( 22 % )".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

WORDING: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("wording.yaml").read_text(encoding="utf-8"))
FactKind = Literal["two years", "share", "guidance", "shares outstanding", "employees"]


class Theme(BaseModel):
    """The subject of a page's table, and the labels of its rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: str
    total: str
    parts: list[str]  # these rows add up to the total
    similar: list[str]  # rows easily mistaken for the total or a part
    signed: str  # a row that may be negative
    rate: str  # a row of percentages
    physical_unit: str | None = None  # None: money, in millions or thousands


_THEMES = TypeAdapter(tuple[Theme, ...]).validate_python(WORDING["themes"])


@dataclass(frozen=True)
class Fact:
    """A sentence with figures that the table does not have: `numbers` of the page's last two years, `old` and `new`."""

    kind: FactKind
    sentence: str
    subject: str
    numbers: dict[str, str]


@dataclass(frozen=True)
class MadeUpPage:
    """A page of the embedded data. Numbers are kept as the text a program would write: "637", "-3.2", "22%"."""

    filename: str
    theme: Theme
    unit: str
    years: tuple[str, ...]  # ascending
    newest_first: bool
    rows: dict[str, dict[str, str]]  # label -> year -> number, in the order of the table
    parts: tuple[str, ...]
    positive_items: tuple[str, ...]  # labels of rows of positive amounts
    facts: tuple[Fact, ...]
    pre_text: tuple[str, ...]
    post_text: tuple[str, ...]

    @property
    def amounts(self) -> list[str]:
        """Labels of all rows but the percentages."""
        return [label for label in self.rows if label != self.theme.rate]

    def table(self) -> list[list[str]]:
        """The table as FinQA writes it; of money, the first row and the total have dollar signs."""
        is_money = self.theme.physical_unit is None
        years = self.years[::-1] if self.newest_first else self.years
        table = [[f"( in {self.unit} )", *years]]
        for index, (label, numbers) in enumerate(self.rows.items()):
            dollars = is_money and label != self.theme.rate and (index == 0 or label == self.theme.total)
            table.append([label, *(_cell(numbers[year], dollars) for year in years)])
        return table


def _cell(number: str, dollars: bool = False) -> str:
    if number.endswith("%"):
        return f"{number} ( {number[:-1]} % )"
    text = f"{number} ( {number[1:]} )" if number.startswith("-") else number
    return f"$ {text}" if dollars else text


def make_page(rng: Random, page_number: int) -> MadeUpPage:
    """A page of a random company, theme and run of years; `page_number` becomes part of the file name."""
    stem = "".join(map(rng.choice, WORDING["syllables"]))
    company_kind = rng.choice(WORDING["companies"])
    ticker = (stem[:3] + company_kind[0]).upper()
    theme = rng.choice(_THEMES)
    last = rng.randint(2004, 2018)
    years = tuple(str(year) for year in range(last - rng.choice((2, 2, 2, 2, 3)), last + 1))
    parts = tuple(rng.sample(theme.parts, rng.choice((2, 3, 3))))
    rows = _rows(rng, theme, parts, years)
    items = tuple(label for label in rows if label not in (theme.signed, theme.rate))
    facts = tuple(_fact(kind, rng, theme, items, years) for kind in rng.sample(get_args(FactKind), 2))
    unit = theme.physical_unit or rng.choice(("millions", "millions", "thousands"))
    remark = rng.choice(WORDING["remarks"]).format(
        year=rng.choice(years), number=rng.randint(3, 95), similar=rng.choice(theme.similar), total=theme.total
    )
    names = {"company": f"{stem} {company_kind} , inc .", "subject": theme.subject, "unit": unit}
    names |= {"y0": years[0], "y1": years[-1]}
    opening, introduction = (rng.choice(WORDING[name]).format(**names) for name in ("openings", "introductions"))
    sentences = [*(fact.sentence for fact in facts), *([remark] if rng.random() < 0.6 else [])]
    rng.shuffle(sentences)
    before = rng.choice((0, 0, 1))  # sentences that go before the table
    return MadeUpPage(
        filename=f"{ticker}/{last}/page_{page_number}.pdf",
        theme=theme,
        unit=unit,
        years=years,
        newest_first=rng.random() < 0.7,
        rows=rows,
        parts=parts,
        positive_items=items,
        facts=facts,
        pre_text=(opening, *sentences[:before], introduction),
        post_text=tuple(sentences[before:]),
    )


def _rows(rng: Random, theme: Theme, parts: tuple[str, ...], years: tuple[str, ...]) -> dict[str, dict[str, str]]:
    tenths = rng.random() < 0.25  # one decimal on this page; values are counted in its smallest unit
    amounts = {label: _series(rng, rng.randint(120, 4000), len(years)) for label in parts}
    amounts[theme.total] = [sum(values) for values in zip(*amounts.values(), strict=True)]
    for label in rng.sample(theme.similar, rng.choice((1, 1, 1, 2))):
        amounts[label] = _series(rng, rng.randint(120, 4000), len(years))
    if rng.random() < 0.4:
        signed = _series(rng, rng.randint(15, 300), len(years))
        amounts[theme.signed] = [value * rng.choice((-1, -1, 1)) for value in signed]
    rows = {
        label: {year: _number(value, tenths) for year, value in zip(years, values, strict=True)}
        for label, values in amounts.items()
    }
    if rng.random() < 0.4:
        rates = _series(rng, rng.randint(40, 450), len(years))  # tenths of a percent
        rows[theme.rate] = {year: f"{rate / 10:.1f}%" for year, rate in zip(years, rates, strict=True)}
    return rows


def _series(rng: Random, first: int, length: int) -> list[int]:
    """Yearly values that wander by at most a third a year, no two neighbours equal."""
    values = [first]
    while len(values) < length:
        step = round(values[-1] * rng.uniform(-0.25, 0.35))
        values.append(values[-1] + (step or 1))
    return values


def _number(value: int, tenths: bool) -> str:
    return f"{value / 10:.1f}" if tenths else str(value)


def _percent(rng: Random, low: int, high: int) -> str:
    whole = rng.randint(low, high)
    return f"{whole}.{rng.randint(1, 9)}%" if rng.random() < 0.4 else f"{whole}%"


def _fact(kind: FactKind, rng: Random, theme: Theme, items: tuple[str, ...], years: tuple[str, ...]) -> Fact:
    old = ""
    if kind == "two years":
        subject = rng.choice(list(WORDING["two_years"]))
        tenths = rng.random() < 0.3
        old, new = (_number(value, tenths) for value in _series(rng, rng.randint(40, 900), 2))
    elif kind == "share":
        new, subject = _percent(rng, 6, 45), rng.choice(WORDING["share_origins"])
    elif kind == "guidance":
        new, subject = _percent(rng, 2, 15), rng.choice(items)
    elif kind == "shares outstanding":
        new, subject = f"{rng.randint(110, 990) / 10:.1f}", "shares"
    else:
        new, subject = str(rng.randint(9, 99) * 100), "employees"
    sentence: str = WORDING["two_years"][subject] if kind == "two years" else WORDING["facts"][kind]
    names = {"cell": _cell(new), "total": theme.total, "subject": subject, "next": str(int(years[-1]) + 1)}
    written = sentence.format(old=old, new=new, y0=years[-2], y1=years[-1], **names)
    return Fact(kind, written, subject, {"old": old, "new": new})
