"""Pools under attack: scorers that see neither question nor page find gold little more often than chance does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from finrank.evaluation.audit import attackers
from finrank.pools.corruption.fit_likeness import CrossFitted, cross_fit
from finrank.pools.corruption.likeness import Likeness
from finrank.pools.pool import PoolSettings, build_pool
from finrank.records import Pool, Question
from tests.helpers.evaluated_pools import linear_accuracy, medoid_accuracies
from tests.helpers.questions import RATE, N, Questions, finqa_questions, star_pool

# The most that an attacker may reach; chance is 0.125.
BOUND = 0.35


class Pools(NamedTuple):
    """Pools of two splits that share no page; the likeness was fitted on train."""

    train: list[Pool]
    dev: list[Pool]


def make_pools(train: list[Question], dev: list[Question], likeness_of: Callable[[str], Likeness]) -> Pools:
    def made(questions: list[Question]) -> list[Pool]:
        return [build_pool(question, PoolSettings(N, RATE), likeness_of(question.page)) for question in questions]

    return Pools(made(train), made(dev))


def medoids(pools: Sequence[Pool], kind: str) -> list[float]:
    return list(medoid_accuracies(pools)[f"medoid_{kind}"].values())


def combined_accuracy(pools: Pools) -> float:
    return float(np.mean(attackers.accuracies(pools.dev, attackers.combined_scores(*pools))))


@pytest.fixture(scope="module")
def fitted(sample: Questions) -> CrossFitted:
    return cross_fit(sample.train, rate=RATE, seed=0)


@pytest.fixture(scope="module")
def pools(sample: Questions, fitted: CrossFitted) -> Pools:
    return make_pools(*sample, fitted.of)


def test_the_linear_attacker_does_not_find_gold(pools: Pools) -> None:
    assert {len(pool.candidates) for pool in pools.dev} == {N}
    assert linear_accuracy(*pools) < BOUND


def test_it_finds_gold_where_wrong_candidates_do_not_look_like_gold(sample: Questions) -> None:
    longer = Likeness(weights={("steps", 3): 6.0})
    train, dev = sample
    assert linear_accuracy(*make_pools(train[:120], dev[:60], lambda page: longer)) > 0.5


@pytest.mark.parametrize("kind", ["value", "text"])
def test_no_medoid_finds_gold(pools: Pools, kind: str) -> None:
    assert max(medoids(pools.dev, kind)) < BOUND
    assert max(medoid_accuracies(pools.dev)[f"anti_medoid_{kind}"].values()) < BOUND


def test_the_text_medoid_finds_gold_in_the_middle_of_a_star(sample: Questions, fitted: CrossFitted) -> None:
    stars = [star_pool(question, fitted.of(question.page)) for question in sample.dev]
    assert {len(pool.candidates) for pool in stars} == {N}
    assert min(medoids(stars, "text")) > 0.4


@pytest.mark.slow
def test_both_together_do_not_find_gold(pools: Pools) -> None:
    assert combined_accuracy(pools) < BOUND


@pytest.mark.slow
def test_attackers_do_not_find_gold_in_pools_of_finqa(finqa_dir: Path, finqa_dev: list[Question]) -> None:
    train = finqa_questions(finqa_dir / "train.json")[:1200]  # the whole of train takes minutes
    fitted = cross_fit(train, rate=RATE, seed=0)
    pools = make_pools(train, finqa_dev, fitted.of)
    figures = {
        "linear": linear_accuracy(*pools),
        "medoid by value": max(medoids(pools.dev, "value")),
        "medoid by text": max(medoids(pools.dev, "text")),
        "combined": combined_accuracy(pools),
    }
    assert max(figures.values()) <= BOUND, figures
    stars = [star_pool(question, fitted.of(question.page)) for question in finqa_dev[::4]]
    assert max(medoids(stars, "text")) > 0.4
