"""Single cues that may point to gold: place, repetition, length, formatting, extremes, shared operands.

A measure is a number per candidate; the attacker picks the highest or the lowest, whichever is better on other pages.
A key is a label per candidate, such as its value; the attacker picks the candidate whose label is most often gold's on
other pages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from finrank.evaluation.audit.attackers import FittedScorer, accuracies, check_disjoint, correct_indices
from finrank.evaluation.audit.features import decimals, parsed, written
from finrank.evaluation.audit.medoids import value_ranks
from finrank.evaluation.metrics import FloatArray
from finrank.programs import operands
from finrank.programs.value import answer_key
from finrank.records import Candidate, Pool

Measure = Callable[[Pool], list[float | None]]  # None: the candidate has no such number, and is never picked first
Keys = Callable[[Pool], list[str | None]]

_INNER_COMMA = re.compile(r"\d,\d")
# Counts added for labels seen rarely, in units of one pool.
_PRIOR_POOLS = 0.5


@lru_cache(maxsize=65536)
def _operands(program: str | None) -> tuple[str, ...]:
    found = parsed(program)
    return () if found is None else tuple(operands(found))


def _numbers(pool: Pool) -> list[float | None]:
    return [one.answer if isinstance(one.answer, float) else None for one in pool.candidates]


def _of_program(measure: Callable[[str], float]) -> Measure:
    return lambda pool: [None if one.program is None else measure(one.program) for one in pool.candidates]


def _of_value(measure: Callable[[float], float]) -> Measure:
    return lambda pool: [None if value is None else measure(value) for value in _numbers(pool)]


def _steps(program: str) -> float:
    found = parsed(program)
    return 0.0 if found is None else float(len(found.steps))


def _extra_spaces(program: str) -> float:
    found = parsed(program)
    return 0.0 if found is None else float(program.count(" ") - str(found).count(" "))


def _from_median(pool: Pool) -> list[float | None]:
    """How far a value is from the median of its pool, in places of the sorted order."""
    ranks = value_ranks(pool)
    middle = (len(ranks) - 1) / 2
    return [None if value is None else abs(ranks[value] - middle) for value in _numbers(pool)]


def _operand_votes(pool: Pool) -> list[float | None]:
    """Sum over a candidate's distinct operands of how many members of the pool have them too."""
    return [None if mean is None else mean * len(own) for mean, own in zip(*_mean_votes(pool), strict=True)]


def _mean_operand_votes(pool: Pool) -> list[float | None]:
    return _mean_votes(pool)[0]


def _mean_votes(pool: Pool) -> tuple[list[float | None], list[set[str]]]:
    own = [set(_operands(one.program)) for one in pool.candidates]
    votes = Counter(text for members in own for text in members)
    means = [round(sum(votes[text] for text in some) / len(some), 9) if some else None for some in own]
    return list(means), own


MEASURES: dict[str, Measure] = {
    "program length": _of_program(len),
    "number of steps": _of_program(_steps),
    "decimals of the value": _of_value(lambda value: decimals(written(value))),
    "commas in operands": _of_program(lambda text: len(_INNER_COMMA.findall(text))),
    "unusual spaces": _of_program(_extra_spaces),
    "percent marks": _of_program(lambda text: text.count("%")),
    "value": _of_value(lambda value: value),
    "size of the value": _of_value(abs),
    "distance from the median": _from_median,
    "operand votes": _operand_votes,
    "mean operand votes": _mean_operand_votes,
}


def _value_keys(pool: Pool) -> list[str | None]:
    return [None if one.answer is None else str(answer_key(one.answer)) for one in pool.candidates]


def _sorted_places(pool: Pool) -> list[str | None]:
    ranks = value_ranks(pool)
    return [None if value is None else f"{ranks[value]} of {len(ranks)}" for value in _numbers(pool)]


KEYS: dict[str, Keys] = {
    "position": lambda pool: [str(index) for index in range(len(pool.candidates))],
    "value seen elsewhere": _value_keys,
    "program seen elsewhere": lambda pool: [one.program for one in pool.candidates],
    "place in sorted order": _sorted_places,
}


def cue_scorers() -> dict[str, FittedScorer]:
    """All cues as scorers that are fitted on some pools and score others."""
    by_measure = {name: _by_measure(measure) for name, measure in MEASURES.items()}
    return {**{name: _by_key(keys) for name, keys in KEYS.items()}, **by_measure}


def _by_measure(measure: Measure) -> FittedScorer:
    def scorer(train: Sequence[Pool], audited: Sequence[Pool]) -> list[FloatArray]:
        check_disjoint(train, audited)
        up, down = ([_directed(measure(pool), sign) for pool in train] for sign in (1.0, -1.0))
        sign = 1.0 if accuracies(train, up).sum() >= accuracies(train, down).sum() else -1.0
        return [_directed(measure(pool), sign) for pool in audited]

    return scorer


def _directed(numbers: Sequence[float | None], sign: float) -> FloatArray:
    """Ranks of the numbers (equal ones tie), of the negated numbers for sign -1; those without one are last."""
    order = {value: rank for rank, value in enumerate(sorted({sign * one for one in numbers if one is not None}))}
    return np.array([-1.0 if one is None else float(order[sign * one]) for one in numbers])


def _by_key(keys_of: Keys) -> FittedScorer:
    def scorer(train: Sequence[Pool], audited: Sequence[Pool]) -> list[FloatArray]:
        check_disjoint(train, audited)
        gold: Counter[str | None] = Counter()
        every: Counter[str | None] = Counter()
        for pool in train:
            keys, correct = keys_of(pool), correct_indices(pool)
            every.update(keys)
            gold.update(keys[index] for index in correct)
        usual = sum(gold.values()) / max(sum(every.values()), 1)

        def share(key: str | None) -> float:
            """The share of gold among candidates with this label, drawn to the usual one where few have it."""
            if key is None:
                return -1.0
            return round((gold[key] + _PRIOR_POOLS * usual) / (every[key] + _PRIOR_POOLS), 12)

        return [np.array([share(key) for key in keys_of(pool)]) for pool in audited]

    return scorer


def failed_share(pools: Sequence[Pool]) -> float:
    """The share of candidates that have no value."""
    candidates: list[Candidate] = [one for pool in pools for one in pool.candidates]
    return sum(one.answer is None for one in candidates) / max(len(candidates), 1)
