"""Calibration: how far a probability can be believed, and the threshold below which to abstain.

1. The probability of a pool's top answer is that of the ranking (`ranker/choosing/answers.py`).
2. One temperature T for all pools flattens or sharpens it: p_i^(1/T), normalised (Guo et al., "On Calibration of Modern
   Neural Networks", ICML 2017). T minimises the negative log-likelihood of the right answer. A pool without a right
   answer is left out of the fit; everywhere below it counts as wrong.
3. Calibration errors are out of fold: each half of the pages gets the temperature of the other. The temperature that
   ships is fitted on all pools.
4. The threshold is the lowest probability above which accuracy is at least the wanted one, with 95 % confidence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finrank.evaluation.metrics import FIGURE_DECIMALS, FloatArray, checked_scores
from finrank.evaluation.result import CalibrationFigures, ReliabilityBin, ShippedConfidence
from finrank.ranker.choosing.answers import choose_answers, temper
from finrank.ranker.choosing.chooser import DEFAULT_CHOOSER, Chooser
from finrank.ranker.choosing.confidence import Confidence, Threshold
from finrank.records import RewardedPool

BINS = 10
COVERAGES = (0.5, 0.8, 0.95)
# The promise of the threshold may be wrong in this share of data sets.
LEVEL = 0.05
_THRESHOLD_DECIMALS = 6
# The search for a threshold starts as if accuracy were this much below the probabilities: the surest ones are mostly a
# little too high, and a start that fails ends the search.
_CAUTION = 0.02
_COLDEST, _HOTTEST = 0.01, 1000.0  # of the temperatures that are tried: the vote's scores are hundreds apart
_GOLDEN = (math.sqrt(5) - 1) / 2
_SEARCH_STEPS = 60  # each leaves 0.618 of the interval


class Answers(NamedTuple):
    """The distinct answers of many pools, most probable first."""

    log_probabilities: FloatArray  # [pools, answers], -inf where a pool has fewer answers
    right: NDArray[np.bool_]  # [pools, answers]

    def confidence(self, temperature: float | FloatArray) -> FloatArray:
        """Probability [pools] of the top answer at a temperature, or at one for each pool."""
        temperatures = np.broadcast_to(temperature, len(self.right))
        return np.exp(temper(self.log_probabilities, temperatures[:, None])[:, 0])

    def top_is_right(self) -> FloatArray:
        """Whether [pools] the top answer is right; of tied top answers, the share of right ones."""
        top = self.log_probabilities == self.log_probabilities[:, :1]
        return (top & self.right).sum(axis=1) / top.sum(axis=1)


def calibration_figures(
    pools: Sequence[RewardedPool],
    scores: Sequence[ArrayLike],
    *,
    wanted_accuracy: float = 0.9,
    seed: int = 0,
    shipped: Confidence | None = None,
    chooser: Chooser = DEFAULT_CHOOSER,
) -> CalibrationFigures:
    """All figures about a scorer's probabilities on these pools.

    `seed` draws the halves of the pages; `shipped` is the confidence found in the model folder. Raises ValueError
    without pools, for a wanted accuracy not between 0 and 1, and for bad scores.
    """
    if not pools or len(pools) != len(scores):
        raise ValueError(f"{len(pools)} pools and scores for {len(scores)}: expected at least one, and as many of both")
    if not 0 < wanted_accuracy < 1:
        raise ValueError(f"wanted_accuracy must be between 0 and 1 (0.9: nine of ten right), got {wanted_accuracy}")
    answers = distinct_answers(pools, scores, chooser)
    pages, right, temperature = [pool.page for pool in pools], answers.top_is_right(), fit_temperature(answers)
    out_of_fold = answers.confidence(out_of_fold_temperatures(answers, pages, seed))
    bins, curve = reliability(out_of_fold, right), risk_coverage(out_of_fold, right)
    return CalibrationFigures(
        temperature=temperature,
        ece_uncalibrated=calibration_error(reliability(answers.confidence(1.0), right)),
        ece=calibration_error(bins),
        reliability=bins,
        risk_coverage=curve,
        accuracy_at={share: next(accuracy for coverage, accuracy in curve if coverage >= share) for share in COVERAGES},
        wanted_accuracy=wanted_accuracy,
        threshold=abstention_threshold(answers.confidence(temperature), right, pages, wanted_accuracy),
        pool_sizes=dict(sorted(Counter(len(pool.candidates) for pool in pools).items())),
        origins=dict(sorted(Counter(one.origin for pool in pools for one in pool.candidates).items())),
        shipped=None if shipped is None else _tried(shipped, answers, right),
    )


def _tried(shipped: Confidence, answers: Answers, right: FloatArray) -> ShippedConfidence:
    threshold = None if shipped.threshold is None else shipped.threshold.value
    answered = answers.confidence(shipped.temperature) >= (threshold or 0.0)
    coverage = round(float(answered.mean()), FIGURE_DECIMALS)
    accuracy = round(float(right[answered].mean()), FIGURE_DECIMALS) if answered.any() else None
    return ShippedConfidence(shipped.temperature, threshold, coverage, accuracy)


def distinct_answers(
    pools: Sequence[RewardedPool], scores: Sequence[ArrayLike], chooser: Chooser = DEFAULT_CHOOSER
) -> Answers:
    """The distinct answers of each pool as `Ranker` ranks them; those of correct, scored candidates are right."""
    grouped = [
        choose_answers(pool.candidates, checked_scores(pool, pool_scores), pool.question, chooser)
        for pool, pool_scores in zip(pools, scores, strict=True)
    ]
    shape = (len(pools), max(len(groups) for groups in grouped))
    log_probabilities, right = np.full(shape, -np.inf), np.zeros(shape, dtype=bool)
    for row, (pool, groups) in enumerate(zip(pools, grouped, strict=True)):
        log_probabilities[row, : len(groups)] = [group.log_probability for group in groups]
        right[row, : len(groups)] = [
            group.source in pool.correct and group.log_probability > -math.inf for group in groups
        ]
    return Answers(log_probabilities, right)


def fit_temperature(answers: Answers) -> float:
    """The temperature of least negative log-likelihood of the right answers, 1/100 to 1000; 1.0 where it makes no
    difference.
    """
    answerable = answers.right.any(axis=1)
    log_probabilities, right = answers.log_probabilities[answerable], answers.right[answerable]
    if not len(right):
        return 1.0

    @cache  # each step of the search asks for one new value
    def loss(log_temperature: float) -> float:
        tempered = temper(log_probabilities, math.exp(log_temperature))
        return -float(np.logaddexp.reduce(np.where(right, tempered, -np.inf), axis=1).mean())

    best = _golden_section(loss, math.log(_COLDEST), math.log(_HOTTEST))
    return round(math.exp(best), FIGURE_DECIMALS) if loss(best) < loss(0.0) - 1e-12 else 1.0


def _golden_section(loss: Callable[[float], float], low: float, high: float) -> float:
    """Position of the minimum of a loss that has one between `low` and `high` (Kiefer, 1953)."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    for _ in range(_SEARCH_STEPS):
        if loss(left) <= loss(right):
            high, right = right, left
            left = high - _GOLDEN * (high - low)
        else:
            low, left = left, right
            right = low + _GOLDEN * (high - low)
    return (low + high) / 2


