"""The chooser: what votes, near misses, programs and systems add to the ranker's scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finrank.errors import UserError
from finrank.ranker.choosing.answers import choose_answers, group_equal_answers, rank_answers
from finrank.ranker.choosing.chooser import (
    CHOOSER,
    DEFAULT_CHOOSER,
    VOTE,
    Chooser,
    answer_features,
    load_chooser,
    save_chooser,
    who_says,
)
from finrank.records import Candidate

QUESTION = "how much is it ?"


def said(answer: float | None, program: str | None = None, model: str | None = None) -> Candidate:
    return Candidate(program=program, answer=answer, model=model, origin="imported")


def chosen(candidates: list[Candidate], scores: list[float], chooser: Chooser = DEFAULT_CHOOSER) -> list[Any]:
    return [answer.answer for answer in rank_answers(candidates, np.array(scores), QUESTION, chooser=chooser)]


def test_the_features_are_those_of_the_docstring() -> None:
    pool = [said(94.0, "subtract(5829, 5735)"), said(94.0), said(94.3)]
    features = answer_features(pool, [[0, 1], [2]], [94.0, 94.3])
    assert features.tolist() == [[math.log(2), math.log(2), 1.0, 0.0], [0.0, math.log(3), 0.0, 0.0]]
    both = [said(94.0, "subtract(5829, 5735)"), said(94.3, "add(94, 0.3)")]
    assert answer_features(both, [[0], [1]], [94.0, 94.3])[:, 1].tolist() == [0.0, 0.0]


def proposed(answer: float, log_probability: float | None) -> Candidate:
    program = f"add({answer}, 0)"
    return Candidate(program=program, answer=answer, origin="proposed", log_probability=log_probability)


def test_a_pool_of_proposals_is_chosen_by_their_log_probabilities_and_the_ranker() -> None:
    pool = [proposed(1.0, -3.0), proposed(2.0, -0.5)]
    assert answer_features(pool, [[0], [1]], [1.0, 2.0])[:, 3].tolist() == [-3.0, -0.5]
    assert chosen(pool, [1.0, 0.0]) == [2.0, 1.0]
    assert chosen(pool, [13.0, 0.0]) == [1.0, 2.0]
    stripped = [proposed(1.0, None), proposed(2.0, None)]  # as in training pools: candidates like any other
    assert chosen(stripped, [1.0, 0.0]) == [1.0, 2.0]
    assert answer_features(stripped, [[0], [1]], [1.0, 2.0])[:, 0].tolist() == [0.0, 0.0]


def test_proposals_beside_what_systems_say_are_an_opinion_and_no_votes() -> None:
    pool = [said(94.0, "subtract(5829, 5735)", "a"), said(93.0, None, "b"), proposed(94.0, -0.7), proposed(5.0, -9.0)]
    members, answers = [[0, 2], [1], [3]], [94.0, 93.0, 5.0]
    features = answer_features(pool, members, answers)
    assert features[:, 0].tolist() == [0.0, 0.0, math.log(0.5)]
    assert features[:, 2].tolist() == [1.0, 0.0, 0.0]
    assert features[:, 3].tolist() == [-0.7, -6.0, -6.0]
    assert [who_says(pool, indices) for indices in members] == [["a"], ["b"], []]
    assert chosen(pool, [0.0, 0.0, 0.0, 0.0])[0] == 94.0
    two_say_it = [said(93.0), said(93.0), proposed(94.0, -0.1)]
    assert chosen(two_say_it, [0.0, 0.0, 0.0]) == [94.0, 93.0]  # 5.9 nats times 5 outweigh log 4 times 20
    assert chosen(two_say_it, [0.0, 0.0, 0.0], DEFAULT_CHOOSER.model_copy(update={"proposed": 0.0})) == [93.0, 94.0]


@pytest.mark.parametrize(
    ("first", "second", "near"),
    [
        (100.0, 100.4, True), (100.0, 100.6, False), (-100.0, -100.4, True), (-100.0, 100.0, False),
        (0.0, 0.001, False),
        ("yes", "no", False), (1e-9, 1.001e-9, True), (1.79e308, 1.785e308, True), (-1.79e308, 1.79e308, False),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_near_is_half_a_percent(first: Any, second: Any, near: bool) -> None:
    features = answer_features([said(None), said(None)], [[0], [1]], [first, second])
    assert features[:, 1].tolist() == [math.log(2) if near else 0.0] * 2


def test_most_votes_come_first_and_the_ranker_breaks_ties() -> None:
    pool = [said(1.0), said(2.0), said(2.0), said(3.0), said(3.0)]
    assert chosen(pool, [9.0, 0.0, 0.0, 1.0, 1.0]) == [3.0, 2.0, 1.0]
    assert chosen(pool, [9.0, 1.0, 1.0, 0.0, 0.0], VOTE) == [2.0, 3.0, 1.0]


def test_a_slip_supports_its_neighbour_and_a_program_counts() -> None:
    assert chosen([said(50.0), said(100.2), said(100.6)], [1.0, 0.0, 0.0])[0] == 100.2
    assert chosen([said(50.0), said(60.0, "add(50, 10)")], [1.0, 0.0])[0] == 60.0


def test_a_system_has_its_weight_and_an_unknown_one_none() -> None:
    pool = [said(1.0, model="good"), said(2.0, model="new"), said(3.0, model="bad")]
    weights = Chooser(systems={"good": 5.0, "bad": -5.0})
    assert chosen(pool, [0.0, 1.0, 2.0], weights) == [1.0, 2.0, 3.0]


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=8))
@example([0.0, 2.220446049250313e-16])  # equal once the weight of a program is added
def test_distinct_programs_are_ranked_by_the_ranker_alone(scores: list[float]) -> None:
    # All within 0.5 % of each other: exact values that differ are no slips of one another.
    pool = [said(1000.0 + index, f"add({index}, 1000)") for index in range(len(scores))]
    array = np.array(scores)
    ranker, chooser = group_equal_answers(pool, array, QUESTION), choose_answers(pool, array, QUESTION)
    assert [group.indices for group in chooser] == [group.indices for group in ranker]
    assert [group.log_probability for group in chooser] == pytest.approx([group.log_probability for group in ranker])


def test_what_is_not_scored_stays_last() -> None:
    pool = [said(None), said(1.0), said(None), said(2.0)]
    groups = choose_answers(pool, np.array([-np.inf, 0.0, -np.inf, 1.0]), QUESTION)
    assert [group.indices[0] for group in groups] == [3, 1, 0]
    assert groups[-1].log_probability == -math.inf
    assert sum(math.exp(group.log_probability) for group in groups) == pytest.approx(1)
    nothing = choose_answers(pool[:1], np.array([-np.inf]), QUESTION)
    assert [group.log_probability for group in nothing] == [-math.inf]


def test_a_chooser_is_stored_with_the_model(tmp_path: Path) -> None:
    assert load_chooser(tmp_path) == DEFAULT_CHOOSER
    fitted = Chooser(votes=2.0, systems={"a": 1.0}, fitted_on={"dev.jsonl": "ab"})
    assert save_chooser(tmp_path, fitted) == tmp_path / CHOOSER
    assert load_chooser(tmp_path) == fitted
    (tmp_path / CHOOSER).write_text('{"votes": "many"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"chooser\.json is damaged .*votes.*finrank fit"):
        load_chooser(tmp_path)
