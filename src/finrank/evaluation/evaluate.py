"""The evaluation of one scorer on one split: its figures beside those of the baselines, and all that explains them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from finrank.errors import UserError
from finrank.evaluation import baselines
from finrank.evaluation.bias import picked_positions, position_bias
from finrank.evaluation.breakdowns import break_down
from finrank.evaluation.intervals import page_intervals, paired_difference, paired_sign_flip
from finrank.evaluation.metrics import FloatArray, Metric, checked_scores, pool_metrics, pooled_accuracy
from finrank.evaluation.rankings import confident_mistakes, examples
from finrank.records import RewardedPool

# Baselines without a paired test. Their outcome of a pool is a constant (its chance, its best), and swapping that with
# the 0 or 1 of a model is no less likely only by accident: a sign flip tests nothing. The intervals tell.
UNTESTED = ("chance", "constant", "oracle")


def evaluate_pools(
    pools: Sequence[RewardedPool],
    scores: Sequence[ArrayLike],
    *,
    seed: int = 0,
    candidate_only: Sequence[ArrayLike] | None = None,
    rounding: float = 0.0,
) -> dict[str, Any]:
    """All figures of a scorer on these pools, as JSON values (None where a figure does not apply, never NaN).

    `scores` holds an array [candidates] per pool, `candidate_only` those of a model that saw no question and
    no page; scores of a pool that differ by at most `rounding` count as equal in "ties". The keys: "n", "pages",
    "unanswerable" (pools without a correct candidate), "equal_rewards" (pools in which all rewards are equal though
    there is something to choose), the metrics (see `metrics.py`), "intervals" (95 %, over pages), "baselines" (name ->
    metrics, "intervals", and "p_value" of a paired test of its accuracy against the model's, None for `UNTESTED`),
    "positions" (see `picked_positions`) and "ties" (pools with a tied "top", and with "all" scores equal though the
    candidates are not).

    Raises UserError without pools, ValueError for a wrong number of scores and for NaN or infinite ones.
    """
    if not pools:
        raise UserError("no pools to evaluate: the split is empty; choose another --split or run steps 01 to 03 again")
    pages = [pool.page for pool in pools]
    model = _with_pooled(pools, scores)
    rows = {"model": model, **_baseline_metrics(pools, candidate_only)}
    figures = _figures({name: metrics for name, metrics in rows.items() if metrics is not None}, pages, seed)
    arrays = _checked(pools, scores)
    for name in rows.keys() & figures.keys() - {"model"}:
        baseline = rows[name]
        assert baseline is not None, "left out above"
        own, other = model["accuracy"].values, baseline["accuracy"].values
        tested = name not in UNTESTED
        figures[name]["p_value"] = paired_sign_flip(own, other, pages, seed=seed) if tested else None
    return {
        "n": len(pools),
        "pages": len(set(pages)),
        "unanswerable": sum(not pool.correct for pool in pools),
        "equal_rewards": sum(_rewards_without_spread(pool) for pool in pools),
        **figures["model"],
        "baselines": {name: figures.get(name) for name in rows if name != "model"},
        "positions": picked_positions(pools, arrays),
        "ties": {
            "top": sum(int((one == one.max()).sum() > 1) for one in arrays),
            "all": sum(
                _several_distinct(pool) and float(np.ptp(own)) <= rounding
                for pool, own in zip(pools, arrays, strict=True)
            ),
        },
    }


def _several_distinct(pool: RewardedPool) -> bool:
    return len({(one.program, one.answer) for one in pool.candidates}) > 1


def _rewards_without_spread(pool: RewardedPool) -> bool:
    """Whether the rewards fail to tell candidates apart that differ; all right or all failed may well be equal."""
    if max(pool.rewards) > min(pool.rewards) or not _several_distinct(pool):
        return False
    all_failed = all(one.answer is None for one in pool.candidates)
    return not all_failed and len(pool.correct) < len(pool.candidates)


def explain_pools(
    pools: Sequence[RewardedPool], scores: Sequence[ArrayLike], *, seed: int = 0, temperature: float = 1.0
) -> dict[str, Any]:
    """What lies behind a scorer's accuracy: "bias", "breakdowns", "mistakes" and "examples", as JSON values.

    See `position_bias`, `break_down` and `rankings.py`; `temperature` tempers the probabilities of the last two.
    """
    arrays = _checked(pools, scores)
    accuracy, chance = pool_metrics(pools, arrays)["accuracy"], baselines.chance(pools)["accuracy"]
    return {
        "bias": position_bias(pools, arrays, accuracy, seed=seed),
        "breakdowns": break_down(pools, arrays, accuracy, chance, seed=seed),
        "mistakes": confident_mistakes(pools, arrays, temperature=temperature),
        "examples": examples(pools, arrays, temperature=temperature),
    }


def compare_pools(
    pools: Sequence[RewardedPool], scores: Sequence[ArrayLike], other: Sequence[ArrayLike], *, seed: int = 0
) -> dict[str, Any]:
    """A second scorer on the same pools: its "accuracy", and "difference", "interval" and "p_value" of the accuracies.

    The difference is the first scorer's accuracy minus the other's (see `paired_difference`); above 0 the first is
    better.
    """
    first, second = pool_metrics(pools, scores)["accuracy"], pool_metrics(pools, other)["accuracy"]
    pages = [pool.page for pool in pools]
    return {"accuracy": second.mean(), **paired_difference(first, second, pages, seed=seed)}


def _checked(pools: Sequence[RewardedPool], scores: Sequence[ArrayLike]) -> list[FloatArray]:
    return [checked_scores(one, len(pool.candidates), pool.id) for pool, one in zip(pools, scores, strict=True)]


def _with_pooled(pools: Sequence[RewardedPool], scores: Sequence[ArrayLike]) -> dict[str, Metric]:
    """All metrics, for scores that are logits: those of a model, or equal ones."""
    return {**pool_metrics(pools, scores), "accuracy_pooled": pooled_accuracy(pools, scores)}


def _baseline_metrics(
    pools: Sequence[RewardedPool], candidate_only: Sequence[ArrayLike] | None
) -> dict[str, dict[str, Metric] | None]:
    def of(scorer: Callable[[RewardedPool], FloatArray]) -> dict[str, Metric]:
        return pool_metrics(pools, [scorer(pool) for pool in pools])

    votes = baselines.majority_vote(pools)
    return {
        "chance": baselines.chance(pools),
        "constant": _with_pooled(pools, [baselines.constant(pool) for pool in pools]),
        "medoid": of(baselines.medoid),
        "medoid_text": of(baselines.medoid_text),
        "candidate_only": None if candidate_only is None else _with_pooled(pools, candidate_only),
        "majority_vote": None if votes is None else pool_metrics(pools, votes),
        "oracle": of(baselines.oracle),
    }


def _figures(rows: Mapping[str, Mapping[str, Metric]], pages: Sequence[str], seed: int) -> dict[str, dict[str, Any]]:
    """Means and intervals of every row; the same resamples of pages for all of them."""
    flat = {f"{name}/{metric}": one for name, metrics in rows.items() for metric, one in metrics.items()}
    intervals = page_intervals(flat, pages, seed=seed)
    return {
        name: {
            **{metric: one.mean() for metric, one in metrics.items()},
            "intervals": {metric: intervals[f"{name}/{metric}"] for metric in metrics},
        }
        for name, metrics in rows.items()
    }