def out_of_fold_temperatures(answers: Answers, pages: Sequence[str], seed: int) -> FloatArray:
    """A temperature for each pool, fitted on the half of the pages that its page is not in."""
    names, page_of_pool = np.unique(np.asarray(pages), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    in_first = order[page_of_pool] < len(names) / 2
    halves = [Answers(answers.log_probabilities[chosen], answers.right[chosen]) for chosen in (in_first, ~in_first)]
    first, second = (fit_temperature(half) for half in halves)
    return np.where(in_first, second, first)


def reliability(confidence: FloatArray, right: FloatArray) -> list[ReliabilityBin]:
    """Mean confidence and accuracy in up to 10 bins of about equally many pools, confidence ascending.

    Bins of equal mass are less biased than those of equal width (Roelofs et al., "Mitigating Bias in Calibration Error
    Estimation", AISTATS 2022). Equal confidences share a bin.
    """
    starts = np.unique(np.sort(confidence)[np.arange(BINS) * len(confidence) // BINS])
    bin_of_pool = np.searchsorted(starts, confidence, side="right") - 1
    bins = []
    for number in range(len(starts)):
        chosen = bin_of_pool == number
        inside = confidence[chosen]
        figures = (inside.min(), inside.max(), inside.mean(), right[chosen].mean())
        bins.append(ReliabilityBin(len(inside), *(round(float(value), FIGURE_DECIMALS) for value in figures)))
    return bins


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Expected calibration error: the mean of |accuracy - confidence| over bins, weighted by their pools.

    >>> calibration_error([ReliabilityBin(3, 0.4, 0.6, 0.5, 0.6), ReliabilityBin(1, 0.9, 0.9, 0.9, 0.5)])
    0.175
    """
    gaps = sum(row.n * abs(row.accuracy - row.confidence) for row in bins)
    return round(gaps / sum(row.n for row in bins), FIGURE_DECIMALS)


def risk_coverage(confidence: FloatArray, right: FloatArray) -> list[list[float]]:
    """[coverage, accuracy] when only the surest pools are answered, per percent: at most 100 points, the last at 1.0.

    Of pools with the same confidence each is as likely to be among the answered: their mean counts (El-Yaniv and
    Wiener, "On the Foundations of Noise-free Selective Classification", JMLR 2010, name the curve).
    """
    levels, level_of_pool = np.unique(-confidence, return_inverse=True)
    means = np.bincount(level_of_pool, weights=right, minlength=len(levels)) / np.bincount(level_of_pool)
    accuracies = np.cumsum(means[np.sort(level_of_pool)]) / np.arange(1, len(confidence) + 1)
    return [
        [round(count / len(confidence), FIGURE_DECIMALS), round(float(accuracies[count - 1]), FIGURE_DECIMALS)]
        for count in _counts_by_percent(len(confidence))
    ]


def _counts_by_percent(n: int) -> list[int]:
    """1 %, 2 %, ... of n pools, rounded up, each count once."""
    return sorted({-(-percent * n // 100) for percent in range(1, 101)})


def abstention_threshold(
    confidence: FloatArray, right: FloatArray, pages: Sequence[str], wanted_accuracy: float
) -> Threshold | None:
    """The lowest threshold above which accuracy is the wanted one with 95 % confidence; None where there is none.

    The best of many thresholds by its accuracy breaks that promise in three of ten simulated data sets: the luckiest
    wins. Here each must reject "accuracy is below the wanted one" (`accuracy_bound`), in an order that does not look at
    right and wrong: first where the test passes most clearly if the probabilities are (nearly) true, then one percent
    more of the pools at each step, up to the first that fails. No correction for their number is then needed (fixed
    sequence testing: Angelopoulos et al., "Learn then Test", 2021). Wrong probabilities cost coverage.
    """
    descending = np.sort(confidence)[::-1]
    # Rounded down before the test, so that the value that is stored is the value that was tested.
    scale = 10.0**_THRESHOLD_DECIMALS
    values = [math.floor(descending[count - 1] * scale) / scale for count in _counts_by_percent(len(confidence))]
    correlation = page_correlation(right - confidence, pages)
    _, page_of_pool = np.unique(np.asarray(pages), return_inverse=True)
    lowest = None
    for value in values[_surest_test(confidence, values, wanted_accuracy) :]:
        chosen = confidence >= value
        accuracy = float(right[chosen].mean())
        bound = accuracy_bound(accuracy, effective_size(page_of_pool[chosen], correlation), LEVEL)
        if bound < wanted_accuracy:
            break
        figures = {"coverage": float(chosen.mean()), "accuracy": accuracy, "lower_bound": bound}
        rounded = {name: round(figure, FIGURE_DECIMALS) for name, figure in figures.items()}
        lowest = Threshold(wanted_accuracy=wanted_accuracy, value=value, **rounded)
    return lowest


def _surest_test(confidence: FloatArray, values: Sequence[float], wanted_accuracy: float) -> int:
    """Index of the threshold that passes most clearly if the probabilities are true; the lowest if none can pass."""
    clearness = {len(values) - 1: -math.inf}
    for number, value in enumerate(values):
        chosen = confidence >= value
        if wanted_accuracy ** int(chosen.sum()) <= LEVEL:  # else too few for certainty, even if all were right
            margin = float(confidence[chosen].mean()) - _CAUTION - wanted_accuracy
            clearness[number] = margin * math.sqrt(chosen.sum())
    return max(sorted(clearness), key=clearness.__getitem__)


def page_correlation(residuals: FloatArray, pages: Sequence[str]) -> float:
    """Correlation, 0 to 1, of the residuals [pools] (right - confidence) of two questions on one page."""
    _, page_of_pool, sizes = np.unique(np.asarray(pages), return_inverse=True, return_counts=True)
    pairs, square = (sizes * (sizes - 1)).sum(), (residuals**2).mean()
    if not pairs or not square:
        return 0.0
    sums = np.bincount(page_of_pool, weights=residuals)
    products = (sums**2).sum() - (residuals**2).sum()  # over ordered pairs on one page
    return float(np.clip(products / pairs / square, 0.0, 1.0))


def effective_size(pages: ArrayLike, correlation: float) -> float:
    """The number of independent questions these are worth: questions on a page are right or wrong together.

    n / (1 + correlation * (b - 1)), where b is the mean number of questions per page over questions (Kish, "Survey
    Sampling", 1965, section 5.4).

    >>> effective_size(["a", "a", "b", "b"], correlation=1.0)
    2.0
    """
    _, sizes = np.unique(np.asarray(pages), return_counts=True)
    return float(sizes.sum() / (1 + correlation * ((sizes**2).sum() / sizes.sum() - 1)))


def accuracy_bound(accuracy: float, effective: float, level: float) -> float:
    """One-sided lower bound of Clopper and Pearson (1934): it is above the true accuracy with probability `level`.

    The effective number of questions is rounded down, the wrong ones among them up.
    """
    n = math.floor(effective + 1e-9)
    wrong = math.ceil((1 - accuracy) * n - 1e-9)
    if wrong >= n:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(wrong, n, 1 - middle) <= level else (low, middle)
    return low


def _at_most(wrong: int, n: int, rate: float) -> float:
    """Probability of at most so many wrong of n, each with probability `rate` (binomial)."""
    counts = np.arange(wrong + 1)
    log_choices = np.concatenate([[0.0], np.cumsum(np.log((n - counts[1:] + 1) / counts[1:]))])
    return float(np.exp(log_choices + counts * math.log(rate) + (n - counts) * math.log1p(-rate)).sum())
