"""The evaluation of one scorer on one split: the figures, the table, and what is wrong in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich import box
from rich.table import Table

from finrank.console import console
from finrank.evaluation import baselines
from finrank.evaluation.intervals import page_intervals, paired_sign_flip
from finrank.evaluation.metrics import (
    FloatArray,
    Metric,
    checked_scores,
    pick_probabilities,
    pool_metrics,
    pooled_accuracy,
)
from finrank.records import RewardedPool
from finrank.store import UserError

# When a model is said to pick a position rather than an answer.
POSITION_SHARE = 0.6
POSITION_MIN_CANDIDATES = 4
POSITION_MIN_POOLS = 20

_COLUMNS = {
    "accuracy": "accuracy",
    "accuracy_pooled": "accuracy pooled",
    "reward_ratio": "reward ratio",
    "average_reward": "average reward",
}


def evaluate_pools(
    pools: Sequence[RewardedPool],
    scores: Sequence[ArrayLike],
    *,
    seed: int = 0,
    candidate_only: Sequence[ArrayLike] | None = None,
) -> dict[str, Any]:
    """All figures of a scorer on these pools, as JSON values (None where a figure does not apply, never NaN).

    `scores` holds an array [candidates] per pool, `candidate_only` those of a model that saw no question and
    no page. The keys: "n", "unanswerable" (pools without a correct candidate), the four metrics, "intervals"
    (95 %, over pages), "baselines" (name -> metrics, "intervals", and "p_value" of a paired test of its
    accuracy against the model's), "positions" (see `picked_positions`) and "ties" (pools with a tied "top",
    and with "all" scores equal).

    Raises UserError without pools, ValueError for a wrong number of scores and for NaN or infinite ones.
    """
    if not pools:
        raise UserError("no pools to evaluate: the split is empty; choose another --split or run steps 01 to 03 again")
    pages = [pool.page for pool in pools]
    own = pool_metrics(pools, scores)
    model = {"accuracy": own["accuracy"], "accuracy_pooled": pooled_accuracy(pools, scores), **own}
    arrays = [checked_scores(one, len(pool.candidates), pool.id) for pool, one in zip(pools, scores, strict=True)]
    figures = _figures(model, pages, seed)
    return {
        "n": len(pools),
        "unanswerable": sum(not pool.correct for pool in pools),
        **figures,
        "baselines": {
            name: None if metrics is None else _baseline(metrics, model["accuracy"], pages, seed)
            for name, metrics in _baseline_metrics(pools, candidate_only).items()
        },
        "positions": picked_positions(pools, arrays),
        "ties": {
            "top": sum(int((one == one.max()).sum() > 1) for one in arrays),
            "all": sum(int(len(one) > 1 and (one == one[0]).all()) for one in arrays),
        },
    }


def _baseline_metrics(
    pools: Sequence[RewardedPool], candidate_only: Sequence[ArrayLike] | None
) -> dict[str, dict[str, Metric] | None]:
    def of(scorer: Callable[[RewardedPool], FloatArray]) -> dict[str, Metric]:
        return pool_metrics(pools, [scorer(pool) for pool in pools])

    votes = baselines.majority_vote(pools)
    return {
        "chance": baselines.chance(pools),
        "constant": of(baselines.constant),
        "medoid": of(baselines.medoid),
        "medoid_text": of(baselines.medoid_text),
        "candidate_only": None if candidate_only is None else pool_metrics(pools, candidate_only),
        "majority_vote": None if votes is None else pool_metrics(pools, votes),
        "oracle": of(baselines.oracle),
    }


def _figures(metrics: Mapping[str, Metric], pages: Sequence[str], seed: int) -> dict[str, Any]:
    means = {name: metric.mean() for name, metric in metrics.items()}
    return {**means, "intervals": page_intervals(metrics, pages, seed=seed)}


def _baseline(metrics: Mapping[str, Metric], model_accuracy: Metric, pages: Sequence[str], seed: int) -> dict[str, Any]:
    p_value = paired_sign_flip(model_accuracy.values, metrics["accuracy"].values, pages, seed=seed)
    return {**_figures(metrics, pages, seed), "p_value": p_value}


def picked_positions(pools: Sequence[RewardedPool], scores: Sequence[FloatArray]) -> dict[str, Any]:
    """Where in the pool the picks lie; candidates are stored shuffled, so no position should stand out.

    "picks" counts them per position over all pools (ties in shares). The warning, a sentence or None, looks
    at the "pools" of at least 4 candidates, where position "most" gets the "share" of the picks.
    """
    picks = np.zeros(max(len(pool.candidates) for pool in pools))
    in_large, right_in_large = np.zeros_like(picks), np.zeros_like(picks)
    large = 0
    for pool, own in zip(pools, scores, strict=True):
        share = pick_probabilities(own)
        picks[: len(share)] += share
        if len(share) >= POSITION_MIN_CANDIDATES:
            large += 1
            in_large[: len(share)] += share
            right_in_large[pool.correct] += 1
    most = int(in_large.argmax())
    share_of_most = float(in_large[most]) / large if large else 0.0
    warning = None
    if large >= POSITION_MIN_POOLS and share_of_most > POSITION_SHARE:
        warning = (
            f"{share_of_most:.0%} of the picks are at position {most} (counted from 0), where "
            f"{right_in_large[most] / large:.0%} of the pools have a correct candidate: the model picks a "
            "place, not an answer, or the pools are not shuffled; "
            "run step 02 again and train on shuffled candidates"
        )
    return {
        "picks": [round(count, 6) for count in picks.tolist()],
        "pools": large,
        "most": most if large else None,
        "share": round(share_of_most, 6),
        "warning": warning,
    }


def diagnose(result: Mapping[str, Any]) -> list[str]:
    """What the figures of `evaluate_pools` say is wrong, a sentence each with what to do, or nothing."""
    found = []
    ties, rows = result["ties"], result["baselines"]
    if ties["all"]:
        found.append(
            f"in {ties['all']} of {result['n']} pools all scores are equal: the candidates look the same "
            "to the model; check that none is cut off (max_length) and that scores are computed in float32"
        )
    if result["positions"]["warning"]:
        found.append(result["positions"]["warning"])
    low = result["intervals"]["accuracy"][0]
    if low <= rows["chance"]["accuracy"]:
        found.append(
            f"accuracy {_cell(result, 'accuracy')} is not clearly above chance "
            f"({rows['chance']['accuracy']:.3f}): train longer, raise the learning rate, "
            "or evaluate on more pages"
        )
    advice = {
        "medoid": "the pools may give gold away by its value: run finrank audit on them",
        "medoid_text": "the pools may give gold away by its program: run finrank audit on them",
        "candidate_only": "the model may not use question and page; check what the prompt keeps of "
        "them, or the pools may give gold away by its form",
    }
    for name, what_to_do in advice.items():
        row = rows[name]
        if row is not None and (result["accuracy"] <= row["accuracy"] or row["p_value"] >= 0.05):
            found.append(
                f"accuracy {_cell(result, 'accuracy')} is not clearly better than {name.replace('_', '-')} "
                f"{_cell(row, 'accuracy')} (paired test over pages: p = {row['p_value']:.3g}): {what_to_do}"
            )
    return found


def summary_line(result: Mapping[str, Any]) -> str:
    """The figures in one line, for evaluations during training."""
    figures = ", ".join(f"{name.replace('_', ' ')} {_cell(result, name)}" for name in ("accuracy", "reward_ratio"))
    baselines = {name: result["baselines"][name]["accuracy"] for name in ("chance", "constant", "medoid", "oracle")}
    beside = ", ".join(f"{name} {accuracy:.3f}" for name, accuracy in baselines.items())
    return f"{figures}, average reward {_cell(result, 'average_reward')}; accuracy of {beside}"


def print_table(result: Mapping[str, Any], title: str | None = None) -> None:
    """Print the figures: the model first, then the baselines, each with its 95 % interval over pages."""
    title = title or f"{result['n']} pools, {result['unanswerable']} without a correct candidate"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)  # no rules at the sides: fits 80 columns
    table.add_column("scorer")
    for heading in _COLUMNS.values():
        table.add_column(heading, justify="right")
    rows = {"model": result, **result["baselines"]}
    for name, row in rows.items():
        label = name.replace("_", " ")
        cells = ["-"] * len(_COLUMNS) if row is None else [_cell(row, metric) for metric in _COLUMNS]
        table.add_row(label, *cells, style="bold" if name == "model" else None, end_section=name == "model")
    console.print(table)


def _cell(row: Mapping[str, Any], metric: str) -> str:
    value = row.get(metric)
    if value is None:
        return "-"
    low, high = row["intervals"][metric]
    return f"{value:.3f} ({low:.3f}-{high:.3f})"
