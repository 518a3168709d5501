"""Bootstrap and paired test over pages: known cases, and what resampling questions instead would give."""

from __future__ import annotations

import numpy as np
import pytest

from finrank.evaluation.intervals import page_intervals, paired_sign_flip
from finrank.evaluation.metrics import Metric


def metric(values: list[float], weights: list[float] | None = None) -> Metric:
    array = np.array(values, dtype=np.float64)
    return Metric(array, np.ones(len(array)) if weights is None else np.array(weights, dtype=np.float64))


def width(interval: list[float] | None) -> float:
    assert interval is not None
    return interval[1] - interval[0]


def test_equal_outcomes_have_no_width() -> None:
    assert page_intervals({"m": metric([1.0, 1.0, 1.0])}, ["a", "b", "c"], seed=0) == {"m": [1.0, 1.0]}


def test_the_width_of_independent_outcomes_is_the_binomial_one() -> None:
    outcomes = [1.0, 0.0] * 200
    interval = page_intervals({"m": metric(outcomes)}, [f"page {i}" for i in range(400)], seed=0)["m"]
    assert interval is not None
    assert sum(interval) / 2 == pytest.approx(0.5, abs=0.01)
    assert width(interval) == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 400), rel=0.1)


def test_pages_give_wider_intervals_than_questions_when_pages_are_right_or_wrong_together() -> None:
    outcomes = metric([float(page % 2) for page in range(40) for _ in range(10)])
    pages = [f"page {page}" for page in range(40) for _ in range(10)]
    questions = [f"question {i}" for i in range(400)]
    by_page = width(page_intervals({"m": outcomes}, pages, seed=0)["m"])
    by_question = width(page_intervals({"m": outcomes}, questions, seed=0)["m"])
    assert by_page / by_question == pytest.approx(np.sqrt(10), rel=0.15)


def test_the_denominator_varies_with_the_pages() -> None:
    # Nine right answers on one page, one wrong on the other: a resample gives 0, 0.9 or 1, never 0.5.
    interval = page_intervals({"m": metric([1.0] * 9 + [0.0])}, ["a"] * 9 + ["b"], seed=0)["m"]
    assert interval == [0.0, 1.0]


def test_pools_left_out_do_not_count() -> None:
    metrics = {"some": metric([1.0, 0.0, 0.0], [1, 0, 0]), "none": metric([0.0, 0.0, 0.0], [0, 0, 0])}
    assert page_intervals(metrics, ["a", "b", "c"], seed=0) == {"some": [1.0, 1.0], "none": None}


def test_the_seed_decides() -> None:
    random = np.random.default_rng(1)
    outcomes, pages = metric(random.random(50).tolist()), [f"page {i % 20}" for i in range(50)]
    assert page_intervals({"m": outcomes}, pages, seed=3) == page_intervals({"m": outcomes}, pages, seed=3)
    assert page_intervals({"m": outcomes}, pages, seed=3) != page_intervals({"m": outcomes}, pages, seed=4)


def test_a_page_is_needed_per_pool() -> None:
    with pytest.raises(ValueError, match="2 pools but 1 page names"):
        page_intervals({"m": metric([1.0, 0.0])}, ["a"], seed=0)


@pytest.mark.parametrize(
    ("first", "second", "pages", "p"),
    [
        ([1, 1, 1], [0, 0, 0], "abc", 2 / 8),  # only +++ and --- are as extreme
        ([1, 1, 1], [0, 0, 0], "aab", 2 / 4),  # two pages: ++ and --
        ([1, 1, 1, 1], [0, 0, 0, 1], "abcd", 2 / 8),  # the page without difference decides nothing
        ([1, 1, 0], [0, 0, 1], "abc", 1.0),  # sum 1: every flip gives 1 or 3
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


def test_a_clear_difference_is_found() -> None:
    pages = [f"page {i // 2}" for i in range(100)]
    assert paired_sign_flip([1.0] * 100, [0.0] * 100, pages, seed=0) == pytest.approx(1 / 10_001)


def test_false_alarms_are_as_rare_as_promised_though_pages_are_correlated() -> None:
    random = np.random.default_rng(7)
    pages = [f"page {i // 5}" for i in range(150)]
    alarms = 0
    for trial in range(300):
        # Both models are equally good; each is right or wrong on a whole page at once.
        first, second = (np.repeat(random.integers(0, 2, 30), 5) for _ in range(2))
        alarms += paired_sign_flip(first, second, pages, seed=trial, resamples=500) < 0.05
    assert 0.01 <= alarms / 300 <= 0.09
    naive = [f"question {i}" for i in range(150)]
    random = np.random.default_rng(7)
    naive_alarms = 0
    for trial in range(100):
        first, second = (np.repeat(random.integers(0, 2, 30), 5) for _ in range(2))
        naive_alarms += paired_sign_flip(first, second, naive, seed=trial, resamples=500) < 0.05
    assert naive_alarms / 100 > 0.2
