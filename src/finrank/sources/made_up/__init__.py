"""The embedded sample: seeded, made-up examples in the official FinQA layout, for runs without FinQA."""

from __future__ import annotations

from random import Random
from typing import Any

from finrank.programs.value import value_of
from finrank.sources.made_up.draft import Draft
from finrank.sources.made_up.pages import Page, make_page
from finrank.sources.made_up.table_questions import TABLE_KINDS
from finrank.sources.made_up.text_questions import TEXT_KINDS

KINDS = TABLE_KINDS + TEXT_KINDS
SPLITS = ("train", "dev", "test")
_MOST_PER_PAGE = 3
MOST_QUESTIONS = 50_000  # per split: page names run out at somewhat more than this


def generate(train: int = 600, dev: int = 150, test: int = 150, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Examples by split, so many of each; the same arguments give the same examples.

    Every program executes to its `exe_ans`. No page is in two splits, and a split does not depend on the
    sizes of the others. An example has the keys id, filename, pre_text, post_text, table and qa, and its qa
    the keys question, answer, program, exe_ans and gold_inds. Raises ValueError for more than MOST_QUESTIONS in one.
    """
    sizes = {"train": train, "dev": dev, "test": test}
    if max(sizes.values()) > MOST_QUESTIONS:
        raise ValueError(f"at most {MOST_QUESTIONS} questions a split, got {sizes}")
    return {split: _split(split, size, seed) for split, size in sizes.items()}


def _split(split: str, size: int, seed: int) -> list[dict[str, Any]]:
    rng = Random(f"{seed}:{split}")  # seeding with text uses sha512: the same on every machine
    examples: list[dict[str, Any]] = []
    taken: set[str] = set()
    while len(examples) < size:
        # page numbers of the splits interleave, so no two splits can share a page
        page = make_page(rng, len(SPLITS) * rng.randint(1, 60) + SPLITS.index(split))
        if page.filename in taken:
            continue
        taken.add(page.filename)
        drafts = _drafts(page, rng, min(rng.randint(1, _MOST_PER_PAGE), size - len(examples)))
        examples += [_example(page, draft, number) for number, draft in enumerate(drafts, start=1)]
    return examples


def _drafts(page: Page, rng: Random, count: int) -> list[Draft]:
    """Questions of different kinds that this page can answer."""
    drafts: list[Draft] = []
    for kind in rng.sample(KINDS, len(KINDS)):
        draft = kind(page, rng)
        if draft is not None:
            drafts.append(draft)
        if len(drafts) == count:
            break
    return drafts


def _example(page: Page, draft: Draft, number: int) -> dict[str, Any]:
    table = page.table()
    value = value_of(draft.program, table).answer
    assert value is not None, f"a made-up program without a value: {draft.program}"
    return {
        "id": f"{page.filename}-{number}",
        "filename": page.filename,
        "pre_text": list(page.pre_text),
        "post_text": list(page.post_text),
        "table": table,
        "qa": {
            "question": draft.question,
            "answer": _shown(value, draft),
            "program": draft.program,
            "exe_ans": value,
            "gold_inds": _gold_inds(page, table, draft),
        },
    }


def _shown(value: float | str, draft: Draft) -> str:
    """The answer as a person would write it: 12.6% for 0.12574."""
    if isinstance(value, str):
        return value
    return f"{100 * value:.1f}%" if draft.shown_as == "percent" else f"{value:.2f}".rstrip("0").rstrip(".")


def _gold_inds(page: Page, table: list[list[str]], draft: Draft) -> dict[str, str]:
    """The evidence in the official form: "table_<row>" and "text_<sentence>", each with its text."""
    labels = [row[0] for row in table]
    text = [*page.pre_text, *page.post_text]
    rows = {f"table_{place}": _row_as_sentence(table, place) for place in sorted(map(labels.index, draft.rows))}
    return rows | {f"text_{text.index(fact.sentence)}": fact.sentence for fact in draft.facts}


def _row_as_sentence(table: list[list[str]], place: int) -> str:
    """A row as FinQA puts it: "( in millions ) the total revenue of 2012 is $ 637 ; ..."."""
    label, *cells = table[place]
    described = (f"the {label} of {year} is {cell} ;" for year, cell in zip(table[0][1:], cells, strict=True))
    return " ".join([table[0][0], *described])
