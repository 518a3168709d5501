"""Fitting the chooser, and the figures of answers, on pools whose systems are good, bad and copies of each other."""

from __future__ import annotations

import numpy as np
import pytest

from finrank.evaluation.answer_figures import answer_figures
from finrank.evaluation.fit_chooser import (
    ChooserPool,
    chooser_pool,
    cross_fitted,
    fit_chooser,
    fit_weights,
    who_said_it,
)
from finrank.evaluation.metrics import FloatArray
from finrank.ranker.choosing.chooser import DEFAULT_CHOOSER
from finrank.records import Candidate, RewardedPool
from tests.helpers.evaluated_pools import make_pool

RIGHT = {"good": 0.85, "bad": 0.3, "copy": 0.3}  # how often each is right; bad and its copy always agree


def made(pages: int, seed: int = 0) -> tuple[list[RewardedPool], list[FloatArray]]:
    """Two pools a page of the three systems, and scores of a ranker that knows a little."""
    random = np.random.default_rng(seed)
    pools, scores = [], []
    for number in range(2 * pages):
        is_right = {name: bool(random.random() < share) for name, share in RIGHT.items()}
        is_right["copy"] = is_right["bad"]
        answers = {name: 1.0 if right else 2.0 + (name == "good") for name, right in is_right.items()}
        pool = make_pool(
            list(answers.values()),
            [place for place, right in enumerate(is_right.values()) if right],
            identifier=f"q{number}",
            page=f"p{number // 2}",
            origin="imported",
        )
        named = [
            one.model_copy(update={"model": name, "program": None})
            for one, name in zip(pool.candidates, answers, strict=True)
        ]
        pools.append(pool.model_copy(update={"candidates": named}))
        scores.append(random.normal(size=3) + np.array(list(is_right.values())) * 0.5)
    return pools, scores


def test_two_copies_of_a_bad_system_do_not_outvote_a_good_one() -> None:
    pools, scores = made(150)
    figures = answer_figures(pools, scores, DEFAULT_CHOOSER)
    assert figures is not None
    rows = {name: row.accuracy for name, row in figures.baselines.items() if row is not None}
    assert rows["vote"] < 0.45  # bad and its copy win
    assert rows["best_system"] == pytest.approx(rows["systems_only"], abs=0.03) == pytest.approx(0.85, abs=0.06)
    assert figures.fitted.accuracy > rows["vote"] + 0.3
    assert rows["oracle"] >= max(figures.fitted.accuracy, *rows.values())
    assert figures.fitted.p_value < 0.01
    assert figures.interval[0] <= figures.accuracy <= figures.interval[1]


def test_the_weights_say_who_is_good_and_unnamed_systems_have_none() -> None:
    pools, scores = made(150)
    chooser = fit_chooser([chooser_pool(*pair) for pair in zip(pools, scores, strict=True)])
    assert chooser.systems["good"] > 0 > chooser.systems["bad"]
    unnamed = [
        pool.model_copy(update={"candidates": [one.model_copy(update={"model": None}) for one in pool.candidates]})
        for pool in pools
    ]
    assert fit_chooser([chooser_pool(*pair) for pair in zip(unnamed, scores, strict=True)]).systems == {}
    figures = answer_figures(unnamed, scores, DEFAULT_CHOOSER)
    assert figures is not None
    assert figures.baselines["best_system"] is figures.baselines["systems_only"] is None


def test_the_order_of_the_pools_changes_nothing() -> None:
    pools, scores = made(30)
    seen = [chooser_pool(*pair) for pair in zip(pools, scores, strict=True)]
    forth, back = fit_chooser(seen), fit_chooser(seen[::-1])
    assert forth.systems == pytest.approx(back.systems, abs=1e-3)
    assert (forth.votes, forth.near) == pytest.approx((back.votes, back.near), abs=1e-3)


def test_figures_come_from_other_pages() -> None:
    """A scorer that remembers right answers by page finds none of them: it never saw the page it is tried on."""
    pools, scores = made(40)
    seen = [chooser_pool(*pair) for pair in zip(pools, scores, strict=True)]

    def remember(training: list[ChooserPool]) -> object:
        pages = {pool.page for pool in training}
        return lambda pool: pool.right if pool.page in pages else -pool.right

    for pool, own in zip(seen, cross_fitted(seen, remember), strict=True):  # type: ignore[arg-type]
        assert own.tolist() == (-pool.right).tolist()


def test_a_pool_without_agreement_has_no_such_figures() -> None:
    pools = [make_pool([1.0, 2.0], [0], identifier=f"q{number}", page=f"p{number}") for number in range(4)]
    assert answer_figures(pools, [np.array([1.0, 0.0])] * 4, DEFAULT_CHOOSER) is None


def test_pools_of_one_page_leave_none_to_fit() -> None:
    pools, scores = made(1)
    figures = answer_figures(pools, scores, DEFAULT_CHOOSER)
    assert figures is not None
    assert figures.baselines["systems_only"] is not None


def test_a_question_that_no_candidate_answers_counts_as_wrong() -> None:
    pools, scores = made(10)
    empty = pools[0].model_copy(
        update={
            "candidates": [Candidate(error="timeout", origin="imported")],
            "correct": [],
            "rewards": [0.0],
            "components": [{}],
            "id": "empty",
        }
    )
    figures = answer_figures([*pools, empty], [*scores, np.array([-np.inf])], DEFAULT_CHOOSER)
    alone = answer_figures(pools, scores, DEFAULT_CHOOSER)
    assert figures is not None
    assert alone is not None
    assert figures.accuracy == pytest.approx(alone.accuracy * len(pools) / (len(pools) + 1))


def test_the_fit_is_at_the_maximum() -> None:
    """The gradient of the penalised likelihood is zero there, by differences."""
    random = np.random.default_rng(1)
    designs = [(random.normal(size=(4, 3)), np.array([1.0, 0.0, float(number % 2), 0.0])) for number in range(40)]
    penalties = np.array([0.5, 1.0, 2.0])
    weights = fit_weights(designs, penalties)

    def likelihood(at: FloatArray) -> float:
        total = -float(penalties @ at**2) / 2
        for rows, right in designs:
            scores = rows @ at
            total += float(np.logaddexp.reduce(scores[right > 0]) - np.logaddexp.reduce(scores))
        return total

    for step in np.eye(3) * 1e-4:
        assert likelihood(weights + step) - likelihood(weights - step) == pytest.approx(0, abs=1e-6)


def test_who_said_it_reads_nothing() -> None:
    pools, scores = made(30)
    seen = [chooser_pool(*pair) for pair in zip(pools, scores, strict=True)]
    other = [chooser_pool(pool, own[::-1]) for pool, own in zip(pools, scores, strict=True)]
    score = who_said_it(seen)
    assert all(sorted(score(one)) == sorted(score(two)) for one, two in zip(seen, other, strict=True))
