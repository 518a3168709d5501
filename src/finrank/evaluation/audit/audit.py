"""The audit of pools: accuracy of every attacker compared with chance, and a sentence for whatever reveals gold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from finrank.console import console
from finrank.errors import UserError
from finrank.evaluation.audit import attackers
from finrank.evaluation.audit.cues import GoldPlaces, cue_scorers, gold_places
from finrank.evaluation.audit.medoids import medoid_scores
from finrank.evaluation.baselines import constant
from finrank.evaluation.intervals import Interval, page_intervals, with_interval
from finrank.evaluation.metrics import FloatArray, Metric
from finrank.records import Pool

# The attackers, and what it means that one finds gold.
ATTACKERS = {
    "linear": "the programs and values of wrong candidates are unlike those of gold programs",
    "combined": "the form of candidates and their nearness to each other together reveal gold",
    "medoid_value": "gold's value lies in the middle of the others",
    "medoid_text": "the other programs are edits of gold",
    "anti_medoid_value": "gold's value lies apart from the others",
    "anti_medoid_text": "gold's program is the odd one out",
    "candidate_only": "a model finds gold without question and page",
}
# A place of gold is called uneven below this p-value; there are some ten such tests.
_UNEVEN_P = 0.001
_MOST_PLACES = 16  # more places of gold than these are printed as a range


@dataclass(frozen=True)
class Accuracy:
    """An attacker's accuracy; both None where it did not take part."""

    accuracy: float | None = None
    interval: Interval | None = None

    def __str__(self) -> str:
        return with_interval(self.accuracy, self.interval)


@dataclass(frozen=True)
class PoolSizes:
    """Number of candidates in the audited pools."""

    largest: int
    smaller: int  # pools with fewer candidates than the largest
    failed_share: float  # of the candidates: those without a value


@dataclass(frozen=True)
class AuditResult:
    """All figures of an audit."""

    n: int
    unanswerable: int  # pools without a correct candidate
    pools: PoolSizes
    attackers: dict[str, Accuracy]  # and "chance"; medoids: the best distance; "medoid": the better of both kinds
    distances: dict[str, dict[str, float | None]]  # accuracy of medoids and anti-medoids by kind and distance
    cues: dict[str, Accuracy]
    gold_positions: GoldPlaces
    gold_ranks: dict[str, dict[str, GoldPlaces]]  # under the medoids, by kind and distance

    @property
    def chance(self) -> float:
        return self.attackers["chance"].accuracy or 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values: accuracies of the attackers at the top, their intervals under "intervals"."""
        return {
            "n": self.n,
            "unanswerable": self.unanswerable,
            "pools": asdict(self.pools),
            **{name: row.accuracy for name, row in self.attackers.items()},
            "distances": {kind: {"best": _best(row), **row} for kind, row in self.distances.items()},
            "cues": {name: asdict(row) for name, row in self.cues.items()},
            "intervals": {name: row.interval for name, row in self.attackers.items()},
            "gold_positions": self.gold_positions.as_json("counts"),
            "gold_ranks": {
                kind: {name: places.as_json("shares") for name, places in row.items()}
                for kind, row in self.gold_ranks.items()
            },
        }


def _best(accuracies_of: dict[str, float | None]) -> str:
    return max(accuracies_of, key=lambda name: accuracies_of[name] or 0.0)


def audit_pools(
    pools: Sequence[Pool], train: Sequence[Pool] | None, *, seed: int = 0, candidate_only: Metric | None = None
) -> AuditResult:
    """Attack `pools` with every attacker and cue; UserError without pools.

    Attackers that learn do so from `train`, whose pages must be others, or where it is None from the other pages of
    `pools` (cross-fitted). `candidate_only` holds the control's outcome per pool.
    """
    if not pools:
        raise UserError("no pools to audit: the split is empty; choose another --split or run steps 01 and 02 again")

    def metric(outcomes: FloatArray) -> Metric:
        return Metric(outcomes, np.ones(len(pools)))

    def fitted(scorer: attackers.FittedScorer) -> Metric:
        scores = attackers.cross_fitted(pools, scorer, seed=seed) if train is None else scorer(train, pools)
        return metric(attackers.accuracies(pools, scores))

    scores_of = medoid_scores(pools)
    outcomes_of = attackers.medoid_accuracies(pools, scores_of)
    distances = {
        kind: {name: metric(outcomes).mean() for name, outcomes in by_distance.items()}
        for kind, by_distance in outcomes_of.items()
    }
    metrics = {
        "chance": metric(attackers.accuracies(pools, [constant(pool) for pool in pools])),
        "linear": fitted(partial(attackers.linear_scores, seed=seed)),
        "combined": fitted(partial(attackers.combined_scores, seed=seed)),
        **{kind: metric(by_distance[_best(distances[kind])]) for kind, by_distance in outcomes_of.items()},
    }
    metrics["medoid"] = max(metrics["medoid_value"], metrics["medoid_text"], key=lambda row: row.mean() or 0.0)
    if candidate_only is not None:
        metrics["candidate_only"] = candidate_only
    cues = {name: fitted(scorer) for name, scorer in cue_scorers().items()}
    intervals = page_intervals({**metrics, **cues}, [pool.page for pool in pools], seed=seed)
    rows = {name: Accuracy(row.mean(), intervals[name]) for name, row in {**metrics, **cues}.items()}
    sizes = [len(pool.candidates) for pool in pools]
    failed = sum(candidate.answer is None for pool in pools for candidate in pool.candidates)
    return AuditResult(
        n=len(pools),
        unanswerable=sum(not attackers.correct_indices(pool) for pool in pools),
        pools=PoolSizes(max(sizes), sum(size < max(sizes) for size in sizes), round(failed / sum(sizes), 6)),
        attackers={"candidate_only": Accuracy(), **{name: rows[name] for name in metrics}},
        distances=distances,
        cues={name: rows[name] for name in cues},
        gold_positions=gold_places(pools),
        gold_ranks={
            f"medoid_{kind}": {name: gold_places(pools, scores) for name, scores in by_distance.items()}
            for kind, by_distance in scores_of.items()
        },
    )


def findings(result: AuditResult) -> list[str]:
    """A sentence for each attacker and cue clearly above chance, and for each uneven distribution of gold's places."""
    chance, sentences = result.chance, []
    uneven = {"gold is at some positions more often than at others (": result.gold_positions}
    for kind, by_distance in result.gold_ranks.items():
        name = _best(result.distances[kind])
        nearer = f"gold is nearer to its siblings, or farther from them, than the others by {_label(kind)} ({name}; "
        uneven[nearer] = by_distance[name]
    scorers = [(_label(name), result.attackers[name], f": {meaning}") for name, meaning in ATTACKERS.items()]
    scorers += [(f"{name} alone", cue, "") for name, cue in result.cues.items()]
    for name, row, meaning in scorers:
        if row.interval and row.interval[0] > chance:
            sentences.append(f"{name} finds gold in {row} of the pools (chance {chance:.3f}){meaning}")
    for sentence, places in uneven.items():
        if places.p_value is not None and places.p_value < _UNEVEN_P:
            sentences.append(f"{sentence}chi-square {_p(places.p_value)})")
    return [f"pools give themselves away: {sentence}" for sentence in sentences]


