"""The embedded data: seeded, made-up examples in the official FinQA layout, for runs without FinQA."""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import Any

from finrank.programs.value import value_of
from finrank.sources.made_up.kinds import KINDS, MadeUpQuestion
from finrank.sources.made_up.pages import MadeUpPage, make_page

SPLITS = ("train", "dev", "test")
_MAX_PER_PAGE = 3
MAX_QUESTIONS = 50_000  # per split: page names run out at somewhat more than this


def generate(train: int = 600, dev: int = 150, test: int = 150, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Examples by split, as many as asked for; the same arguments return the same examples.

    Every program executes to its `exe_ans`. No page is in two splits, and a split does not depend on the sizes of the
    others. Raises ValueError for more than MAX_QUESTIONS in a split.
    """
    sizes = {"train": train, "dev": dev, "test": test}
    if max(sizes.values()) > MAX_QUESTIONS:
        raise ValueError(f"at most {MAX_QUESTIONS} questions a split, got {sizes}")
    return {split: _split(split, size, seed) for split, size in sizes.items()}


def _split(split: str, size: int, seed: int) -> list[dict[str, Any]]:
    rng = Random(f"{seed}:{split}")  # seeding with text uses sha512: the same on every machine
    examples: list[dict[str, Any]] = []
    pages: set[str] = set()
    while len(examples) < size:
        # page numbers of the splits interleave, so no two splits can share a page
        page = make_page(rng, len(SPLITS) * rng.randint(1, 60) + SPLITS.index(split))
        if page.filename in pages:
            continue
        pages.add(page.filename)
        count = min(rng.randint(1, _MAX_PER_PAGE), size - len(examples))
        drawn = (kind.ask(page, rng) for kind in rng.sample(KINDS, len(KINDS)))
        asked = islice(filter(None, drawn), count)
        examples += [_example(page, question, number) for number, question in enumerate(asked, start=1)]
    return examples


def _example(page: MadeUpPage, asked: MadeUpQuestion, number: int) -> dict[str, Any]:
    table = page.table()
    value = value_of(asked.program, table).answer
    assert value is not None, f"a made-up program without a value: {asked.program}"
    return {
        "id": f"{page.filename}-{number}",
        "filename": page.filename,
        "pre_text": list(page.pre_text),
        "post_text": list(page.post_text),
        "table": table,
        "qa": {
            "question": asked.question,
            "answer": _written(value, asked.percent),
            "program": asked.program,
            "exe_ans": value,
            "gold_inds": _gold_inds(page, table, asked),
        },
    }


def _written(value: float | str, percent: bool) -> str:
    """The answer as a person would write it: 12.6% for 0.12574."""
    if isinstance(value, str):
        return value
    return f"{100 * value:.1f}%" if percent else f"{value:.2f}".rstrip("0").rstrip(".")


def _gold_inds(page: MadeUpPage, table: list[list[str]], asked: MadeUpQuestion) -> dict[str, str]:
    """The evidence in the official form: "table_<row>" and "text_<sentence>", each with its text.

    A row's text is a sentence: "( in millions ) the total revenue of 2012 is $ 637 ; ...".
    """
    unit, *years = table[0]
    labels = [row[0] for row in table]
    evidence = {}
    for row in sorted(map(labels.index, asked.rows)):
        cells = zip(years, table[row][1:], strict=True)
        evidence[f"table_{row}"] = " ".join(
            [unit, *(f"the {labels[row]} of {year} is {cell} ;" for year, cell in cells)]
        )
    if asked.fact is not None:
        text = [*page.pre_text, *page.post_text]
        evidence[f"text_{text.index(asked.fact.sentence)}"] = asked.fact.sentence
    return evidence
