"""Accuracy by kind of question and pool, beside the chance of the same pools, and the corruptions that were picked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from finrank.evaluation.intervals import subset_intervals
from finrank.evaluation.metrics import FIGURE_DECIMALS, FloatArray, Metric, pick_probabilities
from finrank.evaluation.survival import gold_operands
from finrank.programs import OPERATIONS, Program, ProgramError, parse
from finrank.ranker.prompt import PromptSettings
from finrank.records import RewardedPool

_MOST_STEPS = 4  # programs of this many steps and more are one row
_MOST_SIZES = 8  # more distinct pool sizes than this are put together by quarters

Named = Sequence[tuple[str, Sequence[int]]]  # the rows of a table: name, indices of its pools


def break_down(
    pools: Sequence[RewardedPool], scores: Sequence[FloatArray], accuracy: Metric, chance: Metric, *, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """Tables of the accuracy by "steps", "operation", "origin", "context_length" and "candidates"; and "fooled_by".

    A row is {"name", "n" (pools), "accuracy", "interval" (see `subset_intervals`), "chance"}. Pools without a gold
    program are in none of the first three. A pool is in the row of each operation of its gold program. "origin" is
    where the gold program's numbers and rows stand: "table", "text" (in sentences only), "both", "nowhere" (not on the
    page).
    "context_length" goes by quarters of the pools, in words of table and text; "candidates" by pool size, empty where
    all pools have the same. For "fooled_by" see `fooled_by`.
    """
    programs = [_gold_program(pool) for pool in pools]
    tables: dict[str, Named] = {
        "steps": _by_steps(programs),
        "operation": _by_operation(programs),
        "origin": _by_origin(pools, programs),
        "context_length": _by_quarter([context_words(pool) for pool in pools], "words"),
        "candidates": _by_size([len(pool.candidates) for pool in pools]),
    }
    rows = _rows(tables, accuracy, chance, [pool.page for pool in pools], seed)
    return {**rows, "fooled_by": fooled_by(pools, scores)}


def _rows(
    tables: dict[str, Named], accuracy: Metric, chance: Metric, pages: Sequence[str], seed: int
) -> dict[str, list[dict[str, Any]]]:
    parts: dict[str, Metric] = {}
    for table, named in tables.items():
        for name, indices in named:
            weights = np.zeros(len(pages))
            weights[list(indices)] = 1.0
            parts[f"{table}/{name}"] = Metric(accuracy.values, weights)
    intervals = subset_intervals(parts, pages, seed=seed)
    return {
        table: [
            {
                "name": name,
                "n": len(indices),
                "accuracy": parts[f"{table}/{name}"].mean(),
                "interval": intervals[f"{table}/{name}"],
                "chance": round(float(chance.values[list(indices)].mean()), FIGURE_DECIMALS),
            }
            for name, indices in named
        ]
        for table, named in tables.items()
    }


def _gold_program(pool: RewardedPool) -> Program | None:
    try:
        return parse(pool.program) if pool.program is not None else None
    except ProgramError:
        return None


def _by_steps(programs: Sequence[Program | None]) -> Named:
    names = {n: f"{n}" if n < _MOST_STEPS else f"{n} or more" for n in range(1, _MOST_STEPS + 1)}
    steps = [0 if program is None else min(len(program.steps), _MOST_STEPS) for program in programs]
    return _grouped(names.values(), [{names[count]} if count else set() for count in steps])


def _by_operation(programs: Sequence[Program | None]) -> Named:
    used = [set() if program is None else {step.operation for step in program.steps} for program in programs]
    return _grouped(OPERATIONS, used)


def _by_origin(pools: Sequence[RewardedPool], programs: Sequence[Program | None]) -> Named:
    origins = [set() if program is None else {_origin(pool)} for pool, program in zip(pools, programs, strict=True)]
    return _grouped(("table", "text", "both", "nowhere"), origins)


def _origin(pool: RewardedPool) -> str:
    found = {operand.origin for operand in gold_operands(pool, [], PromptSettings(labels=False))} - {"nowhere"}
    return "both" if len(found) > 1 else next(iter(found), "nowhere")


def context_words(pool: RewardedPool) -> int:
    """Words of the pool's page, table and text."""
    return sum(len(cell.split()) for row in pool.table for cell in row) + sum(len(one.split()) for one in pool.text)


def _by_size(sizes: Sequence[int]) -> Named:
    distinct = sorted(set(sizes))
    if len(distinct) < 2:
        return []
    if len(distinct) > _MOST_SIZES:
        return _by_quarter(sizes, "candidates")
    return _grouped(map(str, distinct), [{str(size)} for size in sizes])


def _by_quarter(sizes: Sequence[int], unit: str) -> Named:
    """Four groups of about as many pools each; fewer where sizes repeat.

    >>> _by_quarter([10, 20, 30, 40], "words")
    [('10 words', [0]), ('20 words', [1]), ('30 words', [2]), ('40 words', [3])]
    """
    edges = np.quantile(sizes, [0.25, 0.5, 0.75])
    quarter = np.searchsorted(edges, sizes, side="left")
    groups = []
    for number in range(4):
        indices = np.flatnonzero(quarter == number).tolist()
        if indices:
            low, high = min(sizes[index] for index in indices), max(sizes[index] for index in indices)
            groups.append((f"{low} {unit}" if low == high else f"{low} to {high} {unit}", indices))
    return groups


def _grouped(names: Iterable[str], names_of: Sequence[set[str]]) -> Named:
    """The indices of the pools under each name, in the order of the names; names without pools are left out."""
    rows = [(name, [index for index, own in enumerate(names_of) if name in own]) for name in names]
    return [(name, indices) for name, indices in rows if indices]


def fooled_by(pools: Sequence[RewardedPool], scores: Sequence[FloatArray]) -> list[dict[str, Any]]:
    """How often a wrong candidate of each kind was picked, the most often picked kind first.

    A row is {"name", "picked" (ties in equal shares), "offered" (wrong candidates of that kind), "share" (of the
    offered that was picked), "chance" (the share for picks at random)}. The kind is an edit that made the candidate;
    one with several edits counts under each, one without any under its origin.
    """
    picked: defaultdict[str, float] = defaultdict(float)
    at_random: defaultdict[str, float] = defaultdict(float)
    offered: Counter[str] = Counter()
    for pool, own in zip(pools, scores, strict=True):
        shares = pick_probabilities(own).tolist()
        for index, candidate in enumerate(pool.candidates):
            if index in pool.correct:
                continue
            for name in sorted(set(candidate.edits)) or [candidate.origin]:
                offered[name] += 1
                picked[name] += shares[index]
                at_random[name] += 1 / len(shares)
    rows = [
        {
            "name": name,
            "picked": round(picked[name], 6),
            "offered": count,
            "share": round(picked[name] / count, 6),
            "chance": round(at_random[name] / count, 6),
        }
        for name, count in offered.items()
    ]
    return sorted(rows, key=lambda row: (-float(row["share"]), str(row["name"])))
