"""Fitting the likeness to gold, so that corrupted programs have every feature as often as gold programs have.

Contrastive divergence (Hinton 2002): from each gold program make a pool of wrong ones by the present weights, raise the
weights of gold's features and lower those of the wrong programs, on average over the pool. At the optimum no feature
distinguishes gold from the others. Steps are those of AdaGrad (Duchi et al. 2011).

Fitted twice, each time on half of the pages: a question's wrong candidates are made by the likeness that was fitted on
the other half (cross-fitting), so that its gold program cannot leak into them.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from finrank.console import track
from finrank.parallel import number_of_workers, ordered_map
from finrank.pools.corruption.corrupt import Corruptor
from finrank.pools.corruption.gold_shapes import count_shapes
from finrank.pools.corruption.likeness import Feature, Likeness
from finrank.pools.corruption.trees import grow
from finrank.programs import parse
from finrank.records import Question

FOLDS = 2
MOST_QUESTIONS = 2500  # per fold; with 600, whoever attacks with 5,541 train pools sees what the fit did not
FEWEST_QUESTIONS = 50
_PASSES = 2
_CANDIDATES = 8  # of the pools made while fitting, whatever the size of those made later: larger ones teach no more
_STEP = 0.3
_DAMPING = 100.0


@dataclass
class CrossFitted:
    """A likeness per fold of pages, and the number of questions of the other fold that it was fitted on."""

    likenesses: list[Likeness]
    questions: list[int]

    def of(self, page: str) -> Likeness:
        """The likeness that was not fitted on this page."""
        return self.likenesses[fold_of(page)]


def fold_of(page: str) -> int:
    """The fold of a page, the same everywhere and always."""
    return hashlib.sha256(page.encode()).digest()[0] % FOLDS


def cross_fit(questions: Sequence[Question], *, rate: float, seed: int, workers: int = 1) -> CrossFitted:
    """Fit a likeness for each fold of pages on the questions of the other one; they are as `fit` takes them.

    With several `workers` both are fitted at the same time, to the same weights as with one.
    Where one fold has fewer than 50 questions nothing is fitted: all pools are made by FinQA's shapes alone.
    """
    others = [[question for question in questions if fold_of(question.page) != fold] for fold in range(FOLDS)]
    if min(map(len, others)) < FEWEST_QUESTIONS:
        return CrossFitted([Likeness() for _ in range(FOLDS)], [0] * FOLDS)
    counts = [min(len(of_others), MOST_QUESTIONS) for of_others in others]
    with ordered_map(partial(fit, rate=rate, seed=seed), min(number_of_workers(workers), FOLDS), chunk=1) as fitted:
        likenesses = list(track(fitted(others), "fitting the likeness to gold programs, halves", total=FOLDS))
    return CrossFitted(likenesses, counts)


def fit(questions: list[Question], rate: float, seed: int) -> Likeness:
    """The likeness to the gold programs of these questions, or of a random choice of them; their order counts.

    Each question has a gold program, whose value is its answer.
    """
    rng = random.Random(f"calibration:{seed}")
    likeness = Likeness(shapes=count_shapes(parse(question.program or "") for question in questions))
    chosen = rng.sample(questions, min(len(questions), MOST_QUESTIONS))
    squares: defaultdict[Feature, float] = defaultdict(float)
    for _ in range(_PASSES):
        rng.shuffle(chosen)
        for question in chosen:
            corruptor = Corruptor(question.table, question.text, likeness)
            gold = corruptor.draft(parse(question.program or ""), question.answer)
            wrong = grow(corruptor, gold, _CANDIDATES, rate, rng)
            if wrong:
                of_wrong = [corruptor.features(draft) for draft in wrong]
                likeness.change(_steps(corruptor.features(gold), of_wrong, squares))
    # Rounded, so that the last bits of a machine's logarithms decide nothing later; anew, so that no score is kept.
    return Likeness(likeness.shapes, {feature: round(weight, 3) for feature, weight in likeness.weights.items()})


def _steps(
    gold: list[Feature], wrong: list[list[Feature]], squares: defaultdict[Feature, float]
) -> dict[Feature, float]:
    """The step of each weight: up along gold's features, down along those of the wrong programs, on average."""
    slopes: defaultdict[Feature, float] = defaultdict(float)
    for feature in gold:
        slopes[feature] += 1.0
    for features in wrong:
        for feature in features:
            slopes[feature] -= 1.0 / len(wrong)
    for feature, slope in slopes.items():
        squares[feature] += slope * slope
    return {feature: _STEP * slope / math.sqrt(_DAMPING + squares[feature]) for feature, slope in slopes.items()}
