"""Explanations by hand: positions and orders, each breakdown, and the rankings that are shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from finrank.evaluation import explain
from finrank.evaluation.baselines import chance
from finrank.evaluation.explain import confident_mistakes, order_invariance
from finrank.evaluation.metrics import pool_metrics
from finrank.evaluation.result import (
    BreakdownRow,
    Breakdowns,
    OrderInvariance,
    PositionBias,
    RankedCandidate,
    RankedPool,
    WrongKind,
)
from finrank.records import RewardedPool
from tests.helpers.evaluated_pools import RANKER_ALONE, by_reward, make_pool

TABLE = [["", "2008"], ["revenue", "$ 637"], ["costs", "210"]]
TEXT = ["we paid 55 in tax .", "revenue of 637 rose ."]
ORDER = OrderInvariance(0, 0.0, 0.0)


@pytest.fixture
def pools() -> list[RewardedPool]:
    """200 pools of four on 100 pages, each place in turn correct."""
    return [
        make_pool([1.0, 2.0, 3.0, 4.0], [number % 4], page=f"page {number // 2}", identifier=f"q{number}")
        for number in range(200)
    ]


def bias_of(pools: list[RewardedPool], scores: Sequence[np.ndarray]) -> PositionBias:
    return explain.position_bias(pools, scores, pool_metrics(pools, scores)["accuracy"], ORDER, seed=0)


def test_a_scorer_of_places_is_right_where_its_place_is(pools: list[RewardedPool]) -> None:
    bias = bias_of(pools, [np.eye(4)[2]] * 200)
    assert [(row.position, row.n, row.accuracy) for row in bias.best_positions] == [
        (0, 50, 0.0), (1, 50, 0.0), (2, 50, 1.0), (3, 50, 0.0)
    ]  # fmt: skip
    assert bias.picked == [0.0, 0.0, 1.0, 0.0]
    assert (bias.p_value or 0.0) < 1e-50


def test_right_and_constant_scorers_have_no_bias(pools: list[RewardedPool]) -> None:
    for scores, accuracy in ((by_reward(pools), 1.0), ([np.zeros(4)] * 200, 0.25)):
        bias = bias_of(pools, scores)
        assert (bias.picked, bias.p_value) == ([0.25] * 4, 1.0)
        assert bias.best_positions[3].accuracy == accuracy


def test_pools_of_two_sizes_have_more_even_picks_at_early_positions() -> None:
    small = [make_pool([1.0, 2.0], [0], page=f"page {number}") for number in range(40)]
    large = [make_pool([float(value) for value in range(8)], [7], page=f"page {number}") for number in range(40)]
    pools = small + large
    bias = bias_of(pools, [np.zeros(len(pool.candidates)) for pool in pools])
    assert bias.even == bias.picked == [0.3125] * 2 + [0.0625] * 6


def test_several_correct_candidates_and_tied_picks_share_their_pool() -> None:
    pools = [make_pool([1.0, 2.0, 1.0], [0, 2]), make_pool([1.0, 2.0, 3.0], [])]
    bias = bias_of(pools, [np.array([1.0, 0.0, 0.0])] * 2)
    assert [(row.position, row.n, row.accuracy, row.interval) for row in bias.best_positions] == [
        (0, 0.5, 1.0, None), (2, 0.5, 1.0, None)
    ]  # fmt: skip
    assert bias.p_value is None  # too few pools for a test
    pools = [make_pool([1.0, 2.0], [0]), make_pool([1.0, 2.0, 3.0], [0])]
    assert explain.picked_positions(pools, [np.array([0.0, 1.0]), np.zeros(3)]).picks == [0.333333, 1.333333, 0.333333]


def by_value(pools: Sequence[RewardedPool]) -> list[np.ndarray]:
    return [np.array([float(candidate.answer or 0.0) for candidate in pool.candidates]) for pool in pools]


def with_place(pools: Sequence[RewardedPool]) -> list[np.ndarray]:
    return [scores + 0.001 * np.arange(len(scores)) for scores in by_value(pools)]


def with_neighbours(pools: Sequence[RewardedPool]) -> list[np.ndarray]:
    """The reversed order alone would not show it: it keeps neighbours."""
    return [scores + 0.001 * (np.roll(scores, 1) + np.roll(scores, -1)) for scores in by_value(pools)]


def test_scores_that_depend_on_the_order_are_found_and_others_are_not(pools: list[RewardedPool]) -> None:
    def invariance(score: explain.Score, n: int = 200) -> OrderInvariance:
        return order_invariance(pools[:n], score(pools[:n]), score, tolerance=0.1, seed=0)

    pool = explain.reordered(make_pool([1.0, 2.0, 3.0], [0]), [2, 0, 1])
    assert ([by_value([pool])[0].tolist()], pool.rewards, pool.correct) == ([[3.0, 1.0, 2.0]], [0.2, 1.0, 0.2], [1])
    assert invariance(by_value) == OrderInvariance(explain.ORDER_SAMPLE, 0.0, 0.1)
    assert invariance(by_value, 5).checked == 5
    assert invariance(with_place).max_difference == pytest.approx(0.003)
    assert invariance(with_neighbours).max_difference > 0.0005


def tables(pools: list[RewardedPool], scores: Sequence[Sequence[float]]) -> Breakdowns:
    arrays = [np.array(pool_scores) for pool_scores in scores]
    return explain.break_down(pools, arrays, pool_metrics(pools, arrays)["accuracy"], chance(pools)["accuracy"], seed=0)


def rows(table: list[BreakdownRow]) -> list[tuple[str, int, float, float]]:
    return [(row.name, row.n, row.accuracy, row.chance) for row in table]


@pytest.fixture
def four() -> list[RewardedPool]:
    """Four questions, the first two answered right by the scores [1, 0]."""
    programs = [
        "subtract(637, 210)",
        "subtract(637, 55), divide(#0, 55)",
        "add(55, const_1), add(#0, 1), add(#1, 2), divide(#2, const_4), add(#3, 1)",
        "table_max(revenue, none)",
    ]
    return [
        make_pool([1.0, 2.0], [int(number > 1)], program=program, table=TABLE, text=TEXT)
        for number, program in enumerate(programs)
    ]


def test_steps_operations_and_origin_of_the_needed_numbers(four: list[RewardedPool]) -> None:
    found = tables(four, [[1.0, 0.0]] * 4)
    assert rows(found.steps) == [("1", 2, 0.5, 0.5), ("2", 1, 1.0, 0.5), ("4 or more", 1, 0.0, 0.5)]
    assert rows(found.operation) == [
        ("add", 1, 0.0, 0.5), ("subtract", 2, 1.0, 0.5), ("divide", 2, 0.5, 0.5), ("table_max", 1, 0.0, 0.5)
    ]  # fmt: skip
    nowhere = make_pool([1.0, 2.0], program="add(9, const_2)", table=TABLE, text=TEXT)
    assert rows(tables([*four, nowhere], [[1.0, 0.0]] * 5).origin) == [
        ("table", 2, 0.5, 0.5),  # 637 and 210, though 637 is in a sentence too; the row of table_max
        ("text", 1, 0.0, 0.5),  # 55
        ("both", 1, 1.0, 0.5),
        ("nowhere", 1, 1.0, 0.5),
    ]


def test_length_of_the_page_in_quarters_of_questions_with_and_without_a_program() -> None:
    found = tables([make_pool([1.0, 2.0]), make_pool([1.0, 2.0], program="no program")], [[1.0, 0.0]] * 2)
    assert found.steps == found.operation == found.origin == found.candidates == []
    assert rows(found.context_length) == [("1 words", 2, 1.0, 0.5)]
    pools = [make_pool([1.0, 2.0], [0], text=["word " * length]) for length in (10, 20, 30, 40, 50, 60, 70, 80)]
    assert [explain.context_words(pool) for pool in pools[:2]] == [11, 21]  # the table has one word, 2008
    assert rows(tables(pools, [[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 2).context_length) == [
        ("11 to 21 words", 2, 1.0, 0.5), ("31 to 41 words", 2, 1.0, 0.5),
        ("51 to 61 words", 2, 1.0, 0.5), ("71 to 81 words", 2, 0.0, 0.5),
    ]  # fmt: skip


def test_size_of_the_pool_where_sizes_differ() -> None:
    pools = [make_pool([1.0] * size, [0]) for size in (2, 4, 4)]
    found = tables(pools, [[1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0] * 4])
    assert rows(found.candidates) == [("2", 1, 1.0, 0.5), ("4", 2, 0.625, 0.25)]
    many = [make_pool([1.0] * size, [0]) for size in range(2, 14)]
    assert [row.name for row in tables(many, [np.zeros(size) for size in range(2, 14)]).candidates] == [
        "2 to 4 candidates", "5 to 7 candidates", "8 to 10 candidates", "11 to 13 candidates"
    ]  # fmt: skip


def test_a_row_has_an_interval_from_ten_pages_on() -> None:
    pools = [
        make_pool([1.0, 2.0], [number % 2], page=f"page {number}", program=f"add(1, 2){', add(#0, 1)' * (number > 9)}")
        for number in range(19)
    ]
    one_step, two_steps = tables(pools, [[1.0, 0.0]] * 19).steps
    assert one_step.interval is not None
    assert one_step.interval[0] < one_step.accuracy < one_step.interval[1]
    assert two_steps.interval is None


def test_the_corruptions_that_were_picked() -> None:
    pools = [
        make_pool([1.0, 2.0, 3.0], [0], edits=[[], ["sign"], ["sign", "row", "row"]]),
        make_pool([1.0, 2.0, 3.0], [0], edits=[[], ["row"], []]),
    ]
    assert explain.fooled_by(pools, [np.array([0.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0])]) == [
        WrongKind("corrupted", picked=0.5, offered=1, share=0.5, chance=0.333333),
        WrongKind("sign", picked=1.0, offered=2, share=0.5, chance=0.333333),
        WrongKind("row", picked=0.5, offered=2, share=0.25, chance=0.333333),
    ]


def test_mistakes_are_the_surest_wrong_picks_of_answerable_pools() -> None:
    pools = [make_pool([1.0, 2.0], [0], identifier=f"q{number}") for number in range(80)]
    mistakes = confident_mistakes(pools, [np.array([0.0, number / 10]) for number in range(80)])
    assert [ranked.id for ranked in mistakes] == [f"q{79 - number}" for number in range(explain.MOST_MISTAKES)]
    pools = [make_pool([1.0, 2.0], [0]), make_pool([1.0, 2.0], [0]), make_pool([1.0, 2.0], [])]
    assert confident_mistakes(pools, [np.array([1.0, 0.0]), np.array([1.0, 1.0]), np.array([0.0, 1.0])]) == []


def test_a_ranking_holds_question_page_and_candidates() -> None:
    programs, names = ["add(2, 3)", "divide(1, 0)"], {"identifier": "V/2008-1", "page": "V/2008"}
    gold = {"program": "add(2, 3)", "answer": 5.0, "text": ["a sentence ."]}
    pool = make_pool([5.0, None], [0], programs=programs, edits=[[], ["sign"]], **names, **gold)
    (found,) = confident_mistakes([pool], [np.array([0.0, np.log(3.0)])], chooser=RANKER_ALONE)
    right = RankedCandidate("add(2, 3)", 5.0, 0.0, 0.25, 1.0, "corrupted", [])
    wrong = RankedCandidate("divide(1, 0)", None, 1.098612, 0.75, 0.2, "corrupted", ["sign"])
    page = ("V/2008-1", "V/2008", "how much ?", [["", "2008"]], ["a sentence ."])
    assert found == RankedPool(*page, "add(2, 3)", 5.0, [right, wrong], picked=1, confidence=0.75)


def test_equal_answers_pool_their_probability_and_temperature_comes_after() -> None:
    programs = ["add(2, 3)", "add(1, 1)", "add(1, 1)", "add(0, 2)"]  # 0.1; 0.45 and its copy, which counts once; 0.45
    pool, scores = make_pool([5.0, 2.0, 2.0, 2.0], [0], programs=programs), np.log([0.1, 0.45, 0.45, 0.45])
    (found,) = confident_mistakes([pool], [scores], chooser=RANKER_ALONE)
    assert [candidate.probability for candidate in found.candidates] == [0.1, 0.9, 0.9, 0.9]
    assert (found.picked, found.confidence) == (1, 0.9)
    (milder,) = confident_mistakes([pool], [scores], temperature=2.0, chooser=RANKER_ALONE)
    assert milder.confidence == 0.75  # sqrt(0.9) : sqrt(0.1) is 3 : 1


@pytest.mark.parametrize(("n", "ids"), [(80, [f"q{10 * number}" for number in range(8)]), (3, ["q0", "q1", "q2"])])
def test_examples_are_spread_over_the_split_and_never_twice(n: int, ids: list[str]) -> None:
    pools = [make_pool([1.0, 2.0], identifier=f"q{number}") for number in range(n)]
    assert [ranked.id for ranked in explain.examples(pools, [np.zeros(2)] * n)] == ids


def test_what_is_not_scored_is_no_choice_and_has_no_score() -> None:
    answers, programs = [1.0, 2.0, None, 4.0], ["add(0, 1)", "add(1, 1)", "divide(1, 0)", "add(1, 3)"]
    pools = [make_pool(answers, [0], programs=programs, page=f"page {number}") for number in range(80)]
    scores = [np.array([1.0, 0.0, -np.inf, -np.inf])] * 40 + [np.array([0.0, 1.0, -np.inf, -np.inf])] * 40
    bias = bias_of(pools, scores)
    assert (bias.picked, bias.p_value) == ([0.5, 0.5, 0.0, 0.0], 1.0)
    (kind,) = explain.fooled_by(pools, scores)
    assert (kind.picked, kind.offered, kind.chance) == (40.0, 240, round(80 * 0.5 / 240, 6))
    ranked = explain.rank_pool(pools[0], scores[0])
    assert [one.score for one in ranked.candidates] == [1.0, 0.0, None, None]
    assert [one.probability for one in ranked.candidates[2:]] == [0.0, 0.0]
    assert ranked.best_first == ranked.candidates
    nothing = explain.rank_pool(pools[0], np.full(4, -np.inf))
    assert (nothing.confidence, nothing.pick.score) == (0.0, None)
    assert explain.confident_mistakes(pools[:1], [np.full(4, -np.inf)]) == []


def test_the_order_of_what_is_not_scored_is_no_difference() -> None:
    pool = make_pool([1.0, None, 2.0])
    scores = [np.array([0.5, -np.inf, 0.25])]
    by_answer = {1.0: 0.5, None: -np.inf, 2.0: 0.25}
    order = order_invariance(
        [pool],
        scores,
        lambda others: [np.array([by_answer[one.answer] for one in other.candidates]) for other in others],
        tolerance=0.1,
        seed=0,
    )
    assert order.max_difference == 0.0
