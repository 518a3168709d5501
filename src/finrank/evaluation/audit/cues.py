"""Single cues that may point to gold (place, repetition, length, formatting, extremes, operands), and gold's places.

A measure is a number per candidate; the attacker picks the highest or the lowest, whichever is better on other pages.
A key is a label per candidate, such as its value; the attacker picks the candidate whose label is most often gold's on
other pages. Gold's places are its positions in the pool and its ranks under a scorer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from finrank.evaluation.audit.attackers import FittedScorer, accuracies, check_disjoint, correct_indices
from finrank.evaluation.audit.features import decimals, written
from finrank.evaluation.audit.medoids import value_ranks
from finrank.evaluation.intervals import chi_square_p_value
from finrank.evaluation.metrics import FloatArray
from finrank.programs import operands, parse_or_none
from finrank.programs.value import answer_key
from finrank.records import Pool

Measure = Callable[[Pool], list[float | None]]  # None: the candidate has no such number, and is never picked first
Keys = Callable[[Pool], list[str | None]]

_INNER_COMMA = re.compile(r"\d,\d")
# Counts added for labels seen rarely, in units of one pool.
_PRIOR_POOLS = 0.5


def _of_program(measure: Callable[[str], float]) -> Measure:
    return lambda pool: [None if one.program is None else measure(one.program) for one in pool.candidates]


def _of_value(measure: Callable[[float], float]) -> Measure:
    return lambda pool: [measure(one.answer) if isinstance(one.answer, float) else None for one in pool.candidates]


def _steps(text: str) -> float:
    return float(len(program.steps)) if (program := parse_or_none(text)) else 0.0


def _extra_spaces(text: str) -> float:
    return float(text.count(" ") - str(program).count(" ")) if (program := parse_or_none(text)) else 0.0


def _from_median(pool: Pool) -> list[float | None]:
    """Positions in sorted order between a value and the median of its pool."""
    ranks = value_ranks(pool)
    middle = (len(ranks) - 1) / 2
    return _of_value(lambda value: abs(ranks[value] - middle))(pool)


def _operand_votes(pool: Pool, *, mean: bool) -> list[float | None]:
    """Members of the pool that share a candidate's distinct operands: their mean, or their sum."""
    programs = [parse_or_none(candidate.program) for candidate in pool.candidates]
    used = [set(operands(program)) if program else set() for program in programs]
    votes = Counter(text for texts in used for text in texts)
    means = [round(sum(votes[text] for text in texts) / len(texts), 9) if texts else None for texts in used]
    return [None if one is None else one * (1 if mean else len(texts)) for one, texts in zip(means, used, strict=True)]


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
    "operand votes": partial(_operand_votes, mean=False),
    "mean operand votes": partial(_operand_votes, mean=True),
}


def _sorted_places(pool: Pool) -> list[str | None]:
    ranks = value_ranks(pool)
    answers = [candidate.answer for candidate in pool.candidates]
    return [f"{ranks[answer]} of {len(ranks)}" if isinstance(answer, float) else None for answer in answers]


KEYS: dict[str, Keys] = {
    "position": lambda pool: [str(index) for index in range(len(pool.candidates))],
    "value seen elsewhere": lambda pool: [
        None if one.answer is None else str(answer_key(one.answer)) for one in pool.candidates
    ],
    "program seen elsewhere": lambda pool: [one.program for one in pool.candidates],
    "place in sorted order": _sorted_places,
}


def cue_scorers() -> dict[str, FittedScorer]:
    """All cues as scorers that are fitted on some pools and score others."""
    return {
        **{name: partial(_by_key, keys) for name, keys in KEYS.items()},
        **{name: partial(_by_measure, measure) for name, measure in MEASURES.items()},
    }


def _by_measure(measure: Measure, train: Sequence[Pool], audited: Sequence[Pool]) -> list[FloatArray]:
    check_disjoint(train, audited)
    up, down = ([_directed(measure(pool), sign) for pool in train] for sign in (1.0, -1.0))
    sign = 1.0 if accuracies(train, up).sum() >= accuracies(train, down).sum() else -1.0
    return [_directed(measure(pool), sign) for pool in audited]


def _directed(numbers: Sequence[float | None], sign: float) -> FloatArray:
    """Ranks of the numbers (equal ones tie), of the negated numbers for sign -1; those without one are last."""
    present = sorted({sign * number for number in numbers if number is not None})
    ranks = {value: float(rank) for rank, value in enumerate(present)}
    return np.array([-1.0 if number is None else ranks[sign * number] for number in numbers])


def _by_key(keys_of: Keys, train: Sequence[Pool], audited: Sequence[Pool]) -> list[FloatArray]:
    check_disjoint(train, audited)
    gold: Counter[str | None] = Counter()
    seen: Counter[str | None] = Counter()
    for pool in train:
        keys = keys_of(pool)
        seen.update(keys)
        gold.update(keys[index] for index in correct_indices(pool))
    usual = sum(gold.values()) / max(sum(seen.values()), 1)

    def share(key: str | None) -> float:
        """The share of gold among candidates with this label, shrunk to the usual share where few have it."""
        if key is None:
            return -1.0
        return round((gold[key] + _PRIOR_POOLS * usual) / (seen[key] + _PRIOR_POOLS), 12)

    return [np.array([share(key) for key in keys_of(pool)]) for pool in audited]


@dataclass(frozen=True)
class GoldPlaces:
    """How often gold is at each place (in pools, or shares of them), and how often if all were as likely."""

    observed: list[float]
    expected: list[float]
    p_value: float | None  # chi-square test that all places are as likely; None for too few pools

    def as_json(self, name: str) -> dict[str, list[float] | float | None]:
        """Plain JSON values, the observed ones under `name`."""
        return {name: self.observed, "expected": self.expected, "p_value": self.p_value}


def gold_places(pools: Sequence[Pool], scores: Sequence[FloatArray] | None = None) -> GoldPlaces:
    """Pools in which gold is the first, second, ... candidate; with scores, shares in which its rank is that.

    Each of several correct candidates counts in equal shares; pools without one are left out. By score, candidates
    without a value are left out, and tied ones share their ranks, so that the p-value errs on the safe side.
    """
    observed = np.zeros(max(len(pool.candidates) for pool in pools))
    expected = np.zeros_like(observed)
    for number, pool in enumerate(pools):
        ranked = np.array([candidate.answer is not None or scores is None for candidate in pool.candidates])
        pool_scores = -np.arange(len(ranked)) if scores is None else scores[number]
        alive, correct = pool_scores[ranked], correct_indices(pool)
        for score in pool_scores[correct]:
            higher, equal = int((alive > score).sum()), int((alive == score).sum())
            observed[higher : higher + equal] += 1 / (equal * len(correct))
        if correct:
            expected[: len(alive)] += 1 / len(alive)
    total = 1.0 if scores is None else observed.sum() or 1.0
    shares, even = ((counts / total).round(6).tolist() for counts in (observed, expected))
    return GoldPlaces(shares, even, chi_square_p_value(observed, expected))
