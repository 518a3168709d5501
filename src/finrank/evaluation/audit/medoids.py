"""Medoids: the candidate nearest to its siblings, by value or by program text, in several distances.

Where wrong candidates are edits of gold, gold lies in the middle of them. The anti-medoid, the candidate farthest from
its siblings, finds a gold that never does. Candidates without a value come last in both.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from finrank.evaluation.baselines import answer_distance, medoid, medoid_text, nearness, program_tokens
from finrank.evaluation.metrics import FloatArray
from finrank.programs import operands, parse_or_none
from finrank.programs.shape import shape_of
from finrank.records import Answer, Candidate, Pool

_LOG_SPAN = 6.0  # values a million times apart have the largest distance

Tokens = tuple[str, ...]


def log_distance(first: Answer | None, second: Answer | None) -> float:
    """|log10(a / b)| / 6, at most 1; `answer_distance` where one is not a number, is 0, or has the other sign.

    >>> log_distance(10.0, 1000.0), log_distance(10.0, -10.0), log_distance("yes", "yes")
    (0.3333333333333333, 1.0, 0.0)
    """
    if not isinstance(first, float) or not isinstance(second, float) or first * second <= 0:
        return answer_distance(first, second)
    return min(1.0, abs(math.log10(abs(first)) - math.log10(abs(second))) / _LOG_SPAN)


def medoid_by_rank(pool: Pool) -> FloatArray:
    """By position in the sorted values: the highest is the median. Yes and no are 1 away from numbers."""
    ranks = value_ranks(pool)
    span = max(len(ranks) - 1, 1)

    def distance(first: Candidate, second: Candidate) -> float:
        if not isinstance(first.answer, float) or not isinstance(second.answer, float):
            return answer_distance(first.answer, second.answer)
        return abs(ranks[first.answer] - ranks[second.answer]) / span

    return nearness(pool, distance)


def value_ranks(pool: Pool) -> dict[float, int]:
    """The position of each distinct number among the pool's values in ascending order, from 0."""
    values = {candidate.answer for candidate in pool.candidates if isinstance(candidate.answer, float)}
    return {value: rank for rank, value in enumerate(sorted(values))}


def _count_distance(first: Tokens, second: Tokens) -> float:
    counts, others = Counter(first), Counter(second)
    total = (counts | others).total()
    return 1.0 - (counts & others).total() / total if total else 0.0


def edit_distance(first: Tokens, second: Tokens) -> float:
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


def _by_tokens(distance: Callable[[Tokens, Tokens], float]) -> Callable[[Pool], FloatArray]:
    return lambda pool: nearness(pool, lambda a, b: distance(program_tokens(a.program), program_tokens(b.program)))


def _shape_and_operand_distance(first: Candidate, second: Candidate) -> float:
    """Half for another shape, half for the operands that are not shared."""
    one, other = _shape_and_operands(first.program), _shape_and_operands(second.program)
    if one is None or other is None:
        return 1.0
    return 0.5 * (one[0] != other[0]) + 0.5 * _count_distance(one[1], other[1])


@lru_cache(maxsize=4096)
def _shape_and_operands(text: str | None) -> tuple[str, Tokens] | None:
    program = parse_or_none(text)
    return None if program is None else (shape_of(program), tuple(operands(program)))


MEDOIDS: dict[str, dict[str, Callable[[Pool], FloatArray]]] = {
    "value": {
        "relative difference": medoid,
        "log": lambda pool: nearness(pool, lambda a, b: log_distance(a.answer, b.answer)),
        "rank": medoid_by_rank,
    },
    "text": {
        "tokens": medoid_text,
        "token counts": _by_tokens(_count_distance),
        "token edits": _by_tokens(edit_distance),
        "shape and operands": lambda pool: nearness(pool, _shape_and_operand_distance),
    },
}


def medoid_scores(pools: Sequence[Pool]) -> dict[str, dict[str, list[FloatArray]]]:
    """Scores [candidates] per pool of every medoid, by kind and distance."""
    return {
        kind: {name: [scorer(pool) for pool in pools] for name, scorer in by_distance.items()}
        for kind, by_distance in MEDOIDS.items()
    }


def anti_scores(pools: Sequence[Pool], scores: Sequence[FloatArray]) -> list[FloatArray]:
    """Scores of the anti-medoid, from those of a medoid: the order reversed, failed candidates still last."""
    signs = [[1.0 if candidate.answer is None else -1.0 for candidate in pool.candidates] for pool in pools]
    return [pool_scores * sign for pool_scores, sign in zip(scores, signs, strict=True)]
