"""Medoids: the candidate nearest to its siblings, by value or by program text, in several distances.

Where wrong candidates are edits of gold, gold lies in the middle of them. The anti-medoid, the candidate farthest from
its siblings, finds a gold that never lies there. Candidates without a value come last in both.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from finrank.evaluation.baselines import answer_distance, medoid, medoid_text, nearness, program_tokens
from finrank.evaluation.metrics import FloatArray
from finrank.programs import ProgramError, operands, parse
from finrank.programs.shape import shape_of
from finrank.records import Answer, Candidate, Pool

_LOG_SPAN = 6.0  # values a million times apart are as far as can be


def medoid_by_log(pool: Pool) -> FloatArray:
    """By the logarithm of values: 10 is as near to 1 as to 100; other signs are as far as can be."""
    return nearness(pool, lambda first, second: log_distance(first.answer, second.answer))


def log_distance(first: Answer | None, second: Answer | None) -> float:
    """|log10(a / b)| / 6, at most 1; `answer_distance` where one is no number, is 0, or has the other sign.

    >>> log_distance(10.0, 1000.0), log_distance(10.0, -10.0), log_distance("yes", "yes")
    (0.3333333333333333, 1.0, 0.0)
    """
    if not isinstance(first, float) or not isinstance(second, float) or first * second <= 0:
        return answer_distance(first, second)
    return min(1.0, abs(math.log10(abs(first)) - math.log10(abs(second))) / _LOG_SPAN)


def medoid_by_rank(pool: Pool) -> FloatArray:
    """By place in the sorted order of values: the highest is the median. Yes and no are 1 away from numbers."""
    ranks = value_ranks(pool)
    span = max(len(set(ranks.values())) - 1, 1)

    def distance(first: Candidate, second: Candidate) -> float:
        if not isinstance(first.answer, float) or not isinstance(second.answer, float):
            return answer_distance(first.answer, second.answer)
        return abs(ranks[first.answer] - ranks[second.answer]) / span

    return nearness(pool, distance)


def value_ranks(pool: Pool) -> dict[float, int]:
    """The place of each distinct number among the pool's values in ascending order, from 0."""
    return {
        value: rank
        for rank, value in enumerate(sorted({c.answer for c in pool.candidates if isinstance(c.answer, float)}))
    }


def medoid_by_token_counts(pool: Pool) -> FloatArray:
    """By program tokens with repeats: 1 - sum of smaller counts / sum of larger counts."""
    return nearness(
        pool, lambda first, second: _multiset_distance(program_tokens(first.program), program_tokens(second.program))
    )


def medoid_by_token_edits(pool: Pool) -> FloatArray:
    """By the number of token edits from one program to the other, over the longer one's length."""
    return nearness(
        pool, lambda first, second: edit_distance(program_tokens(first.program), program_tokens(second.program))
    )


def medoid_by_shape_and_operands(pool: Pool) -> FloatArray:
    """Half by having another shape, half by the operands that are not shared."""
    return nearness(pool, _shape_and_operand_distance)


def _multiset_distance(first: tuple[str, ...], second: tuple[str, ...]) -> float:
    own, others = Counter(first), Counter(second)
    every = (own | others).total()
    return 1.0 - (own & others).total() / every if every else 0.0


def edit_distance(first: tuple[str, ...], second: tuple[str, ...]) -> float:
    """Levenshtein's distance over the length of the longer, in [0, 1]; 1 where one is empty.

    >>> edit_distance(("add", "1", "2"), ("add", "2", "1"))
    0.6666666666666666
    """
    if not first or not second:
        return 1.0
    above = list(range(len(second) + 1))
    for row, token in enumerate(first, start=1):
        current = [row]
        for column, other in enumerate(second):
            current.append(min(above[column] + (token != other), above[column + 1] + 1, current[column] + 1))
        above = current
    return above[-1] / max(len(first), len(second))


def _shape_and_operand_distance(first: Candidate, second: Candidate) -> float:
    own, others = _shape_and_operands(first.program), _shape_and_operands(second.program)
    if own is None or others is None:
        return 1.0
    return 0.5 * (own[0] != others[0]) + 0.5 * _multiset_distance(own[1], others[1])


@lru_cache(maxsize=4096)
def _shape_and_operands(text: str | None) -> tuple[str, tuple[str, ...]] | None:
    try:
        program = parse(text or "")
    except ProgramError:
        return None
    return shape_of(program), tuple(operands(program))


BY_VALUE: dict[str, Callable[[Pool], FloatArray]] = {
    "relative difference": medoid,
    "log": medoid_by_log,
    "rank": medoid_by_rank,
}
BY_TEXT: dict[str, Callable[[Pool], FloatArray]] = {
    "tokens": medoid_text,
    "token counts": medoid_by_token_counts,
    "token edits": medoid_by_token_edits,
    "shape and operands": medoid_by_shape_and_operands,
}


def farthest(pool: Pool, scores: FloatArray) -> FloatArray:
    """The scores of the anti-medoid, from those of a medoid: the order turned round, failed candidates still last."""
    alive = np.array([candidate.answer is not None for candidate in pool.candidates])
    return np.where(alive, -scores, scores)
