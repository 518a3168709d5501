"""Metrics by hand, against every order of tied candidates, and under permutations, which must not change them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finrank.evaluation.evaluate import evaluate_pools
from finrank.evaluation.metrics import outcome, pool_metrics, pooled_accuracy, reciprocal_rank, same_programs
from finrank.ranker.choosing.answers import group_equal_answers
from finrank.records import Answer, Candidate, RewardedPool
from tests.helpers.evaluated_pools import make_pool


def pooled(pool: RewardedPool, scores: Sequence[float] | np.ndarray) -> float:
    return float(pooled_accuracy([pool], [scores]).values[0])


def test_unanswerable_pools_are_wrong_and_left_out_of_the_ratio() -> None:
    pools = [
        make_pool([1.0, 2.0], [0], rewards=[1.0, 0.5]),
        make_pool([1.0, 2.0], [1], rewards=[0.3, 1.0]),
        make_pool([1.0, 2.0], [], rewards=[0.4, 0.1]),
    ]
    means = {name: metric.mean() for name, metric in pool_metrics(pools, [[1, 0], [1, 0], [1, 1]]).items()}
    assert means["accuracy"] == pytest.approx((1 + 0 + 0) / 3)
    assert means["reward_ratio"] == pytest.approx((1.0 + 0.3) / 2)
    assert means["average_reward"] == pytest.approx((1.0 + 0.3 + 0.25) / 3)
    assert pool_metrics(pools[2:], [[1.0, 0.0]])["reward_ratio"].mean() is None


def test_float32_scores_tie_only_where_they_are_equal() -> None:
    near = np.array([1.0, np.nextafter(np.float32(1.0), np.float32(2.0))], dtype=np.float32)
    assert outcome(make_pool([1.0, 2.0], [1]), near)["accuracy"] == 1.0


def test_execution_and_program_accuracy_by_hand() -> None:
    programs = ["add(1, 2)", "add(2, 1)", "multiply(1, 3)", "multiply(1, 2)", "divide(1, 0)"]
    pool = make_pool([3.0, 3.0, 3.0, 2.0, None], [0, 1, 2], programs=programs, program="add(1, 2)", answer=3.0)
    assert same_programs(pool) == [0, 1]
    picks = [outcome(pool, np.eye(5)[picked]) for picked in range(5)]
    assert [pick["execution_accuracy"] for pick in picks] == [1, 1, 1, 0, 0]
    assert [pick["program_accuracy"] for pick in picks] == [1, 1, 0, 0, 0]
    assert same_programs(pool.model_copy(update={"answer": None})) == [0, 1]


def test_pools_without_gold_are_left_out_of_the_official_accuracies() -> None:
    known = make_pool([3.0, 4.0], [0], programs=["add(1, 2)", "add(2, 2)"], program="add(1, 2)", answer=3.0)
    value_alone = make_pool([3.0, 4.0], [0], programs=["add(1, 2)", "add(2, 2)"], answer=3.0)
    metrics = pool_metrics([known, value_alone, make_pool([3.0, 4.0])], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert metrics["execution_accuracy"].mean() == 0.5
    assert metrics["program_accuracy"].mean() == 1.0


@pytest.mark.parametrize("score", [outcome, pooled])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_finite_name_the_pool(score: Callable[..., object], bad: float) -> None:
    with pytest.raises(ValueError, match=r"pool V/2008-3: the score of candidate 1"):
        score(make_pool([1.0, 2.0], identifier="V/2008-3"), [0.0, bad])


@pytest.mark.parametrize(
    ("rewards", "scores", "message"),
    [
        (None, [[0.0, 1.0, 2.0]], r"pool q: 2 candidates but scores of shape \(3,\)"),
        (None, [[0.0, 1.0], [0.0, 1.0]], "1 pools but scores for 2"),
        ([0.0, 0.0], [[0.0, 1.0]], "pool q: candidates .* no reward is above 0"),
    ],
)
def test_scores_and_rewards_that_do_not_fit_are_refused(
    rewards: list[float] | None, scores: list[list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pool_metrics([make_pool([1.0, 2.0], [0], rewards=rewards)], scores)


def test_equal_answers_pool_their_probability_and_copies_count_once() -> None:
    # Each copy of 5.0 is less probable than 7.0, together they are more probable.
    pool, scores = make_pool([5.0, 7.0, 5.0], [0, 2]), np.log([0.3, 0.4, 0.3])
    assert (outcome(pool, scores)["accuracy"], pooled(pool, scores)) == (0.0, 1.0)
    groups = group_equal_answers(pool.candidates, scores, pool.question)
    assert [(group.source, group.indices) for group in groups] == [(0, [0, 2]), (1, [1])]
    assert np.exp([group.log_probability for group in groups]) == pytest.approx([0.6, 0.4])
    copies = make_pool([5.0, 7.0, 5.0], [0, 2], programs=["a", "b", "a"])
    groups = group_equal_answers(copies.candidates, scores, copies.question)
    assert [(group.source, group.indices) for group in groups] == [(1, [1]), (0, [0, 2])]
    assert np.exp(groups[0].log_probability) == pytest.approx(0.4 / 0.7)


def test_answers_are_equal_at_five_decimals_and_ties_count_by_share() -> None:
    assert pooled(make_pool([0.123456, 0.123459, 7.0], [0, 1]), [0.0, 0.0, 0.5]) == 1.0
    assert pooled(make_pool(["yes", "no", 1.0], [0]), [1.0, 1.0, 0.0]) == 0.5
    # 5.0 three times and 7.0 once, all tied: 7.0 is one answer of two, but one candidate of four.
    pool = make_pool([5.0, 5.0, 5.0, 7.0], [3])
    tied = outcome(pool, np.zeros(4))
    assert (tied["accuracy"], tied["accuracy_max"], pooled(pool, np.zeros(4))) == (0.25, 0.5, 0.0)


_PROGRAMS = {3.0: ["add(1, 2)", "add(2, 1)", "multiply(1, 3)"], 2.0: ["multiply(1, 2)", "add(1, 1)"]}


def random_pool(random: np.random.Generator) -> tuple[RewardedPool, list[float]]:
    """Up to six candidates; repeated values, duplicates, failures and tied scores are common."""
    size = int(random.integers(1, 7))
    answers: list[float | None] = []
    programs = []
    for _ in range(size):
        answer = [3.0, 2.0, None][random.choice(3, p=[0.45, 0.4, 0.15])]
        answers.append(answer)
        texts = ["divide(1, 0)", "divide(2, 0)"] if answer is None else _PROGRAMS[answer]
        programs.append(texts[random.integers(len(texts))])
    correct = [index for index, answer in enumerate(answers) if answer == 3.0]
    rewards = [1.0 if index in correct else float(random.choice([0.0, 0.2, 0.5])) for index in range(size)]
    pool = make_pool(answers, correct, rewards=rewards, programs=programs, program="add(1, 2)", answer=3.0)
    # The same program has the same score, as of any model.
    score_of = {program: float(random.integers(0, 3)) for program in sorted(set(programs))}
    return pool, [score_of[program] for program in programs]


def orders(scores: list[float]) -> Iterator[tuple[int, ...]]:
    """Every order of the candidates in which no score is above the one before it."""
    for order in itertools.permutations(range(len(scores))):
        if all(scores[first] >= scores[second] for first, second in itertools.pairwise(order)):
            yield order


def dcg(gains: list[float]) -> float:
    return sum(gain / math.log2(1 + rank) for rank, gain in enumerate(gains, start=1))


def of_one_order(pool: RewardedPool, order: tuple[int, ...]) -> dict[str, float]:
    """The metrics where nothing is tied, straight from their definitions."""
    first = order[0]
    ranks = [rank for rank, index in enumerate(order, start=1) if index in pool.correct]
    best = max(pool.rewards)
    return {
        "accuracy": float(first in pool.correct),
        "reward_ratio": pool.rewards[first] / best if pool.correct else 0.0,
        "average_reward": pool.rewards[first],
        "mrr": 1 / min(ranks) if ranks else 0.0,
        "ndcg": dcg([pool.rewards[i] for i in order]) / dcg(sorted(pool.rewards)[::-1]) if pool.correct else 0.0,
        "execution_accuracy": float(pool.candidates[first].answer == 3.0),
        "program_accuracy": float(pool.candidates[first].program in ("add(1, 2)", "add(2, 1)")),
    }


def by_answers(pool: RewardedPool, scores: list[float]) -> dict[str, float]:
    """Accuracy over distinct answers: by the best score, and by the summed probability of distinct programs."""
    score_of = {(one.answer, one.program): score for one, score in zip(pool.candidates, scores, strict=True)}
    best: dict[object, float] = {}
    summed: dict[object, float] = {}
    for (answer, program), score in score_of.items():
        key = answer if answer is not None else program
        best[key] = max(best.get(key, -math.inf), score)
        summed[key] = summed.get(key, 0.0) + math.exp(score)
    figures = {}
    for name, of in (("accuracy_max", best), ("accuracy_pooled", summed)):
        top = [key for key, value in of.items() if value > max(of.values()) - 1e-9]
        figures[name] = sum(key == 3.0 for key in top) / len(top)
    return figures


def test_every_metric_is_its_mean_over_all_orders_of_tied_candidates() -> None:
    random = np.random.default_rng(5)
    drawn = [random_pool(random) for _ in range(150)]
    pools, scores = [pool for pool, _ in drawn], [own for _, own in drawn]
    metrics = {**pool_metrics(pools, scores), "accuracy_pooled": pooled_accuracy(pools, scores)}
    tied = 0
    for number, (pool, own) in enumerate(drawn):
        all_orders = [of_one_order(pool, order) for order in orders(own)]
        tied += len(all_orders) > 1
        expected = {name: float(np.mean([one[name] for one in all_orders])) for name in all_orders[0]}
        expected |= by_answers(pool, own)
        assert {name: metric.values[number] for name, metric in metrics.items()} == pytest.approx(expected)
    assert tied > 75


def test_ranking_tied_candidates_in_stored_order_would_be_seen() -> None:
    pool = make_pool([3.0, 2.0, 4.0], [0], rewards=[1.0, 0.2, 0.2])
    assert outcome(pool, [1.0, 1.0, 0.0])["mrr"] == pytest.approx((1 + 1 / 2) / 2)
    assert reciprocal_rank([[0], [1], [2]], pool.correct) == 1.0


def test_large_pools_stay_finite() -> None:
    # With every second of many tied candidates correct, the first correct one is at rank r with probability 2^-r.
    assert reciprocal_rank([range(5000)], range(2500)) == pytest.approx(math.log(2), abs=1e-3)


values = st.sampled_from([None, "yes", "no", 0.0, 1.0, -1.0, 2.5, 1e6])


drawn_candidates = st.tuples(values, st.sampled_from("abcd"), st.sampled_from([-3.0, 0.1, 0.2, 0.3, 5.0]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(drawn_candidates, min_size=1, max_size=6), min_size=1, max_size=3), st.randoms())
def test_the_order_of_candidates_changes_no_metric(
    drawn: list[list[tuple[Answer | None, str, float]]], random: Random
) -> None:
    def evaluate(rows_of_pools: list[list[tuple[Answer | None, str, float]]]) -> dict[str, object]:
        pools, scores = [], []
        for rows in rows_of_pools:
            answers, programs, pool_scores = (list(column) for column in zip(*rows, strict=True))
            correct = [index for index, answer in enumerate(answers) if answer == 2.5]
            pools.append(make_pool(answers, correct, programs=programs))
            scores.append(pool_scores)
        result = evaluate_pools(pools, scores).as_json()
        del result["positions"]
        return result

    shuffled = [random.sample(rows, len(rows)) for rows in drawn]
    assert _flat(evaluate(shuffled)) == pytest.approx(_flat(evaluate(drawn)), abs=1e-12)


def _flat(value: object, name: str = "") -> dict[str, float]:
    """Nested figures as {path: number}; None becomes -1."""
    if isinstance(value, dict):
        return {path: x for key, inner in value.items() for path, x in _flat(inner, f"{name}/{key}").items()}
    if isinstance(value, list):
        return {path: x for i, inner in enumerate(value) for path, x in _flat(inner, f"{name}/{i}").items()}
    return {name: -1.0 if value is None else float(value)}  # type: ignore[arg-type]


def test_what_is_not_scored_is_behind_and_a_pool_without_scores_is_wrong() -> None:
    pool = make_pool([1.0, 2.0, None, 1.0], [0, 3], rewards=[1.0, 0.4, 0.0, 1.0], answer=1.0)
    figures = outcome(pool, [-math.inf, 3.0, -math.inf, 2.0])
    assert (figures["accuracy"], figures["average_reward"], figures["mrr"]) == (0.0, 0.4, 0.5)
    assert pooled(pool, [-math.inf, 3.0, -math.inf, 4.0]) == 1.0
    assert set(outcome(pool, [-math.inf] * 4).values()) == {0.0}
    assert pooled(pool, [-math.inf] * 4) == 0.0


def test_a_stated_answer_is_right_and_one_with_the_value_that_it_rounds() -> None:
    exact = Candidate(program="divide(15000, 60100)", answer=0.24958, origin="imported")
    stated = Candidate(answer=0.25, stated="25%", origin="imported")
    other = Candidate(answer=0.26, stated="26%", origin="imported")
    pool = make_pool([1.0, 1.0, 1.0], [0, 1], question="what is the share ?", answer=0.24958)
    pool = pool.model_copy(update={"candidates": [exact, stated, other]})
    # Alone each is less probable than 26 %, together they are more probable.
    assert (outcome(pool, [1.0, 1.0, 1.5])["accuracy"], pooled(pool, [1.0, 1.0, 1.5])) == (0.0, 1.0)
    assert outcome(pool, [0.0, 0.0, 0.0])["accuracy_max"] == 0.5
    assert [outcome(pool, np.eye(3)[index])["execution_accuracy"] for index in range(3)] == [1.0, 1.0, 0.0]
    # An answer is right by its most precise candidate: 25 % would round 0.25312 too, and nobody asked for 25 %.
    wrong = pool.model_copy(update={"candidates": [exact.model_copy(update={"answer": 0.25312}), stated, other]})
    assert pooled(wrong.model_copy(update={"correct": [1]}), [1.0, 1.0, 1.5]) == 0.0