def print_audit(result: AuditResult, title: str) -> None:
    """Print attackers and cues with their intervals and chance, then gold's positions and ranks."""
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("attacker", "accuracy", "chance"):
        table.add_column(heading, justify="left" if heading == "attacker" else "right")
    chance = f"{result.chance:.3f}"
    for name in ATTACKERS:
        best = f" ({_best(result.distances[name])})" if name in result.distances else ""
        is_last = name == "candidate_only"
        table.add_row(_label(name) + best, str(result.attackers[name]), chance, end_section=is_last)
    for name, cue in result.cues.items():
        table.add_row(name, str(cue), chance)
    console.print(table)
    _print_places("positions of gold", result.gold_positions, "g")
    for kind, by_distance in result.gold_ranks.items():
        _print_places(f"ranks of gold by {_label(kind)}", by_distance[_best(result.distances[kind])], ".3f")
    console.print(
        f"{result.pools.failed_share:.1%} of the candidates have no value; {result.pools.smaller} pools have fewer "
        f"than {result.pools.largest} candidates"
    )


def _print_places(what: str, places: GoldPlaces, form: str) -> None:
    tested = "too few pools to test" if places.p_value is None else f"{_p(places.p_value)} against uniform"
    observed = places.observed
    shown = " ".join(format(count, form) for count in observed)
    if len(observed) > _MOST_PLACES:
        total = sum(observed) or 1.0
        shown = f"{min(observed) / total:.1%} to {max(observed) / total:.1%} at each of {len(observed)}"
    console.print(f"{what}: {shown} ({tested})", soft_wrap=True)


def _p(value: float) -> str:
    return "p < 1e-12" if value < 1e-12 else f"p = {value:.2g}"


def _label(name: str) -> str:
    return name.replace("anti_", "anti-").replace("candidate_only", "candidate-only control").replace("_", " by ")
