"""The figures of a scorer and its baselines: their JSON, their tables, and the diagnosis."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from finrank.errors import UserError
from finrank.evaluation.diagnose import diagnose
from finrank.evaluation.evaluate import compare_pools, evaluate_pools, score_rivals
from finrank.evaluation.report import screen
from finrank.evaluation.result import AnswerFigures, Breakdowns, Figures
from finrank.ranker.choosing.chooser import DEFAULT_CHOOSER, VOTE, save_chooser
from finrank.records import RewardedPool
from tests.helpers.evaluated_pools import by_reward, make_pool
from tests.helpers.example_result import example_result, imported_result
from tests.helpers.saved_ranker import save_tiny_ranker

METRICS = ["accuracy", "accuracy_max", "reward_ratio", "average_reward", "mrr", "ndcg", "execution_accuracy",
           "program_accuracy"]  # fmt: skip


@pytest.fixture
def pools() -> list[RewardedPool]:
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


def wrong_scores(pools: list[RewardedPool]) -> list[np.ndarray]:
    return [-scores for scores in by_reward(pools)]


def test_the_keys_are_the_documented_ones(pools: list[RewardedPool]) -> None:
    result = evaluate_pools(pools, by_reward(pools)).as_json()
    metrics = [*METRICS, "accuracy_pooled"]
    counts, rest = ["n", "pages", "unanswerable", "equal_rewards"], ["intervals", "baselines", "positions", "ties"]
    assert list(result) == [*counts, *metrics, *rest]
    assert list(result["intervals"]) == metrics
    baselines = result["baselines"]
    assert {name: row and list(row) for name, row in baselines.items()} == {
        "chance": [*metrics, "intervals", "p_value"],
        "constant": [*metrics, "intervals", "p_value"],
        "medoid": [*METRICS, "intervals", "p_value"],  # distances are not logits
        "medoid_text": [*METRICS, "intervals", "p_value"],
        "candidate_only": None,
        "majority_vote": None,
        "oracle": [*METRICS, "intervals", "p_value"],
    }


def test_figures_of_a_perfect_model(pools: list[RewardedPool]) -> None:
    result = evaluate_pools(pools, by_reward(pools))
    assert {mean for name, mean in result.model.means.items() if name != "average_reward"} == {1.0}
    assert (result.n, result.unanswerable, result.model.interval) == (100, 0, [1.0, 1.0])
    rows = {name: row.accuracy for name, row in result.baselines.items() if row}
    assert rows == {"chance": 0.2, "constant": 0.2, "medoid": 0.0, "medoid_text": pytest.approx(0.2), "oracle": 1.0}
    assert diagnose(result) == []


def test_intervals_contain_the_figure_and_follow_the_seed() -> None:
    random = np.random.default_rng(2)
    gold = {"programs": ["add(0, 1)", "add(1, 1)"], "program": "add(0, 1)", "answer": 1.0}
    rewards = [[1.0, random.uniform(0, 0.5)] for _ in range(60)]
    pools = [make_pool([1.0, 2.0], rewards=row, page=f"page {i // 2}", **gold) for i, row in enumerate(rewards)]
    scores = list(random.normal(size=(60, 2)))
    model = evaluate_pools(pools, scores, seed=1).model
    for name, interval in model.intervals.items():
        assert interval is not None
        assert interval[0] < (model.means[name] or 0.0) < interval[1]
    assert evaluate_pools(pools, scores, seed=1).model == model
    assert evaluate_pools(pools, scores, seed=2).model.intervals != model.intervals


def test_json_holds_no_nan_even_where_nothing_can_be_answered() -> None:
    result = evaluate_pools([make_pool([None, None], [], rewards=[0.0, 0.0])], [[0.0, 1.0]])
    assert result.unanswerable == 1
    assert (result.model.means["reward_ratio"], result.model.intervals["reward_ratio"]) == (None, None)
    assert json.loads(json.dumps(result.as_json(), allow_nan=False)) == result.as_json()
    assert "-" in printed(result)


@pytest.mark.parametrize("make", [example_result, imported_result])
def test_a_whole_result_is_json_with_figures_and_source_at_the_top(make: object) -> None:
    result = make()  # type: ignore[operator]
    values = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert list(values)[-15:] == [
        "ties", "bias", "breakdowns", "mistakes", "examples", "confidence", "comparison", "answers", "truncation",
        "troubles", "model", "data", "split", "versions", "data_hashes",
    ]  # fmt: skip
    assert values["confidence"]["pool_sizes"] == {"5": 60}
    assert list(values["confidence"]["accuracy_at"]) == ["0.5", "0.8", "0.95"]
    assert values["examples"][0]["candidates"][0]["program"] == result.examples[0].candidates[0].program


def test_an_empty_split_is_the_users_fault() -> None:
    with pytest.raises(UserError, match="empty"):
        evaluate_pools([], [])


def test_candidate_only_scores_are_tested_like_other_rivals_and_constants_are_not(pools: list[RewardedPool]) -> None:
    rows = evaluate_pools(pools, by_reward(pools), candidate_only=wrong_scores(pools)).baselines
    assert rows["candidate_only"] is not None
    assert rows["candidate_only"].accuracy == 0.0
    assert {name for name, row in rows.items() if row and row.p_value is None} == {"chance", "constant", "oracle"}
    assert all(row.p_value < 0.001 for row in rows.values() if row and row.p_value is not None)


def test_positions_of_the_picks(pools: list[RewardedPool]) -> None:
    always_third = evaluate_pools(pools, [np.eye(5)[2] for _ in pools])
    positions = always_third.positions
    assert positions.picks == [0.0, 0.0, 100.0, 0.0, 0.0]
    assert (positions.most, positions.share, positions.pools) == (2, 1.0, 100)
    assert "100% of the picks are at position 2" in (positions.warning or "")
    even = evaluate_pools(pools, [np.zeros(5) for _ in pools]).positions
    assert (even.picks, even.warning) == (pytest.approx([20.0] * 5), None)
    few = evaluate_pools(pools[:19], [np.eye(5)[2] for _ in pools[:19]]).positions
    assert (few.share, few.warning) == (1.0, None)
    pairs = [make_pool([1.0, 2.0], page=f"page {i}") for i in range(30)]
    positions = evaluate_pools(pairs, [[1.0, 0.0] for _ in pairs]).positions
    assert (positions.picks, positions.pools, positions.most, positions.warning) == ([30.0, 0.0], 0, None, None)


def test_equal_scores_are_diagnosed(pools: list[RewardedPool]) -> None:
    result = evaluate_pools(pools, [np.full(5, 0.7) for _ in pools])
    assert (result.ties.top, result.ties.all) == (100, 100)
    assert "in 100 of 100 pools all scores are equal" in diagnose(result)[0]


def test_copies_alone_are_not_equal_scores_and_rounding_is_no_difference() -> None:
    copies = make_pool([1.0, 1.0], [], programs=["add(0, 1)"] * 2)
    different = make_pool([1.0, 2.0])
    scores = [[0.5, 0.5], [0.5, 0.50001]]
    assert evaluate_pools([copies, different], scores).ties.all == 0
    assert evaluate_pools([copies, different], scores, rounding=1e-4).ties.all == 1


def test_equal_rewards_count_only_where_there_is_something_to_choose() -> None:
    counted = make_pool([1.0, 2.0], [], rewards=[0.2, 0.2])
    copies = make_pool([1.0, 1.0], [], rewards=[0.2, 0.2], programs=["add(0, 1)"] * 2)
    all_right = make_pool([1.0, 1.0], [0, 1])
    all_failed = make_pool([None, None], [], rewards=[0.0, 0.0])
    pools = [counted, copies, all_right, all_failed, make_pool([1.0]), make_pool([1.0, 2.0])]
    assert evaluate_pools(pools, [np.zeros(len(pool.candidates)) for pool in pools]).equal_rewards == 1


@pytest.mark.parametrize(
    ("answers", "rewards", "said"),
    [
        ([1.0, 1.0], [1.0, 1.0], "leave nothing to choose"),
        ([1.0], [1.0], "leave nothing to choose"),
        ([None, None], [0.0, 0.0], "none of the 20 pools has a correct candidate"),
    ],
)
def test_pools_without_a_choice_blame_neither_model_nor_rewards(
    answers: list[float | None], rewards: list[float], said: str
) -> None:
    correct = np.flatnonzero(rewards).tolist()
    pools = [make_pool(answers, correct, rewards=rewards, page=f"page {number}") for number in range(20)]
    (sentence,) = diagnose(evaluate_pools(pools, [np.arange(len(answers)) for _ in pools]))
    assert said in sentence


def test_a_comparison_says_how_much_better_the_first_is(pools: list[RewardedPool]) -> None:
    found = compare_pools(pools, by_reward(pools), [np.zeros(5) for _ in pools], name="zeros")
    assert (found.other, found.accuracy, found.difference, found.interval) == ("zeros", 0.2, 0.8, [0.8, 0.8])
    assert found.p_value < 0.001
    same = compare_pools(pools, by_reward(pools), by_reward(pools), name="same")
    assert (same.difference, same.interval, same.p_value) == (0.0, [0.0, 0.0], 1.0)


def test_first_answers_are_compared_each_by_the_chooser_of_its_own_model() -> None:
    """Both models have the same scores; the second one's chooser is the vote."""
    result = imported_result()
    assert result.comparison is not None
    assert result.comparison.difference == 0
    assert result.answers is not None
    compared, vote = result.answers.compared, result.answers.baselines["vote"]
    assert compared is not None
    assert vote is not None
    assert (compared.other, compared.accuracy, compared.p_value) == ("outputs/run_002", vote.accuracy, vote.p_value)
    assert compared.difference == pytest.approx(result.answers.accuracy - vote.accuracy)
    assert compared.interval[0] > 0
    assert result.as_json()["answers"]["compared"]["accuracy"] == vote.accuracy
    low, high = compared.interval
    assert (
        f"against outputs/run_002 (first answer {vote.accuracy:.3f}): {compared.difference:+.3f} "
        f"({low:+.3f} to {high:+.3f}), paired test over pages p = {compared.p_value:.3g}"
    ) in printed_answers(result.answers)


