"""What pools give away: the accuracy of every attacker beside chance, the table, and what is wrong in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from finrank.console import console
from finrank.errors import UserError
from finrank.evaluation.audit.attackers import (
    FittedScorer,
    accuracies,
    combined_scores,
    correct_indices,
    cross_fitted,
    linear_scores,
    medoid_hits,
    scores_by_medoid,
)
from finrank.evaluation.audit.cues import cue_scorers, failed_share
from finrank.evaluation.audit.gold_places import gold_positions, gold_ranks
from finrank.evaluation.intervals import page_intervals
from finrank.evaluation.metrics import FloatArray, Metric
from finrank.records import Pool

ATTACKERS = (
    "linear",
    "combined",
    "medoid_value",
    "medoid_text",
    "anti_medoid_value",
    "anti_medoid_text",
    "candidate_only",
)
# A place of gold is called uneven below this p-value; there are some ten such tests.
_UNEVEN_P = 0.001
_MOST_PLACES = 16  # more places of gold than these are printed as a range
_WHAT_TO_DO = {
    "linear": "the programs and values of wrong candidates are unlike those of gold programs",
    "combined": "the form of candidates and their nearness to each other together tell gold",
    "medoid_value": "gold's value lies in the middle of the others",
    "medoid_text": "the other programs are edits of gold",
    "anti_medoid_value": "gold's value lies apart from the others",
    "anti_medoid_text": "gold's program is the odd one out",
    "candidate_only": "a model finds gold without question and page",
}


def audit_pools(
    pools: Sequence[Pool],
    train: Sequence[Pool] | None,
    *,
    seed: int = 0,
    candidate_only: Metric | None = None,
) -> dict[str, Any]:
    """All figures of the audit of `pools`, as JSON values.

    Attackers that learn do so from `train`, whose pages must be others, or where it is None from the other pages of
    `pools` (cross-fitted). `candidate_only` holds the control's outcome per pool. Keys: "n", "unanswerable" (pools
    without a correct candidate), "pools" (sizes and failed candidates), "chance", an accuracy per attacker of
    `ATTACKERS` (medoids: the best of their distances) and "medoid", the better of both medoids; "distances" (every
    medoid and anti-medoid), "cues" (name -> accuracy, interval), "intervals" (95 %, over pages), "gold_positions" and
    "gold_ranks" (medoid -> distance -> see `gold_places`).

    Raises UserError without pools.
    """
    if not pools:
        raise UserError("no pools to audit: the split is empty; choose another --split or run steps 01 and 02 again")

    def fitted(scorer: FittedScorer) -> Metric:
        scores = cross_fitted(pools, scorer, seed=seed) if train is None else scorer(train, pools)
        return _accuracy(pools, scores)

    medoids, ranks = _medoids(pools)
    metrics = {
        "chance": _chance(pools),
        "linear": fitted(partial(linear_scores, seed=seed)),
        "combined": fitted(partial(combined_scores, seed=seed)),
        **{kind: variants[_best(variants)] for kind, variants in medoids.items()},
    }
    metrics["medoid"] = max(metrics["medoid_value"], metrics["medoid_text"], key=_mean)
    if candidate_only is not None:
        metrics["candidate_only"] = candidate_only
    cues = {name: fitted(scorer) for name, scorer in cue_scorers().items()}
    everything = {**metrics, **{f"cue {name}": metric for name, metric in cues.items()}}
    intervals = page_intervals(everything, [pool.page for pool in pools], seed=seed)
    return {
        "n": len(pools),
        "unanswerable": sum(not correct_indices(pool) for pool in pools),
        "pools": _sizes(pools),
        "candidate_only": None,
        **{name: metric.mean() for name, metric in metrics.items()},
        "distances": {kind: _distances(variants) for kind, variants in medoids.items()},
        "cues": {name: {"accuracy": cue.mean(), "interval": intervals[f"cue {name}"]} for name, cue in cues.items()},
        "intervals": {"candidate_only": None, **{name: intervals[name] for name in metrics}},
        "gold_positions": gold_positions(pools),
        "gold_ranks": ranks,
    }


def _accuracy(pools: Sequence[Pool], scores: Sequence[FloatArray]) -> Metric:
    return Metric(accuracies(pools, scores), np.ones(len(pools)))


def _chance(pools: Sequence[Pool]) -> Metric:
    return _accuracy(pools, [np.zeros(len(pool.candidates)) for pool in pools])


def _mean(metric: Metric) -> float:
    return metric.mean() or 0.0


def _best(variants: Mapping[str, Metric]) -> str:
    return max(variants, key=lambda name: _mean(variants[name]))


def _distances(variants: Mapping[str, Metric]) -> dict[str, Any]:
    return {"best": _best(variants), **{name: metric.mean() for name, metric in variants.items()}}


def _medoids(pools: Sequence[Pool]) -> tuple[dict[str, dict[str, Metric]], dict[str, dict[str, Any]]]:
    """Outcomes of every medoid and anti-medoid, and gold's ranks under the medoids: kind -> distance -> figure."""
    by_kind = scores_by_medoid(pools)
    metrics = {
        f"{prefix}medoid_{kind}": {
            name: Metric(medoid_hits(pools, scores, anti=bool(prefix)), np.ones(len(pools)))
            for name, scores in by_distance.items()
        }
        for prefix in ("", "anti_")
        for kind, by_distance in by_kind.items()
    }
    ranks = {
        f"medoid_{kind}": {name: gold_ranks(pools, scores) for name, scores in by_distance.items()}
        for kind, by_distance in by_kind.items()
    }
    return metrics, ranks


