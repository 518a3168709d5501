"""The JSON of an evaluation, its table and its diagnosis."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from finrank.errors import UserError
from finrank.evaluation.diagnose import diagnose
from finrank.evaluation.evaluate import compare_pools, evaluate_pools, explain_pools
from finrank.evaluation.report import screen as tables
from finrank.evaluation.report.screen import print_table
from finrank.records import RewardedPool

MakePool = Callable[..., RewardedPool]
METRICS = {
    "accuracy", "accuracy_max", "reward_ratio", "average_reward", "mrr", "ndcg",
    "execution_accuracy", "program_accuracy",
}  # fmt: skip


@pytest.fixture
def pools(make_pool: MakePool) -> list[RewardedPool]:
    """100 pools of five values on 50 pages; the correct one is at a random place and never in the middle."""
    random = np.random.default_rng(0)
    result = []
    for number in range(100):
        order = random.permutation(5).tolist()
        values = [[10.0, 100.0, 101.0, 102.0, 103.0][place] for place in order]
        programs = [f"add({value:.0f}, const_1)" for value in values]
        gold = {"programs": programs, "program": "add(10, const_1)", "answer": 10.0}
        result.append(make_pool(values, [order.index(0)], page=f"page {number // 2}", identifier=f"q{number}", **gold))
    return result


def oracle_scores(pools: list[RewardedPool]) -> list[np.ndarray]:
    return [np.array(pool.rewards) for pool in pools]


def wrong_scores(pools: list[RewardedPool]) -> list[np.ndarray]:
    return [-np.array(pool.rewards) for pool in pools]


def test_the_keys_are_the_documented_ones(pools: list[RewardedPool]) -> None:
    result = evaluate_pools(pools, oracle_scores(pools))
    counts = {"n", "pages", "unanswerable", "equal_rewards"}
    assert set(result) == counts | {"intervals", "baselines", "positions", "ties", "accuracy_pooled"} | METRICS
    assert set(result["intervals"]) == METRICS | {"accuracy_pooled"}
    assert set(result["baselines"]) == {
        "chance", "constant", "medoid", "medoid_text", "candidate_only", "majority_vote", "oracle"
    }  # fmt: skip
    assert set(result["baselines"]["chance"]) == METRICS | {"accuracy_pooled", "intervals", "p_value"}
    assert set(result["baselines"]["medoid"]) == METRICS | {"intervals", "p_value"}  # distances are no logits
    assert result["baselines"]["candidate_only"] is None
    assert result["baselines"]["majority_vote"] is None
    assert (result["n"], result["unanswerable"]) == (100, 0)


def test_figures_of_a_perfect_model(pools: list[RewardedPool]) -> None:
    result = evaluate_pools(pools, oracle_scores(pools))
    assert {result[name] for name in METRICS - {"average_reward"}} == {1.0}
    assert result["accuracy_pooled"] == 1.0
    assert result["intervals"]["accuracy"] == [1.0, 1.0]
    assert result["baselines"]["chance"]["accuracy"] == pytest.approx(0.2)
    assert result["baselines"]["constant"]["accuracy"] == pytest.approx(0.2)
    assert result["baselines"]["medoid"]["accuracy"] == 0.0
    assert result["baselines"]["oracle"]["accuracy"] == 1.0
    assert diagnose(result) == []


def test_intervals_contain_the_figure_and_follow_the_seed(make_pool: MakePool) -> None:
    random = np.random.default_rng(2)
    gold = {"programs": ["add(0, 1)", "add(1, 1)"], "program": "add(0, 1)", "answer": 1.0}
    pools = [
        make_pool([1.0, 2.0], rewards=[1.0, random.uniform(0, 0.5)], page=f"page {i // 2}", **gold) for i in range(60)
    ]
    scores = random.normal(size=(60, 2))
    result = evaluate_pools(pools, list(scores), seed=1)
    for name, (low, high) in result["intervals"].items():
        assert low < result[name] < high
    assert evaluate_pools(pools, list(scores), seed=1) == result
    assert evaluate_pools(pools, list(scores), seed=2)["intervals"] != result["intervals"]


def test_json_holds_no_nan_even_where_nothing_can_be_answered(make_pool: MakePool) -> None:
    result = evaluate_pools([make_pool([None, None], [], rewards=[0.0, 0.0])], [[0.0, 1.0]])
    assert result["unanswerable"] == 1
    assert result["reward_ratio"] is None
    assert result["intervals"]["reward_ratio"] is None
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert "-" in printed(result)


def test_an_empty_split_is_the_users_fault() -> None:
    with pytest.raises(UserError, match="empty"):
        evaluate_pools([], [])


def test_candidate_only_scores_pass_through_the_same_metrics(pools: list[RewardedPool]) -> None:
    result = evaluate_pools(pools, oracle_scores(pools), candidate_only=wrong_scores(pools))
    assert result["baselines"]["candidate_only"]["accuracy"] == 0.0
    assert result["baselines"]["candidate_only"]["p_value"] < 0.001


def test_what_is_no_model_has_no_paired_test(pools: list[RewardedPool]) -> None:
    rows = evaluate_pools(pools, oracle_scores(pools), candidate_only=wrong_scores(pools))["baselines"]
    untested = {name for name, row in rows.items() if row is not None and row["p_value"] is None}
    assert untested == {"chance", "constant", "oracle"}


def test_positions_of_the_picks(pools: list[RewardedPool]) -> None:
    always_third = [np.eye(5)[2] for _ in pools]
    positions = evaluate_pools(pools, always_third)["positions"]
    assert positions["picks"] == [0.0, 0.0, 100.0, 0.0, 0.0]
    assert (positions["most"], positions["share"], positions["pools"]) == (2, 1.0, 100)
    assert "100% of the picks are at position 2" in positions["warning"]


def test_constant_scores_and_few_pools_raise_no_position_warning(pools: list[RewardedPool]) -> None:
    positions = evaluate_pools(pools, [np.zeros(5) for _ in pools])["positions"]
    assert positions["picks"] == pytest.approx([20.0] * 5)
    assert positions["warning"] is None
    few = evaluate_pools(pools[:19], [np.eye(5)[2] for _ in pools[:19]])["positions"]
    assert few["share"] == 1.0
    assert few["warning"] is None


def test_pools_of_two_do_not_count_for_the_position_warning(make_pool: MakePool) -> None:
    pools = [make_pool([1.0, 2.0], page=f"page {i}") for i in range(30)]
    positions = evaluate_pools(pools, [[1.0, 0.0] for _ in pools])["positions"]
    assert positions["picks"] == [30.0, 0.0]
    assert (positions["pools"], positions["most"], positions["warning"]) == (0, None, None)


def diagnosis(result: dict[str, Any]) -> str:
    return "\n".join(diagnose(result))


def test_equal_scores_are_diagnosed(pools: list[RewardedPool]) -> None:
    result = evaluate_pools(pools, [np.full(5, 0.7) for _ in pools])
    assert result["ties"] == {"top": 100, "all": 100}
    assert "in 100 of 100 pools all scores are equal" in diagnosis(result)
    assert "not clearly above chance" in diagnosis(result)


def test_copies_alone_are_no_equal_scores_and_rounding_is_no_difference(make_pool: MakePool) -> None:
    copies = make_pool([1.0, 1.0], [], programs=["add(0, 1)"] * 2)
    different = make_pool([1.0, 2.0])
    scores = [[0.5, 0.5], [0.5, 0.50001]]
    assert evaluate_pools([copies, different], scores)["ties"]["all"] == 0
    assert evaluate_pools([copies, different], scores, rounding=1e-4)["ties"]["all"] == 1


def test_a_model_that_picks_a_position_is_diagnosed(pools: list[RewardedPool]) -> None:
    assert "position 2" in diagnosis(evaluate_pools(pools, [np.eye(5)[2] for _ in pools]))


def test_a_model_no_better_than_an_attacker_is_diagnosed(pools: list[RewardedPool]) -> None:
    own = oracle_scores(pools)
    found = diagnosis(evaluate_pools(pools, own, candidate_only=own))
    assert "not clearly better than candidate-only" in found
    assert "medoid" not in found
    below_chance = diagnosis(evaluate_pools(pools, wrong_scores(pools)))
    assert "not clearly better than medoid" in below_chance
    assert "not clearly above chance" in below_chance


def test_pools_with_equal_rewards_are_counted(make_pool: MakePool) -> None:
    pools = [make_pool([1.0, 2.0], [], rewards=[0.2, 0.2]), make_pool([1.0, 2.0])]
    assert evaluate_pools(pools, [[0.0, 1.0]] * 2)["equal_rewards"] == 1


def test_equal_rewards_count_only_where_there_is_something_to_tell_apart(make_pool: MakePool) -> None:
    copies = make_pool([1.0, 1.0], [], rewards=[0.2, 0.2], programs=["add(0, 1)"] * 2)
    all_right = make_pool([1.0, 1.0], [0, 1])
    all_failed = make_pool([None, None], [], rewards=[0.0, 0.0])
    alone = make_pool([1.0])
    pools = [copies, all_right, all_failed, alone]
    assert evaluate_pools(pools, [np.zeros(len(pool.candidates)) for pool in pools])["equal_rewards"] == 0


@pytest.mark.parametrize(
    ("answers", "correct", "said"),
    [
        ([1.0, 1.0], [0, 1], "leave nothing to choose"),
        ([1.0], [0], "leave nothing to choose"),
        ([None, None], [], "none of the 20 pools has a correct candidate"),
    ],
)
def test_pools_without_a_choice_blame_neither_model_nor_rewards(
    make_pool: MakePool, answers: list[float | None], correct: list[int], said: str
) -> None:
    rewards = [1.0 if place in correct else 0.0 for place in range(len(answers))]
    pools = [make_pool(answers, correct, rewards=rewards, page=f"page {number}") for number in range(20)]
    (sentence,) = diagnose(evaluate_pools(pools, [np.arange(len(answers)) for _ in pools]))
    assert said in sentence


def test_few_pages_are_named(pools: list[RewardedPool]) -> None:
    one_page = [pool.model_copy(update={"page": "page"}) for pool in pools]
    result = evaluate_pools(one_page, oracle_scores(pools))
    assert result["pages"] == 1
    assert result["intervals"]["accuracy"] == [1.0, 1.0]
    assert any(sentence.startswith("only 1 page:") for sentence in diagnose(result))


def test_what_lies_behind_the_figures_is_json(pools: list[RewardedPool]) -> None:
    explained = explain_pools(pools, wrong_scores(pools), temperature=2.0)
    assert set(explained) == {"bias", "breakdowns", "mistakes", "examples"}
    assert len(explained["mistakes"]) == 50
    assert json.loads(json.dumps(explained, allow_nan=False)) == explained


def test_a_comparison_says_how_much_better_the_first_is(pools: list[RewardedPool]) -> None:
    found = compare_pools(pools, oracle_scores(pools), [np.zeros(5) for _ in pools])
    assert (found["accuracy"], found["difference"]) == (pytest.approx(0.2), pytest.approx(0.8))
    assert found["interval"] == [0.8, 0.8]
    assert found["p_value"] < 0.001
    same = compare_pools(pools, oracle_scores(pools), oracle_scores(pools))
    assert (same["difference"], same["interval"], same["p_value"]) == (0.0, [0.0, 0.0], 1.0)


def printed(result: dict[str, Any], width: int = 200) -> str:
    with pytest.MonkeyPatch.context() as patch:
        stream = io.StringIO()
        patch.setattr(tables, "console", Console(file=stream, width=width))
        print_table(result)
        if "breakdowns" in result:
            tables.print_breakdowns(result["breakdowns"])
        return stream.getvalue()


def test_the_table_shows_the_model_first_with_intervals(pools: list[RewardedPool]) -> None:
    result = evaluate_pools(pools, [np.zeros(5) for _ in pools])
    low, high = result["intervals"]["accuracy"]
    rows = [line.split() for line in printed(result).splitlines() if "(" in line]
    assert rows[0][:3] == ["model", f"{result['accuracy']:.3f}", f"({low:.3f}-{high:.3f})"]
    assert [row[0] for row in rows[1:6]] == ["chance", "constant", "medoid", "medoid", "oracle"]
    assert rows[6][:2] == ["MRR", f"{result['mrr']:.3f}"]


def test_the_tables_fit_a_narrow_terminal_with_every_figure_on_one_line(pools: list[RewardedPool]) -> None:
    votes = [make_twice(pool) for pool in pools]
    scores = [np.array(pool.rewards) for pool in votes]
    result = {**evaluate_pools(votes, scores, candidate_only=scores), **explain_pools(votes, scores)}
    text = printed(result, width=80)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    for name in ("majority vote", "candidate only", "answers, by best", "gold program's steps", "length of page"):
        assert name in text
    model = next(line for line in text.splitlines() if line.split()[:1] == ["model"])
    assert model.count("(") == 3


def make_twice(pool: RewardedPool) -> RewardedPool:
    """The pool with its first candidate once more, so that votes can be counted."""
    twice = {name: [*getattr(pool, name), getattr(pool, name)[0]] for name in ("candidates", "rewards", "components")}
    correct = [*pool.correct, *([len(pool.candidates)] if 0 in pool.correct else [])]
    return pool.model_copy(update={**twice, "correct": correct})