def test_the_chooser_of_a_compared_model_is_that_of_its_folder(tmp_path: Path) -> None:
    model_dir = save_tiny_ranker(tmp_path)
    save_chooser(model_dir, VOTE)
    pools = [make_pool([1.0, 2.0], programs=["add(1, 0)", "add(1, 1)"])]
    rivals = score_rivals(pools, model_dir, None, compared=model_dir, control=None)
    assert (rivals.compared_name, rivals.compared_chooser) == (str(model_dir), VOTE)
    assert score_rivals(pools, model_dir, None, compared=None, control=model_dir).compared_chooser == DEFAULT_CHOOSER


def captured(show: Callable[[], None]) -> str:
    """What is shown on a console of 80 columns; sentences stay on one line."""
    with pytest.MonkeyPatch.context() as patch:
        stream = io.StringIO()
        patch.setattr(screen, "console", Console(file=stream, width=80))
        patch.setattr(screen, "say", lambda text: print(text, file=stream))
        show()
        return stream.getvalue()


def printed(figures: Figures, breakdowns: Breakdowns | None = None) -> str:
    def show() -> None:
        screen.print_table(figures, title="dev")
        if breakdowns is not None:
            screen.print_breakdowns(breakdowns)

    return captured(show)


def printed_answers(answers: AnswerFigures) -> str:
    return captured(lambda: screen.print_answers(answers))


def test_the_table_shows_the_model_first_with_intervals(pools: list[RewardedPool]) -> None:
    result = evaluate_pools(pools, [np.zeros(5) for _ in pools])
    rows = [" ".join(line.split()) for line in printed(result).splitlines() if "(" in line]
    assert rows[0].startswith(f"model {result.model}")
    assert [row.split()[0] for row in rows[1:6]] == ["chance", "constant", "medoid", "medoid", "oracle"]
    assert rows[6].startswith(f"MRR {result.model.means['mrr']:.3f}")


def test_the_tables_fit_a_narrow_terminal_with_every_figure_on_one_line() -> None:
    result = imported_result()
    text = printed(result.figures, result.breakdowns)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    for name in ("majority vote", "candidate only", "answers, by best", "gold program's steps", "length of page"):
        assert name in text
    model = next(line for line in text.splitlines() if line.split()[:1] == ["model"])
    assert model.count("(") == 3
