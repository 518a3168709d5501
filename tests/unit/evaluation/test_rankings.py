"""Mistakes and examples: which pools, and what is shown of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from finrank.evaluation.rankings import EXAMPLES, MOST_MISTAKES, confident_mistakes, examples
from finrank.records import RewardedPool

MakePool = Callable[..., RewardedPool]


def test_the_surest_mistakes_come_first(make_pool: MakePool) -> None:
    pools = [make_pool([1.0, 2.0], [0], identifier=f"q{number}") for number in range(80)]
    scores = [np.array([0.0, number / 10]) for number in range(80)]
    found = confident_mistakes(pools, scores)
    assert len(found) == MOST_MISTAKES
    assert [one["id"] for one in found[:2]] == ["q79", "q78"]
    assert [one["confidence"] for one in found] == sorted((one["confidence"] for one in found), reverse=True)


def test_right_picks_ties_with_a_right_one_and_unanswerable_pools_are_no_mistakes(make_pool: MakePool) -> None:
    pools = [make_pool([1.0, 2.0], [0]), make_pool([1.0, 2.0], [0]), make_pool([1.0, 2.0], [])]
    assert confident_mistakes(pools, [np.array([1.0, 0.0]), np.array([1.0, 1.0]), np.array([0.0, 1.0])]) == []


def test_all_that_one_needs_to_see_is_there(make_pool: MakePool) -> None:
    programs, names = ["add(2, 3)", "divide(1, 0)"], {"identifier": "V/2008-1", "page": "V/2008"}
    gold = {"program": "add(2, 3)", "answer": 5.0, "text": ["a sentence ."]}
    pool = make_pool([5.0, None], [0], programs=programs, edits=[[], ["sign"]], **names, **gold)
    (found,) = confident_mistakes([pool], [np.array([0.0, np.log(3.0)])])
    assert found == {
        "id": "V/2008-1",
        "page": "V/2008",
        "question": "how much ?",
        "rows": [["", "2008"]],
        "text": ["a sentence ."],
        "program": "add(2, 3)",
        "answer": 5.0,
        "candidates": [
            {"program": "add(2, 3)", "answer": 5.0, "score": 0.0, "probability": 0.25, "reward": 1.0,
             "origin": "corrupted", "edits": []},
            {"program": "divide(1, 0)", "answer": None, "score": 1.098612, "probability": 0.75, "reward": 0.2,
             "origin": "corrupted", "edits": ["sign"]},
        ],
        "picked": 1,
        "confidence": 0.75,
    }  # fmt: skip


def test_the_temperature_makes_probabilities_milder(make_pool: MakePool) -> None:
    (found,) = confident_mistakes([make_pool([1.0, 2.0], [0])], [np.array([0.0, 2 * np.log(3.0)])], temperature=2.0)
    assert found["confidence"] == pytest.approx(0.75)


def test_equal_answers_pool_their_probability_as_the_ranker_gives_it(make_pool: MakePool) -> None:
    programs = ["add(2, 3)", "add(1, 1)", "add(1, 1)", "add(0, 2)"]  # 0.1; 0.45 and its copy, which counts once; 0.45
    pool = make_pool([5.0, 2.0, 2.0, 2.0], [0], programs=programs)
    scores = np.log([0.1, 0.45, 0.45, 0.45])
    (found,) = confident_mistakes([pool], [scores])
    assert [one["probability"] for one in found["candidates"]] == [0.1, 0.9, 0.9, 0.9]
    assert (found["picked"], found["confidence"]) == (1, 0.9)
    (milder,) = confident_mistakes([pool], [scores], temperature=2.0)
    assert milder["confidence"] == 0.75  # sqrt(0.9) : sqrt(0.1) is 3 : 1; temperature comes after pooling


def test_examples_are_spread_over_the_split_and_never_twice(make_pool: MakePool) -> None:
    pools = [make_pool([1.0, 2.0], identifier=f"q{number}") for number in range(80)]
    scores = [np.zeros(2)] * 80
    assert [one["id"] for one in examples(pools, scores)] == [f"q{10 * number}" for number in range(EXAMPLES)]
    assert [one["id"] for one in examples(pools[:3], scores[:3])] == ["q0", "q1", "q2"]