def _sizes(pools: Sequence[Pool]) -> dict[str, Any]:
    sizes = [len(pool.candidates) for pool in pools]
    return {
        "largest": max(sizes),
        "smaller": sum(size < max(sizes) for size in sizes),
        "failed_share": round(failed_share(pools), 6),
    }


def findings(result: Mapping[str, Any]) -> list[str]:
    """What the figures of `audit_pools` say is wrong: a sentence for each attacker and cue clearly above chance."""
    chance = result["chance"]
    found = []
    for name in ATTACKERS:
        interval = result["intervals"][name]
        if interval is not None and interval[0] > chance:
            found.append(
                f"{_label(name)} finds gold in {_cell(result[name], interval)} of the pools (chance {chance:.3f}): "
                f"{_WHAT_TO_DO[name]}"
            )
    for name, cue in result["cues"].items():
        if cue["interval"] is not None and cue["interval"][0] > chance:
            found.append(
                f"{name} alone finds gold in {_cell(cue['accuracy'], cue['interval'])} of the pools "
                f"(chance {chance:.3f})"
            )
    p_value = result["gold_positions"]["p_value"]
    if p_value is not None and p_value < _UNEVEN_P:
        found.append(f"gold stands at some positions more often than at others (chi-square {_p(p_value)})")
    for kind, name in _best_distances(result).items():
        p_value = result["gold_ranks"][kind][name]["p_value"]
        if p_value is not None and p_value < _UNEVEN_P:
            found.append(
                f"gold is nearer to its siblings, or farther from them, than the others by {_label(kind)} ({name}; "
                f"chi-square {_p(p_value)})"
            )
    return [f"pools give themselves away: {sentence}" for sentence in found]


def _best_distances(result: Mapping[str, Any]) -> dict[str, str]:
    return {kind: result["distances"][kind]["best"] for kind in result["gold_ranks"]}


def print_audit(result: Mapping[str, Any], title: str) -> None:
    """Print attackers and cues with their intervals and chance beside each, then gold's positions and ranks."""
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("attacker", "accuracy", "chance"):
        table.add_column(heading, justify="left" if heading == "attacker" else "right")
    rows: list[tuple[str, float | None, list[float] | None]] = []
    for name in ATTACKERS:
        best = f" ({result['distances'][name]['best']})" if name in result["distances"] else ""
        rows.append((_label(name) + best, result[name], result["intervals"][name]))
    for label, accuracy, interval in rows:
        table.add_row(label, _cell(accuracy, interval), f"{result['chance']:.3f}", end_section=label == rows[-1][0])
    for name, cue in result["cues"].items():
        table.add_row(name, _cell(cue["accuracy"], cue["interval"]), f"{result['chance']:.3f}")
    console.print(table)
    positions = result["gold_positions"]
    _print_places("positions of gold", positions["counts"], "g", positions["p_value"])
    for kind, name in _best_distances(result).items():
        ranks = result["gold_ranks"][kind][name]
        _print_places(f"ranks of gold by {_label(kind)}", ranks["shares"], ".3f", ranks["p_value"])
    sizes = result["pools"]
    console.print(
        f"{sizes['failed_share']:.1%} of the candidates have no value; {sizes['smaller']} pools have fewer than "
        f"{sizes['largest']} candidates"
    )


def _print_places(what: str, found: Sequence[float], form: str, p_value: float | None) -> None:
    """Print how often gold is at each place, or where there are many, the smallest and the largest share."""
    tested = "too few pools to test" if p_value is None else f"{_p(p_value)} against uniform"
    shown = " ".join(format(one, form) for one in found)
    if len(found) > _MOST_PLACES:
        total = sum(found) or 1.0
        shown = f"{min(found) / total:.1%} to {max(found) / total:.1%} at each of {len(found)}"
    console.print(f"{what}: {shown} ({tested})", soft_wrap=True)


def _p(value: float) -> str:
    return "p < 1e-12" if value < 1e-12 else f"p = {value:.2g}"


def _label(name: str) -> str:
    return name.replace("anti_", "anti-").replace("candidate_only", "candidate-only control").replace("_", " by ")


def _cell(accuracy: float | None, interval: Sequence[float] | None) -> str:
    if accuracy is None or interval is None:
        return "-"
    return f"{accuracy:.3f} ({interval[0]:.3f}-{interval[1]:.3f})"
