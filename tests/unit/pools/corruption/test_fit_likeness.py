"""Fitting the likeness: corrupted programs look like gold ones, without a question's own page."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest

from finrank.pools.corruption.fit_likeness import FOLDS, CrossFitted, cross_fit, fit, fold_of
from finrank.pools.corruption.gold_shapes import count_shapes
from finrank.pools.corruption.likeness import Feature, Likeness
from finrank.pools.corruption.trees import grow
from finrank.programs import parse
from finrank.records import Question
from tests.helpers.questions import RATE, N, Questions, gold_draft


def gap(questions: list[Question], likeness: Likeness) -> float:
    """Sum of squared differences between a feature's mean number in gold and in wrong programs, over all features."""
    difference: defaultdict[Feature, float] = defaultdict(float)
    for question in questions:
        corruptor, gold = gold_draft(question, likeness)
        wrong = grow(corruptor, gold, N, RATE, random.Random(question.id))
        for draft, weight in [(gold, 1.0), *((draft, -1.0 / len(wrong)) for draft in wrong)]:
            for feature in corruptor.features(draft):
                difference[feature] += weight
    return sum((total / len(questions)) ** 2 for total in difference.values())


@pytest.mark.parametrize("source", ["sample", "finqa_dev"])
def test_on_other_pages_wrong_programs_look_more_like_gold(request: pytest.FixtureRequest, source: str) -> None:
    fixture = request.getfixturevalue(source)
    questions: list[Question] = [*fixture.train, *fixture.dev] if source == "sample" else fixture
    learned = [question for question in questions if fold_of(question.page) == 0][:300]
    others = [question for question in questions if fold_of(question.page) == 1][:150]
    fitted = fit(learned, RATE, seed=0)
    wrong_way_round = {feature: -weight for feature, weight in fitted.weights.items()}
    # The weights alone do it: the shapes are counted before and after.
    before = gap(others, Likeness(fitted.shapes))
    assert gap(others, fitted) < before / 2 < gap(others, Likeness(fitted.shapes, wrong_way_round))


def test_the_same_seed_fits_the_same_rounded_weights(sample: Questions) -> None:
    questions = sample.train[:60]
    first, again, other = (fit(questions, RATE, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert list(first.weights) == list(again.weights)
    assert first.shapes == other.shapes == count_shapes(parse(question.program or "") for question in questions)
    assert first.weights != other.weights
    assert all(weight == round(weight, 3) for weight in first.weights.values())
    assert max(map(abs, first.weights.values())) > 0.05


def test_few_questions_teach_nothing_and_all_pools_are_then_alike(sample: Questions) -> None:
    by_fold = [[question for question in sample.train if fold_of(question.page) == fold] for fold in range(FOLDS)]
    few = cross_fit([*by_fold[0][:60], *by_fold[1][:49]], rate=RATE, seed=0)
    assert (few.likenesses, few.questions) == ([Likeness()] * FOLDS, [0, 0])
    enough = cross_fit([*by_fold[0][:60], *by_fold[1][:50]], rate=RATE, seed=0)
    assert Likeness() not in enough.likenesses
    assert enough.questions == [50, 60]  # each learned from the other fold


def test_a_page_has_the_same_fold_everywhere_and_folds_are_even() -> None:
    assert [fold_of(page) for page in ("V/2008/page_17.pdf", "ADI/2009/page_49.pdf")] == [0, 1]
    counts = Counter(fold_of(f"page {number}") for number in range(1000))
    assert set(counts) == set(range(FOLDS))
    assert min(counts.values()) > 1000 / FOLDS - 80


@pytest.fixture(scope="module")
def questions(sample: Questions) -> list[Question]:
    """Few questions, but enough of each fold."""
    return sample.train[:130]


@pytest.fixture(scope="module")
def fitted(questions: list[Question]) -> CrossFitted:
    fitted = cross_fit(questions, rate=RATE, seed=0)
    assert min(fitted.questions) >= 50
    return fitted


def test_a_page_s_likeness_is_fitted_on_the_pages_of_the_other_fold(
    questions: list[Question], fitted: CrossFitted
) -> None:
    for fold in range(FOLDS):
        others = [question for question in questions if fold_of(question.page) != fold]
        page = next(question.page for question in questions if fold_of(question.page) == fold)
        assert fitted.of(page) == fit(others, RATE, seed=0)


def test_a_page_s_likeness_knows_nothing_of_the_page(questions: list[Question], fitted: CrossFitted) -> None:
    page = questions[0].page
    update = {"program": "exp(7, 2), exp(#0, 2)", "answer": 2401.0}
    changed = [question.model_copy(update=update if question.page == page else {}) for question in questions]
    refitted = cross_fit(changed, rate=RATE, seed=0)
    assert refitted.of(page) == fitted.of(page)
    # The other half has seen the page; so would a likeness have that is fitted on all pages.
    equal = [before == after for before, after in zip(fitted.likenesses, refitted.likenesses, strict=True)]
    assert sum(equal) == 1
    assert fit(changed, RATE, seed=0).weights != fit(questions, RATE, seed=0).weights
