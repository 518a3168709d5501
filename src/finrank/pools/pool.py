"""Assembling a pool: the gold candidate and N - 1 wrong ones with values of their own, in a shuffled order."""

from __future__ import annotations

import random
from collections.abc import Sequence

from finrank.pools.breaking import break_program
from finrank.pools.corrupt import Corruptor, Draft
from finrank.pools.likeness import Likeness
from finrank.pools.trees import grow
from finrank.programs import Program, ProgramError, parse
from finrank.programs.value import answer_key, value_of
from finrank.records import Answer, Candidate, Pool, Question

_FAULTS = 8  # tried before a candidate is left whole


class NoPool(ValueError):
    """A question that no pool can be made of; the text is the reason, fit for `rejects.jsonl`, `kind` is its kind."""

    def __init__(self, kind: str, details: str = "") -> None:
        super().__init__(f"{kind}: {details}" if details else kind)
        self.kind = kind


def build_pool(
    question: Question,
    *,
    num_candidates: int,
    corruption_rate: float,
    failing_share: float = 0.0,
    likeness: Likeness | None = None,
    seed: int,
) -> Pool:
    """The pool of a question: at most `num_candidates` candidates, fewer (2 at least) where no more can be made.

    Depends on the question, the seed and the settings alone. `failing_share` is the chance of a wrong candidate to have
    no value; `likeness` says what gold programs look like (None: by FinQA's shapes alone). Raises NoPool with the
    reason when the question has no program to start from, its program does not give its answer, or nothing can be made
    of it.
    """
    gold, answer = gold_of(question)
    rng = random.Random(f"{seed}:{question.id}")
    likeness = likeness or Likeness()
    corruptor = Corruptor(question.table, question.text, likeness)
    drafts = grow(corruptor, corruptor.draft(gold), num_candidates, corruption_rate, rng)
    if not drafts:
        raise NoPool("no wrong candidate could be made", "every edit of the gold program gives its value")
    candidates = [Candidate(program=str(gold), answer=answer, origin="gold")]
    for draft in drafts:
        fails = failing_share > 0.0 and rng.random() < failing_share
        written = {candidate.program for candidate in candidates}
        candidates.append(_broken(draft, question, corruptor, rng, written) if fails else _candidate(draft))
    return shuffled_pool(question.model_copy(update={"answer": answer}), candidates, seed)


def shuffled_pool(question: Question, candidates: Sequence[Candidate], seed: int) -> Pool:
    """The pool of these candidates, in an order that depends on the seed and the question's id alone."""
    order = list(candidates)
    random.Random(f"order:{seed}:{question.id}").shuffle(order)
    return Pool.of(question, candidates=order)


def _candidate(draft: Draft) -> Candidate:
    return Candidate(program=str(draft.program), answer=draft.value.answer, origin="corrupted", edits=list(draft.edits))


def _broken(
    draft: Draft, question: Question, corruptor: Corruptor, rng: random.Random, written: set[str | None]
) -> Candidate:
    """The candidate with a fault of its own that leaves it without a value; as it is where the fault does no harm."""
    for _ in range(_FAULTS):
        broken = break_program(draft.program, corruptor.page, rng)
        error = value_of(broken, question.table).error
        if error is None:
            break
        if str(broken) not in written:
            return Candidate(program=str(broken), error=error, origin="corrupted", edits=[*draft.edits, "break"])
    return _candidate(draft)


def gold_of(question: Question) -> tuple[Program, Answer]:
    """The gold program of a question and its value; NoPool where they cannot be trusted."""
    if question.program is None:
        raise NoPool("no program")
    try:
        program = parse(question.program)
    except ProgramError as error:
        raise NoPool("the gold program does not parse", str(error)) from None
    value = value_of(program, question.table)
    if value.answer is None:
        raise NoPool("the gold program does not execute", str(value.error))
    if question.answer is not None and answer_key(value.answer) != answer_key(question.answer):
        raise NoPool("the gold program does not give the answer", f"{value.answer}, not {question.answer}")
    return program, value.answer
