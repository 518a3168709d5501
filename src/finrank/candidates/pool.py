"""Assembling a pool: the gold candidate and N - 1 wrong ones with values of their own, in a shuffled order.

Making a wrong program (`corrupt`) is one thing, and which of them make the pool (`choose`) another.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from finrank.candidates.corrupt import corrupt
from finrank.candidates.page import Page
from finrank.programs import Program, ProgramError, execute, parse
from finrank.records import Answer, Candidate, Pool, Question, answer_key

# Corrupted programs looked at for each place in the pool before a smaller pool is taken.
_TRIES_PER_CANDIDATE = 60
_MOST_FAILING = 1


class NoPool(ValueError):
    """A question that no pool can be made of; the text is the reason, fit for `rejects.jsonl`, `kind` is its kind."""

    def __init__(self, kind: str, details: str = "") -> None:
        super().__init__(f"{kind}: {details}" if details else kind)
        self.kind = kind


@dataclass(frozen=True)
class Value:
    """What a program computes, or why it computes nothing (non-finite values count as nothing)."""

    answer: Answer | None
    error: str | None = None


def evaluate(program: Program, table: list[list[str]]) -> Value:
    """Execute a program for a candidate record."""
    try:
        value = execute(program, table)
    except ProgramError as error:
        return Value(None, str(error))
    if isinstance(value, float):
        return Value(value) if math.isfinite(value) else Value(None, f"the value is {value}")
    return Value("yes" if value == "yes" else "no")


def build_pool(question: Question, *, num_candidates: int, corruption_rate: float, seed: int) -> Pool:
    """The pool of a question: at most `num_candidates` candidates, fewer (2 at least) where no more can be made.

    Depends on the question, the seed and the two settings alone. Raises NoPool with the reason when the question has
    no program to start from, its program does not give its answer, or nothing can be made of it.
    """
    gold, answer = _gold(question)
    rng = random.Random(f"{seed}:{question.id}")
    negatives = corrupted_candidates(gold, question, rng, corruption_rate)
    chosen = choose(answer, negatives, num_candidates - 1)
    if not chosen:
        raise NoPool("no wrong candidate could be made", "every edit of the gold program gives its value")
    candidates = [Candidate(program=str(gold), answer=answer, origin="gold"), *chosen]
    # A generator of its own: the order then tells nothing about how the candidates were made.
    random.Random(f"order:{seed}:{question.id}").shuffle(candidates)
    fields = {name: getattr(question, name) for name in Question.model_fields}
    return Pool(**{**fields, "answer": answer}, candidates=candidates)


def _gold(question: Question) -> tuple[Program, Answer]:
    """The gold program and its value; NoPool where they cannot be trusted."""
    if question.program is None:
        raise NoPool("no program")
    try:
        program = parse(question.program)
    except ProgramError as error:
        raise NoPool("the gold program does not parse", str(error)) from None
    value = evaluate(program, question.table)
    if value.answer is None:
        raise NoPool("the gold program does not execute", str(value.error))
    if question.answer is not None and answer_key(value.answer) != answer_key(question.answer):
        raise NoPool("the gold program does not give the answer", f"{value.answer}, not {question.answer}")
    return program, value.answer


def corrupted_candidates(
    gold: Program, question: Question, rng: random.Random, corruption_rate: float
) -> Iterator[Candidate]:
    """Corruptions of the gold program without end, repeats and right answers among them."""
    page = Page(question.table, question.text)
    while (made := corrupt(gold, page, rng, corruption_rate)) is not None:
        program, edits = made
        value = evaluate(program, question.table)
        yield Candidate(program=str(program), answer=value.answer, error=value.error, origin="corrupted", edits=edits)


def choose(answer: Answer, candidates: Iterator[Candidate], count: int) -> list[Candidate]:
    """The first `count` candidates whose values differ from the gold answer and from each other's.

    One of them at most has no value. Fewer where the candidates give no more within a bounded number of tries.
    """
    chosen: list[Candidate] = []
    seen: set[float | str | None] = {answer_key(answer)}
    failing = 0
    for _ in range(_TRIES_PER_CANDIDATE * count):
        candidate = next(candidates, None) if len(chosen) < count else None
        if candidate is None:
            break
        if candidate.answer is None:
            if failing == _MOST_FAILING:
                continue
            failing += 1
        elif answer_key(candidate.answer) in seen:
            continue
        else:
            seen.add(answer_key(candidate.answer))
        chosen.append(candidate)
    return chosen
