"""A good model evaluated against shuffled labels is at chance in every table; against the true ones it is not."""

from __future__ import annotations

import numpy as np

from finrank.evaluation.baselines import chance
from finrank.evaluation.diagnose import diagnose
from finrank.evaluation.evaluate import evaluate_pools
from finrank.evaluation.explain import break_down, position_bias
from finrank.evaluation.metrics import FloatArray, pool_metrics, pooled_accuracy
from finrank.evaluation.result import OrderInvariance
from finrank.records import RewardedPool
from tests.helpers.evaluated_pools import make_pool

# Of some hundred figures, each within so many standard errors of chance.
_FAR = 4.0
_EDITS = ["operand", "row", "sign", "operation"]


def _question(number: int, shuffled: bool) -> tuple[RewardedPool, FloatArray]:
    random = np.random.default_rng(number)
    size, steps = int(random.choice([4, 8])), int(random.integers(1, 5))
    numbers = random.choice(np.arange(100, 900), 2, replace=False)
    in_table = random.random(2) < 0.6
    more = "".join(f", {random.choice(['add', 'divide', 'multiply'])}(#{step}, const_2)" for step in range(steps - 1))
    programs = [f"add({numbers[0]}, {numbers[1] + place}){more}" for place in range(size)]
    answers = [float(numbers.sum() + place) for place in range(size)]
    true, label = int(random.integers(size)), int(random.integers(size))
    scores = random.normal(size=size) + 3.0 * np.eye(size)[true]
    correct = label if shuffled else true
    rewards = random.choice([0.0, 0.2, 0.5], size)
    rewards[correct] = 1.0
    pool = make_pool(
        answers,
        [correct],
        rewards=rewards.tolist(),
        programs=programs,
        page=f"page {number // 3}",
        identifier=f"q{number}",
        edits=[[] if place == correct else [str(random.choice(_EDITS))] for place in range(size)],
        program=programs[correct],
        answer=answers[correct],
        table=[["", "2008"], *([f"row {one}", str(one)] for one, here in zip(numbers, in_table, strict=True) if here)],
        text=[f"{one} in all ." for one, here in zip(numbers, in_table, strict=True) if not here]
        + ["word " * int(random.integers(5, 300))],
    )
    return pool, scores


def _split(*, shuffled: bool) -> tuple[list[RewardedPool], list[FloatArray]]:
    drawn = [_question(number, shuffled) for number in range(600)]
    return [pool for pool, _ in drawn], [scores for _, scores in drawn]


def _metric_distances(pools: list[RewardedPool], scores: list[FloatArray]) -> dict[str, float]:
    """Standard errors by which each metric is above its chance, pool by pool."""
    by_chance = chance(pools)
    metrics = {**pool_metrics(pools, scores), "accuracy_pooled": pooled_accuracy(pools, scores)}
    assert metrics.keys() == by_chance.keys()
    differences = {name: metric.values - by_chance[name].values for name, metric in metrics.items()}
    return {name: float(row.mean() / (row.std() / np.sqrt(len(row)))) for name, row in differences.items()}


def _table_distances(pools: list[RewardedPool], scores: list[FloatArray]) -> dict[str, float]:
    """The same for each row of each table, with the binomial standard error of its chance."""
    accuracy, by_chance = pool_metrics(pools, scores)["accuracy"], chance(pools)["accuracy"]
    breakdowns = break_down(pools, scores, accuracy, by_chance, seed=0)
    rows = {
        f"{table}/{row.name}": (row.accuracy, row.chance, row.n)
        for table in ("steps", "operation", "origin", "context_length", "candidates")
        for row in getattr(breakdowns, table)
    }
    for kind in breakdowns.fooled_by:
        rows[f"fooled_by/{kind.name}"] = (kind.share, kind.chance, kind.offered)
    return {name: (figure - p) / np.sqrt(p * (1 - p) / n) for name, (figure, p, n) in rows.items()}


def test_shuffled_labels_are_at_chance_in_every_table() -> None:
    pools, scores = _split(shuffled=True)
    distances = {**_metric_distances(pools, scores), **_table_distances(pools, scores)}
    assert len(distances) >= 9 + 4 + 3 + 3 + 4 + 2 + 4
    assert {name: distance for name, distance in distances.items() if abs(distance) > _FAR} == {}
    accuracy, order = pool_metrics(pools, scores)["accuracy"], OrderInvariance(0, 0.0, 0.0)
    for row in position_bias(pools, scores, accuracy, order, seed=0).best_positions:
        assert abs(row.accuracy - 0.17) < 0.05 + _FAR * np.sqrt(0.17 * 0.83 / row.n), row
    assert any("not clearly above chance" in sentence for sentence in diagnose(evaluate_pools(pools, scores)))


def test_true_labels_are_above_chance_in_every_table() -> None:
    pools, scores = _split(shuffled=False)
    distances = {**_metric_distances(pools, scores), **_table_distances(pools, scores)}
    wrong_picked = {name: distance for name, distance in distances.items() if name.startswith("fooled_by")}
    assert [name for name in distances.keys() - wrong_picked.keys() if distances[name] < _FAR] == []
    assert [name for name, distance in wrong_picked.items() if distance > -_FAR] == []
    assert not any("chance" in sentence for sentence in diagnose(evaluate_pools(pools, scores)))


def test_the_intervals_of_shuffled_labels_hold_chance() -> None:
    result = evaluate_pools(*_split(shuffled=True))
    by_chance = result.baselines["chance"]
    assert by_chance is not None
    for metric in ("mrr", "ndcg", "execution_accuracy", "program_accuracy", "accuracy_max"):
        low, high = result.model.intervals[metric] or []
        assert low <= (by_chance.means[metric] or 0.0) <= high, metric
