"""Bootstrap and paired test over pages: known cases, and the errors of resampling questions instead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from finrank.evaluation.intervals import chi_square_p_value, page_intervals, paired_sign_flip, subset_intervals
from finrank.evaluation.metrics import Metric


def metric(values: Sequence[float] | np.ndarray, weights: list[float] | None = None) -> Metric:
    array = np.array(values, dtype=np.float64)
    return Metric(array, np.ones(len(array)) if weights is None else np.array(weights, dtype=np.float64))


def test_the_denominator_varies_with_the_pages() -> None:
    # Nine right answers on one page, one wrong on the other: a resample has 0, 0.9 or 1, never 0.5.
    interval = page_intervals({"m": metric([1.0] * 9 + [0.0])}, ["a"] * 9 + ["b"], seed=0)["m"]
    assert interval == [0.0, 1.0]


def test_pools_left_out_do_not_count() -> None:
    metrics = {"some": metric([1.0, 0.0, 0.0], [1, 0, 0]), "none": metric([0.0, 0.0, 0.0], [0, 0, 0])}
    assert page_intervals(metrics, ["a", "b", "c"], seed=0) == {"some": [1.0, 1.0], "none": None}


@pytest.mark.parametrize(
    ("first", "second", "pages", "p"),
    [
        ([1, 1, 1], [0, 0, 0], "abc", 2 / 8),  # only +++ and --- are as extreme
        ([1, 1, 1], [0, 0, 0], "aab", 2 / 4),  # two pages: ++ and --
        ([1, 1, 1, 1], [0, 0, 0, 1], "abcd", 2 / 8),  # the page without difference decides nothing
        ([1, 1, 0], [0, 0, 1], "abc", 1.0),  # sum 1: every flip has 1 or 3
        ([1, 0], [0, 1], "aa", 1.0),  # no page differs
        ([0.5, 0.5], [0.5, 0.5], "ab", 1.0),
    ],
)
def test_exact_p_values_by_hand(first: list[float], second: list[float], pages: str, p: float) -> None:
    assert paired_sign_flip(first, second, list(pages), seed=0) == pytest.approx(p)
    assert paired_sign_flip(second, first, list(pages), seed=0) == pytest.approx(p)


def test_drawn_p_values_follow_the_exact_ones() -> None:
    # 20 pages, 15 for and 5 against: the two-sided binomial p-value is 0.0414.
    pages = [f"page {i}" for i in range(20)]
    p = paired_sign_flip([1.0] * 15 + [0.0] * 5, [0.0] * 15 + [1.0] * 5, pages, seed=0)
    assert p == pytest.approx(0.0414, abs=0.006)
    pages = [f"page {i // 2}" for i in range(100)]
    assert paired_sign_flip([1.0] * 100, [0.0] * 100, pages, seed=0) == pytest.approx(1 / 10_001)


def alarm_rate(pages: Sequence[str], size: int, level: float, trials: int) -> float:
    """How often the test rejects two equally good models, each right or wrong on `size` questions at once."""
    random = np.random.default_rng(7)
    alarms = 0
    for trial in range(trials):
        first, second = (np.repeat(random.integers(0, 2, len(pages) // size), size) for _ in range(2))
        alarms += paired_sign_flip(first, second, pages, seed=trial, resamples=500) <= level
    return alarms / trials


def test_false_alarms_are_as_rare_as_promised_though_pages_are_correlated() -> None:
    assert 0.01 <= alarm_rate([f"page {i // 5}" for i in range(150)], 5, 0.05, trials=300) <= 0.09
    assert alarm_rate([f"question {i}" for i in range(150)], 5, 0.05, trials=100) > 0.2


@pytest.mark.parametrize("level", [0.01, 0.05, 0.2])
def test_false_alarms_are_at_most_nominal_where_all_flips_are_tried(level: float) -> None:
    ten_pages = [f"page {number // 3}" for number in range(30)]
    assert alarm_rate(ten_pages, 3, level, trials=500) <= level + 3 * np.sqrt(level * (1 - level) / 500)


def drawn_pages(random: np.random.Generator, pages: int) -> tuple[list[float], list[float], list[str]]:
    """Outcomes with a mean of 0.6, weights and page names; questions of a page are mostly right or wrong together.

    A page's size is drawn apart from its outcomes, so that the mean over questions is the mean over pages.
    """
    outcomes: list[float] = []
    weights: list[float] = []
    names: list[str] = []
    for page in range(pages):
        right = random.beta(0.6, 0.4)
        size = int(random.integers(1, 6))
        outcomes += (random.random(size) < right).astype(float).tolist()
        weights += (random.random(size) < 0.8).astype(float).tolist()
        names += [f"page {page}"] * size
    return outcomes, weights, names


def test_intervals_cover_the_truth_at_the_nominal_rate() -> None:
    random = np.random.default_rng(11)
    trials, covered = 400, {"all": 0, "some": 0, "questions": 0}
    by_questions = 100  # trials, enough to see how far they fall short
    for trial in range(trials):
        outcomes, weights, pages = drawn_pages(random, pages=80)
        metrics = {"all": metric(outcomes), "some": metric(outcomes, weights)}
        found = page_intervals(metrics, pages, seed=trial, resamples=400)
        if trial < by_questions:
            questions = [f"question {number}" for number in range(len(pages))]
            found["questions"] = page_intervals({"all": metric(outcomes)}, questions, seed=trial, resamples=400)["all"]
        for name, interval in found.items():
            assert interval is not None
            covered[name] += interval[0] <= 0.6 <= interval[1]
    # Within three standard errors (0.033) of 95 %; resampling questions falls far short.
    assert 0.917 <= covered["all"] / trials <= 0.983
    assert 0.917 <= covered["some"] / trials <= 0.983
    assert covered["questions"] / by_questions < 0.88


def test_rows_of_few_pages_have_no_interval() -> None:
    pages = [f"page {number}" for number in range(20)]
    every_other = [float(number % 2) for number in range(20)]
    few = [float(number < 9) for number in range(20)]
    found = subset_intervals({"ten": metric([1.0] * 20, every_other), "nine": metric([1.0] * 20, few)}, pages, seed=0)
    assert found == {"ten": [1.0, 1.0], "nine": None}
    assert subset_intervals({}, pages, seed=0) == {}


@pytest.mark.parametrize(("statistic", "freedom"), [(3.841459, 1), (5.991465, 2), (14.067140, 7), (15.507313, 8)])
def test_the_chi_square_test_gives_five_percent_at_the_tables_points(statistic: float, freedom: int) -> None:
    expected = np.full(freedom + 1, 1e6)
    shift = np.sqrt(statistic * 1e6 / 2)
    observed = expected + np.eye(freedom + 1)[0] * shift - np.eye(freedom + 1)[1] * shift
    assert chi_square_p_value(observed, expected) == pytest.approx(0.05, abs=1e-6)


def test_thin_cells_are_joined_before_the_test() -> None:
    assert chi_square_p_value(np.array([4.0, 1.0]), np.array([2.5, 2.5])) is None
    joined = chi_square_p_value(np.array([30.0, 10.0]), np.array([20.0, 20.0]))
    assert chi_square_p_value(np.array([30.0, 8.0, 2.0]), np.array([20.0, 18.0, 2.0])) == joined
