"""From scores to answers: equal ones are one, and those without a value come last with probability 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finrank.ranker.choosing.answers import group_equal_answers, rank_answers, temper
from finrank.ranker.choosing.confidence import Threshold
from finrank.records import Candidate
from tests.helpers.saved_ranker import fitted
from tests.helpers.valueless import TOO_LONG, VALUELESS

QUESTION = "what is the share ?"
EXACT = Candidate(program="divide(15000, 60100)", answer=0.24958, origin="imported", model="first")
PRECISE = Candidate(answer=0.2496, stated="24.96 %", origin="imported", model="second")
ROUGH = Candidate(answer=0.25, stated="25%", origin="imported", model="first")
OTHER = Candidate(program="add(1, 2)", answer=3.0, origin="imported")


def test_a_stated_answer_and_a_value_that_it_rounds_are_one() -> None:
    ranking = rank_answers([ROUGH, OTHER, PRECISE, EXACT], np.array([2.0, 2.3, 1.0, 0.0]), QUESTION)
    assert [(one.answer, one.indices, one.index) for one in ranking] == [(0.24958, [0, 2, 3], 0), (3.0, [1], 1)]
    assert ranking[0].probability == pytest.approx(1 - ranking[1].probability)
    assert (ranking[0].programs, ranking[0].models, ranking[1].models) == ([EXACT.program], ["first", "second"], [])
    assert ranking[0].as_json()["models"] == ["first", "second"]
    assert not {"models", "error"} & ranking[1].as_json().keys()


def test_without_an_exact_value_the_most_precise_one_is_the_answer() -> None:
    (answer,) = rank_answers([ROUGH, PRECISE], np.zeros(2), QUESTION)
    assert (answer.answer, answer.index, answer.programs) == (0.2496, 0, [])


def test_what_is_not_scored_comes_last_in_its_order_with_its_reason() -> None:
    without = [one.model_copy(update={"error": one.error or "nothing"}) for one in VALUELESS]
    candidates = [*without, EXACT, without[0], TOO_LONG, OTHER]
    scores = np.array([*[-np.inf] * 4, -50.0, -np.inf, -np.inf, -80.0])
    ranking = rank_answers(candidates, scores, QUESTION, fitted())
    assert [one.indices for one in ranking] == [[4], [7], [0, 5], [1], [2], [3], [6]]
    assert [one.score for one in ranking] == [-50.0, -80.0, None, None, None, None, None]
    assert [one.probability for one in ranking[2:]] == [0.0] * 5
    assert [one.answer for one in ranking[2:]] == [None] * 5
    assert [one.error for one in ranking[2:6]] == [one.error for one in without]
    assert ranking[3].models == ["shy"]
    assert sum(one.probability for one in ranking) == pytest.approx(1.0)
    assert ranking.abstain is False


def test_a_candidate_that_is_not_scored_is_no_vote() -> None:
    # Were the first one an exact value, the stated answer would be near two of them, and join neither.
    near = Candidate(program="add(0, 0.24961)", answer=0.24961, origin="imported")
    scores = np.array([-np.inf, 0.0, 0.0])
    assert [one.indices for one in rank_answers([near, EXACT, PRECISE], scores, QUESTION)] == [[1, 2], [0]]
    assert [one.indices for one in rank_answers([near, EXACT, PRECISE], np.zeros(3), QUESTION)] == [[0], [1], [2]]


def test_where_nothing_is_scored_the_ranking_abstains() -> None:
    threshold = Threshold(wanted_accuracy=0.9, value=0.0, coverage=1.0, accuracy=0.9, lower_bound=0.9)
    for confidence in (None, fitted(), fitted(threshold=threshold)):
        ranking = rank_answers(VALUELESS, np.full(4, -np.inf), QUESTION, confidence)
        assert ranking.abstain is True
        assert [(one.index, one.probability, one.score) for one in ranking] == [(i, 0.0, None) for i in range(4)]


@given(
    st.lists(st.tuples(st.sampled_from([EXACT, PRECISE, ROUGH, OTHER]), st.floats(-90, 90)), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([*VALUELESS, TOO_LONG])), max_size=4),
)
def test_what_is_not_scored_changes_nothing_for_the_others(
    scored: list[tuple[Candidate, float]], added: list[tuple[int, Candidate]]
) -> None:
    rows = list(scored)
    for place, candidate in added:
        rows.insert(place, (candidate, -math.inf))
    before, after = (
        [
            (candidates[group.source], group.log_probability, [candidates[index] for index in group.indices])
            for group in group_equal_answers(candidates, np.array(scores), QUESTION)
            if group.log_probability > -math.inf
        ]
        for candidates, scores in (tuple(zip(*pairs, strict=True)) for pairs in (scored, rows))
    )
    assert before == after


def test_tempering_leaves_probability_0_and_pools_without_any_as_they_are() -> None:
    logs = np.array([[math.log(0.8), math.log(0.2), -np.inf], [-np.inf] * 3])
    with np.errstate(all="raise"):
        tempered = np.exp(temper(logs, 2.0))
    assert tempered[0] == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert tempered[1].tolist() == [0.0, 0.0, 0.0]
