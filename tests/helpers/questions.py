"""Questions with a gold program, their corruptions, and pools that reveal gold."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from finrank.page.page import Page
from finrank.pools.corruption.corrupt import Corruptor, Draft
from finrank.pools.corruption.likeness import Likeness
from finrank.programs import Program, parse
from finrank.programs.value import answer_key, value_of
from finrank.records import Candidate, Pool, Question
from finrank.sources.finqa import Example, gold_of, read_examples, to_question
from finrank.store import BadLine

N = 8
RATE = 0.5
# The 0.1 % quantile of chi-square with 7 degrees of freedom.
CHI_SQUARE_7 = 24.3

TABLE = [
    ["", "2009", "2008", "2007"],
    ["revenue", "$ 5829", "$ 5735", "$ 5100"],
    ["costs", "310", "290", "270"],
    ["tax", "-31 ( 31 )", "-29 ( 29 )", "-20 ( 20 )"],
]
TEXT = ["we paid $ 40 to 50 people ."]
PAGE = Page(TABLE, TEXT)
CHANGE = "subtract(5829, 5735), divide(#0, 5735)"


def make_question(name: str = "q", program: str | None = CHANGE, **fields: Any) -> Question:
    """A question about revenue on a small page; other fields of the record by name."""
    defaults = {"page": "p", "question": "?", "answer": 0.01639, "table": TABLE, "text": TEXT}
    return Question(id=name, program=program, **{**defaults, **fields})


def as_questions(examples: Iterable[Example | BadLine]) -> list[Question]:
    """The examples whose gold program has their answer as its value."""
    usable = (example for example in examples if isinstance(example, Example) and example.qa.program is not None)
    golds = ((example, gold_of(example)) for example in usable)
    return [to_question(example, gold.answer) for example, gold in golds if gold.problem is None]


def finqa_questions(path: Path) -> list[Question]:
    return as_questions(read_examples(path))


def small_corruptor(likeness: Likeness | None = None) -> Corruptor:
    """A corruptor on the small page."""
    return Corruptor(TABLE, TEXT, likeness or Likeness())


def draft_of(corruptor: Corruptor, program: str | Program) -> Draft:
    """A program as the start of corruption, with its value on the small page."""
    return corruptor.draft(parse(str(program)), value_of(program, TABLE).answer)


def corrupted(seeds: int, rate: float, text: str = CHANGE, likeness: Likeness | None = None) -> list[Draft]:
    """The corruptions of a program on the small page by so many seeds."""
    corruptor = small_corruptor(likeness)
    start = draft_of(corruptor, text)
    made = [corruptor.corrupt(start, random.Random(seed), rate) for seed in range(seeds)]
    assert None not in made
    return [draft for draft in made if draft is not None]


def made_by(edit: Callable[[Program, Page, random.Random], Program | None], text: str, page: Page = PAGE) -> set[str]:
    """All programs that an edit makes of a program."""
    edited = (edit(parse(text), page, random.Random(seed)) for seed in range(600))
    return {str(program) for program in edited if program is not None}


def gold_draft(question: Question, likeness: Likeness) -> tuple[Corruptor, Draft]:
    """A corruptor on the question's page, and its gold program as the start of corruption."""
    corruptor = Corruptor(question.table, question.text, likeness)
    return corruptor, corruptor.draft(parse(question.program or ""), question.answer)


def star_pool(question: Question, likeness: Likeness) -> Pool:
    """A pool as it should not be: each wrong candidate is gold with one edit."""
    rng = random.Random(question.id)
    corruptor, gold = gold_draft(question, likeness)
    candidates = [Candidate(program=str(gold.program), answer=gold.answer, origin="gold")]
    seen = {answer_key(gold.answer), None}
    for _ in range(400):
        draft = corruptor.corrupt(gold, rng, 0.0)
        if draft is not None and answer_key(draft.answer) not in seen:
            seen.add(answer_key(draft.answer))
            candidates.append(draft.as_candidate())
        if len(candidates) == N:
            break
    rng.shuffle(candidates)
    return Pool.of(question, candidates=candidates)


class Questions(NamedTuple):
    """Two lists of questions that share no page."""

    train: list[Question]
    dev: list[Question]
