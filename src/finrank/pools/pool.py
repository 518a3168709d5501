"""Assembling a pool: the gold candidate and N - 1 wrong ones, all of different values, in a shuffled order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from finrank.errors import UserError
from finrank.pools.corruption.corrupt import Corruptor, Draft
from finrank.pools.corruption.likeness import Likeness
from finrank.pools.corruption.structure_edits import break_program
from finrank.pools.corruption.trees import grow
from finrank.pools.equal_answers import is_right
from finrank.programs import Program, ProgramError, parse
from finrank.programs.value import value_of
from finrank.records import Answer, Candidate, Pool, Question

_FAULTS = 8  # tried before a candidate is left whole


@dataclass(frozen=True)
class PoolSettings:
    """How pools are made; the defaults are those of stage 02. UserError for settings out of range."""

    num_candidates: int = 8
    """Candidates of a pool, the gold one among them."""
    corruption_rate: float = 0.5
    """Chance of one more edit after each edit of a wrong candidate: low rates make near misses, high rates far ones."""
    failing_share: float = 0.02
    """Share of corrupted candidates that fail to execute."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_candidates < 2:
            raise UserError(f"num_candidates is {self.num_candidates}: a pool needs 2 at least, gold and a wrong one")
        rate, share = "chance of one more edit (default 0.5)", "share of wrong candidates that fail"
        for name, meaning in (("corruption_rate", rate), ("failing_share", share)):
            if not 0.0 <= (value := getattr(self, name)) < 1.0:
                raise UserError(f"{name} is {value}: it is the {meaning}, from 0 to below 1")


class NoPool(ValueError):
    """A question without a pool; the text is the reason for `rejects.jsonl`, which begins with its `kind`."""

    def __init__(self, kind: str, details: str = "") -> None:
        super().__init__(f"{kind}: {details}" if details else kind)
        self.kind = kind


def build_pool(
    question: Question, settings: PoolSettings, likeness: Likeness | None = None, others: Sequence[Candidate] = ()
) -> Pool:
    """The pool of a question: its candidates, fewer than asked for (2 at least) where no more can be made.

    `others` are wrong candidates with a value that did not come from gold; corruption makes the rest, of other values.
    Depends on these, the question, the settings and the likeness (None: FinQA's shapes alone) only. Raises NoPool with
    the reason when the question has no program to start from, or no wrong candidate can be made.
    """
    gold, answer = gold_program(question)
    rng = random.Random(f"{settings.seed}:{question.id}")
    corruptor = Corruptor.on(question.table, question.text, likeness or Likeness())
    start = corruptor.draft(gold, answer)
    # A tree of just as many nodes: in a part of a larger one gold would no longer be at a node drawn at random.
    size = settings.num_candidates - len(others)
    drafts = grow(corruptor, start, size, settings.corruption_rate, rng, partial(_is_value_of, others, question))
    if not drafts and not others:
        raise NoPool("no wrong candidate could be made", "every edit of the gold program gives its value")
    candidates = [Candidate(program=str(gold), answer=answer, origin="gold"), *others]
    for draft in drafts:
        candidate = None
        if settings.failing_share > 0.0 and rng.random() < settings.failing_share:
            candidate = _broken(draft, question, corruptor, rng, {candidate.program for candidate in candidates})
        candidates.append(candidate or draft.as_candidate())
    return shuffled_pool(question.model_copy(update={"answer": answer}), candidates, settings.seed)


def _is_value_of(candidates: Sequence[Candidate], question: Question, answer: Answer | None) -> bool:
    return any(is_right(candidate, answer, question.question) for candidate in candidates)


def shuffled_pool(question: Question, candidates: Sequence[Candidate], seed: int) -> Pool:
    """The pool of these candidates, in an order that depends on the seed and the question's id alone."""
    order = list(candidates)
    # Another generator than the one that made the candidates, so that the order reveals nothing about them.
    random.Random(f"order:{seed}:{question.id}").shuffle(order)
    return Pool.of(question, candidates=order)


def gold_program(question: Question) -> tuple[Program, Answer]:
    """The gold program of a question and its value; NoPool with the reason where there are none.

    A stored answer is taken as it is, as long as the program has a value: stage 03 compares the two.
    """
    if question.program is None:
        raise NoPool("no program")
    try:
        program = parse(question.program)
    except ProgramError as error:
        raise NoPool("the gold program does not parse", str(error)) from None
    value = value_of(program, question.table)
    if value.answer is None:
        raise NoPool("the gold program does not execute", str(value.error))
    return program, value.answer if question.answer is None else question.answer


def _broken(
    draft: Draft, question: Question, corruptor: Corruptor, rng: random.Random, written: set[str | None]
) -> Candidate | None:
    """The candidate with a fault that leaves it without a value; None where the faults that are drawn do no harm."""
    for _ in range(_FAULTS):
        broken = break_program(draft.program, corruptor.page, rng)
        error = value_of(broken, question.table).error
        if error is None:
            break
        if str(broken) not in written:
            return Candidate(program=str(broken), error=error, origin="corrupted", edits=[*draft.edits, "break"])
    return None
