"""Calibration and the threshold to abstain by: what they promise, checked where the truth is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from finrank.evaluation import calibration
from finrank.evaluation.calibration import (
    Answers,
    abstention_threshold,
    calibration_figures,
    distinct_answers,
    fit_temperature,
)
from finrank.evaluation.metrics import FloatArray, pooled_accuracy
from finrank.evaluation.result import ReliabilityBin
from finrank.records import RewardedPool
from tests.helpers.evaluated_pools import RANKER_ALONE, make_pool

WANTED = 0.9


def _simulated(random: np.random.Generator, pools: int, scale: float = 1.0) -> tuple[Answers, FloatArray]:
    """Answers whose right one is drawn from the true softmax, scores multiplied by `scale`; true chance of the top."""
    logits = -np.sort(-random.normal(0, 4, (pools, 5)), axis=1)
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    right = random.random((pools, 1)) < true.cumsum(axis=1)
    right[:, 1:] &= ~right[:, :-1]
    scores = logits * scale
    return Answers(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)), right), true[:, 0]


def _pools(n: int, scale: float, seed: int = 0) -> tuple[list[RewardedPool], list[FloatArray]]:
    """The same as pools of four values, two questions per page."""
    random = np.random.default_rng(seed)
    scores = random.normal(0, 3, (n, 4))
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    pools = [
        make_pool([1.0, 2.0, 3.0, 4.0], [int(random.choice(4, p=own))], page=f"page {number // 2}")
        for number, own in enumerate(chances)
    ]
    return pools, list(scores * scale)


def test_temperature_is_the_one_of_least_loss() -> None:
    answers, _ = _simulated(np.random.default_rng(1), 300, 2.0)

    def loss(temperature: float) -> float:
        probabilities = np.exp(answers.log_probabilities / temperature)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        return -float(np.log(probabilities[answers.right]).mean())

    grid = np.linspace(0.5, 5, 2_000)
    best = grid[np.argmin([loss(temperature) for temperature in grid])]
    assert calibration.fit_temperature(answers) == pytest.approx(best, abs=0.003)
    votes = Answers(500 * answers.log_probabilities, answers.right)
    assert calibration.fit_temperature(votes) == pytest.approx(500 * best, rel=0.003)
    always_right = Answers(answers.log_probabilities, np.arange(answers.right.shape[1]) == np.zeros((300, 1)))
    assert calibration.fit_temperature(always_right) == pytest.approx(0.01, rel=1e-6)


def test_a_calibrated_scorer_has_a_small_error_and_an_overconfident_one_is_mended() -> None:
    honest = calibration_figures(*_pools(1_500, 1.0))
    boastful = calibration_figures(*_pools(1_500, 3.0))
    assert honest.temperature == pytest.approx(1.0, abs=0.1)
    assert max(honest.ece, honest.ece_uncalibrated) < 0.04
    assert boastful.temperature == pytest.approx(3 * honest.temperature, rel=1e-4)
    assert boastful.ece_uncalibrated > 0.1
    assert boastful.ece == pytest.approx(honest.ece, abs=1e-4)


def test_calibration_is_reported_out_of_fold() -> None:
    answers, _ = _simulated(np.random.default_rng(2), 100)
    pages = [f"page {number // 3}" for number in range(100)]
    before = calibration.out_of_fold_temperatures(answers, pages, seed=0)
    assert len(set(before)) == 2
    assert all(len({before[row] for row in range(100) if pages[row] == page}) == 1 for page in pages)
    own = before == before[0]  # other right answers in one half change only the temperature of the other half
    turned = answers.right.copy()
    turned[own] = np.roll(answers.right[own], 1, axis=1)
    after = calibration.out_of_fold_temperatures(Answers(answers.log_probabilities, turned), pages, seed=0)
    assert np.array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).all()


def test_answers_are_distinct_and_as_right_as_pooled_accuracy_says() -> None:
    # 5.0 twice by the same program (one of them counts) and once by another; the pool is answered right by 5.0.
    pool = make_pool([5.0, 5.0, 5.0, 7.0], [0, 1, 2], programs=["a", "a", "b", "c"])
    answers = distinct_answers([pool], [[1.0, 1.0, 1.0, 1.0]], RANKER_ALONE)
    assert np.exp(answers.log_probabilities[0]) == pytest.approx([2 / 3, 1 / 3])
    assert answers.right.tolist() == [[True, False]]
    assert answers.confidence(2.0)[0] == pytest.approx(math.sqrt(2) / (math.sqrt(2) + 1))
    random = np.random.default_rng(3)
    drawn = random.integers(0, 3, (50, 5)).astype(float)
    pools = [make_pool(answers.tolist(), np.flatnonzero(answers == 0.0).tolist()) for answers in drawn]
    scores = [random.integers(0, 2, 5).astype(float) for _ in pools]  # ties on purpose
    answers = distinct_answers(pools, scores, RANKER_ALONE)
    assert answers.top_is_right().tolist() == pytest.approx(pooled_accuracy(pools, scores).values.tolist())


def test_pools_without_a_right_answer_count_as_wrong_and_leave_the_temperature_alone() -> None:
    pools, scores = _pools(200, 1.0)
    lost = [make_pool([1.0, 2.0, 3.0, 4.0], [], page=pool.page) for pool in pools]
    alone, together = calibration_figures(pools, scores), calibration_figures(pools + lost, scores + scores)
    assert together.temperature == alone.temperature
    assert together.risk_coverage[-1][1] == pytest.approx(alone.risk_coverage[-1][1] / 2)
    assert together.ece > alone.ece + 0.2
    nothing = calibration_figures(lost, scores)
    assert (nothing.temperature, nothing.threshold) == (1.0, None)


def test_a_constant_scorer_keeps_temperature_1_and_one_bin() -> None:
    pools, scores = _pools(40, 0.0)
    figures = calibration_figures(pools, scores)
    assert figures.temperature == 1.0
    assert [(row.n, row.confidence, row.accuracy) for row in figures.reliability] == [(40, 0.25, 0.25)]
    assert figures.ece == 0
    assert {point[1] for point in figures.risk_coverage} == {0.25}
    assert figures.threshold is None


def test_bins_hold_equally_many_and_all_pools() -> None:
    random = np.random.default_rng(5)
    confidence = random.random(103)
    bins = calibration.reliability(confidence, (random.random(103) < confidence).astype(float))
    assert len(bins) == 10
    assert {row.n for row in bins} == {10, 11}
    assert all(row.low <= row.confidence <= row.high for row in bins)
    assert all(row.high < later.low for row, later in itertools.pairwise(bins))
    assert calibration.reliability(np.array([0.5, 0.5, 0.9]), np.array([1.0, 0.0, 1.0])) == [
        ReliabilityBin(2, 0.5, 0.5, 0.5, 0.5),
        ReliabilityBin(1, 0.9, 0.9, 0.9, 1.0),
    ]


def test_risk_coverage_answers_the_surest_first_and_ties_by_expectation() -> None:
    assert calibration.risk_coverage(np.array([0.2, 0.9, 0.5, 0.5]), np.array([0.0, 1.0, 1.0, 0.0])) == [
        [0.25, 1.0],
        [0.5, 0.75],
        [0.75, pytest.approx(2 / 3)],
        [1.0, 0.5],
    ]


def test_figures_have_the_promised_shape() -> None:
    pools, scores = _pools(400, 1.0)
    figures = calibration_figures(pools, scores, seed=1)
    curve = dict(figures.risk_coverage)
    assert len(curve) == 100
    assert figures.accuracy_at == {0.5: curve[0.5], 0.8: curve[0.8], 0.95: curve[0.95]}
    assert figures.pool_sizes == {4: 400}
    assert figures.origins == {"corrupted": 1600}
    assert figures == calibration_figures(pools, scores, seed=1)
    threshold = figures.threshold
    assert threshold is not None
    assert threshold.lower_bound >= threshold.wanted_accuracy == 0.9
    answers = distinct_answers(pools, scores)
    above = answers.confidence(figures.temperature) >= threshold.value
    assert threshold.coverage == pytest.approx(above.mean())
    assert threshold.accuracy == pytest.approx(answers.top_is_right()[above].mean())
    assert calibration_figures(pools, scores, wanted_accuracy=0.999).threshold is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wanted_accuracy": 90}, "wanted_accuracy must be between 0 and 1"),
        ({"scores": []}, "1 pools and scores for 0"),
        ({"scores": [[1.0, float("nan")]]}, "pool q: the score of candidate 1 is nan"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"pools": [make_pool([1.0, 2.0])], "scores": [[0.0, 1.0]], **change}
    with pytest.raises(ValueError, match=message):
        calibration_figures(**arguments)  # type: ignore[arg-type]


def test_lower_bound_is_that_of_clopper_and_pearson() -> None:
    bounds = [calibration.accuracy_bound(*case, 0.05) for case in ((1.0, 29), (0.5, 2), (0.0, 50), (50 / 60, 60))]
    # The second: P(at least 1 of 2) is 5 %; the last: beta's quantile at 0.05 with parameters 50 and 11, from tables.
    assert bounds == pytest.approx([0.05 ** (1 / 29), 1 - math.sqrt(0.95), 0, 0.7338], abs=5e-4)


def test_questions_on_a_page_count_for_less_when_they_go_together() -> None:
    pages = [f"page {number // 4}" for number in range(400)]
    random = np.random.default_rng(7)
    together = np.repeat(random.normal(size=100), 4)
    assert calibration.page_correlation(together, pages) == pytest.approx(1.0)
    assert calibration.page_correlation(random.normal(size=400), pages) < 0.15
    assert calibration.page_correlation(random.normal(size=400), [str(number) for number in range(400)]) == 0
    assert calibration.effective_size(pages, 1.0) == pytest.approx(100)
    assert calibration.effective_size(pages, 0.0) == pytest.approx(400)


def _naive_threshold(confidence: FloatArray, right: FloatArray) -> float | None:
    """The lowest threshold above which the observed accuracy is the wanted one, and nothing more."""
    order = np.argsort(-confidence)
    enough = np.flatnonzero(right[order].cumsum() / np.arange(1, len(right) + 1) >= WANTED)
    return float(confidence[order][enough[-1]]) if len(enough) else None


def _correlated(random: np.random.Generator, chances: FloatArray, pages: list[int], share: float) -> FloatArray:
    """Right and wrong, 1 and 0, with the given chances; in this share of pages its questions go together."""
    common = random.random(max(pages) + 1)[pages]
    together = (random.random(max(pages) + 1) < share)[pages]
    return (np.where(together, common, random.random(len(pages))) < chances).astype(float)


def _broken_at_most(sets: int) -> float:
    """Data sets that may break a promise that holds with 95 %: two standard deviations above 5 % of them."""
    level = calibration.LEVEL
    return sets * level + 2 * math.sqrt(sets * level * (1 - level))


@pytest.mark.parametrize(("share", "truth"), [(0.0, 1.0), (1.0, 1.0), (0.0, 0.93)])
def test_the_promise_of_the_threshold_holds_and_a_naive_one_breaks_it(share: float, truth: float) -> None:
    """Each pool is right with `truth` times its probability: where that is too high, coverage pays, not the promise."""
    random = np.random.default_rng(8)
    sets, pools = 200, 300
    pages = [number // 3 for number in range(pools)]
    population = random.beta(2, 0.5, 50_000)

    def breaks(threshold: float | None) -> bool:
        return threshold is not None and truth * population[population >= threshold].mean() < WANTED

    broken = naive_broken = with_threshold = 0
    for _ in range(sets):
        confidence = random.beta(2, 0.5, pools)
        right = _correlated(random, truth * confidence, pages, share)
        threshold = abstention_threshold(confidence, right, [str(page) for page in pages], WANTED)
        with_threshold += threshold is not None
        broken += breaks(threshold and threshold.value)
        naive_broken += breaks(_naive_threshold(confidence, right))
    assert broken <= _broken_at_most(sets)
    if truth == 1.0:
        assert with_threshold > 0.5 * sets  # a threshold that is never found keeps every promise
        assert naive_broken > 0.3 * sets


def test_the_promise_holds_with_the_temperature_fitted_on_the_same_pools() -> None:
    random = np.random.default_rng(9)
    sets = 100
    everyone, chances = _simulated(random, 20_000, 3.0)
    pages = [str(number) for number in range(300)]
    broken = found = 0
    for _ in range(sets):
        answers, _ = _simulated(random, 300, 3.0)
        temperature = calibration.fit_temperature(answers)
        threshold = abstention_threshold(answers.confidence(temperature), answers.top_is_right(), pages, WANTED)
        found += threshold is not None
        above = threshold is not None and everyone.confidence(temperature) >= threshold.value
        broken += threshold is not None and chances[above].mean() < WANTED
    assert found > 0.5 * sets
    assert broken <= _broken_at_most(sets)


def coverage_of(confidence: FloatArray, right: FloatArray, pages: Sequence[object] | None = None) -> float | None:
    """Coverage of the threshold; each question is on its page where `pages` is None."""
    names = [str(page) for page in (range(len(right)) if pages is None else pages)]
    threshold = abstention_threshold(confidence, right, names, WANTED)
    if threshold is not None:
        assert threshold.accuracy == pytest.approx(right[confidence >= threshold.value].mean())
    return threshold and threshold.coverage


def test_four_observations_are_not_enough_for_a_threshold() -> None:
    confidence, right = np.linspace(0.999, 0.2, 400), (np.arange(400) < 200).astype(float)
    assert 0.5 <= (coverage_of(confidence, right) or 0) < 0.56
    pages = np.arange(400) // 100  # four, whose questions go together
    assert calibration.page_correlation(right - confidence, pages.astype(str).tolist()) > 0.1
    assert coverage_of(confidence, right, pages) is None
    assert coverage_of(confidence[:20], np.ones(20), range(20)) is None


def test_the_search_ends_at_the_first_threshold_that_fails() -> None:
    confidence, right = np.linspace(0.999, 0.2, 1_000), np.ones(1_000)
    assert coverage_of(confidence, right) == 1.0
    right[300:360] = 0.0  # below here accuracy recovers, to 0.94 over all: too late
    assert 0.3 <= (coverage_of(confidence, right) or 0) < 0.33
    right[:30] = 0.0  # the surest ones are wrong
    assert coverage_of(confidence, right) is None


def test_a_pool_in_which_nothing_is_scored_is_wrong_with_confidence_0() -> None:
    scored, unscored = make_pool([1.0, 2.0], [0], page="a"), make_pool([1.0, 2.0], [0], page="b")
    with np.errstate(all="raise"):
        answers = distinct_answers([scored, unscored], [np.array([1.0, 0.0]), np.full(2, -np.inf)])
        assert answers.top_is_right().tolist() == [1.0, 0.0]
        assert answers.confidence(1.0).tolist() == [pytest.approx(1 / (1 + np.exp(-1))), 0.0]
        assert fit_temperature(answers) == fit_temperature(distinct_answers([scored], [np.array([1.0, 0.0])]))
    figures = calibration_figures([scored, unscored] * 20, [np.array([1.0, 0.0]), np.full(2, -np.inf)] * 20)
    assert np.isfinite([figures.ece, figures.ece_uncalibrated, figures.temperature]).all()
