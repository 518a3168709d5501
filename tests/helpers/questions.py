"""Questions with a gold program, of the embedded sample and of real FinQA, and pools that give gold away."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from finrank.pools.corrupt import Corruptor
from finrank.pools.likeness import Likeness
from finrank.pools.pool import gold_of
from finrank.programs.value import answer_key
from finrank.records import Candidate, Pool, Question
from finrank.sources import finqa
from finrank.sources.finqa import Example, Fault, read_examples, to_question

N = 8
RATE = 0.5

TABLE = [
    ["", "2009", "2008", "2007"],
    ["revenue", "$ 5829", "$ 5735", "$ 5100"],
    ["costs", "310", "290", "270"],
    ["tax", "-31 ( 31 )", "-29 ( 29 )", "-20 ( 20 )"],
]
TEXT = ["we paid $ 40 to 50 people ."]


def make_question(
    name: str = "q", program: str | None = "subtract(5829, 5735), divide(#0, 5735)", **fields: Any
) -> Question:
    """A question about revenue on a small page; other fields of the record by name."""
    given = {"page": "p", "question": "?", "answer": 0.01639, "table": TABLE, "text": TEXT, **fields}
    return Question(id=name, program=program, **given)


def as_questions(examples: Iterable[Example | Fault]) -> list[Question]:
    """The examples whose gold program gives their answer."""
    sound = []
    for example in examples:
        if isinstance(example, Example) and example.qa.program is not None:
            gold = finqa.gold_of(example)
            if gold.problem is None:
                sound.append(to_question(example, gold.answer))
    return sound


def finqa_questions(path: Path) -> list[Question]:
    return as_questions(read_examples(path))


def star_pool(question: Question, likeness: Likeness) -> Pool:
    """A pool as it should not be: each wrong candidate is gold with one edit."""
    rng = random.Random(question.id)
    program, answer = gold_of(question)
    corruptor = Corruptor(question.table, question.text, likeness)
    gold = corruptor.draft(program)
    candidates = [Candidate(program=str(program), answer=answer, origin="gold")]
    seen = {answer_key(answer)}
    for _ in range(400):
        draft = corruptor.corrupt(gold, rng, 0.0)
        if draft is None or draft.value.answer is None or answer_key(draft.value.answer) in seen:
            continue
        seen.add(answer_key(draft.value.answer))
        candidates.append(
            Candidate(
                program=str(draft.program), answer=draft.value.answer, origin="corrupted", edits=list(draft.edits)
            )
        )
        if len(candidates) == N:
            break
    rng.shuffle(candidates)
    return Pool(**{**question.model_dump(), "candidates": candidates})


class Questions(NamedTuple):
    """Two lists of questions that share no page."""

    train: list[Question]
    dev: list[Question]
