"""Wrote "Pool designs: tree and fit need each other" in docs/experiments.md: what attackers find in each design.

    python research/pool_designs.py --input_dir datasets/finqa_processed --split dev --json FILE [--quick]

Designs: wrong candidates as edits of gold (a star with gold in the middle) or along a random tree, with the likeness to
gold from the counts of shapes alone or fitted; then the default design at other rates and pool sizes. Attackers are
fitted on the pools of the train split and look at those of `--split`; chance is 1 / candidates. `--quick` takes 150
questions of each split. Writes nothing but the JSON, prints the table of docs/experiments.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from finrank.console import track
from finrank.evaluation.audit.attackers import accuracies, combined_scores, linear_scores, medoid_accuracies
from finrank.evaluation.audit.medoids import medoid_scores
from finrank.pools import trees
from finrank.pools.corruption.fit_likeness import FOLDS, CrossFitted, cross_fit
from finrank.pools.corruption.likeness import Likeness
from finrank.pools.pool import NoPool, PoolSettings, build_pool, gold_program
from finrank.records import Pool, Question
from finrank.store import load_records

Tree = Callable[[int, random.Random], list[tuple[int, int]]]


def star(size: int, rng: random.Random) -> list[tuple[int, int]]:
    """Every wrong candidate an edit of gold, which is node 0."""
    return [(0, node) for node in range(1, size)]


# Name, tree, fitted, corruption rate, candidates.
DESIGNS: list[tuple[str, Tree, bool, float, int]] = [
    ("edits of gold, shapes alone", star, False, 0.5, 8),
    ("edits of gold, fitted", star, True, 0.5, 8),
    ("random tree, shapes alone", trees.random_tree, False, 0.5, 8),
    ("random tree, fitted (default)", trees.random_tree, True, 0.5, 8),
    ("default at rate 0.2", trees.random_tree, True, 0.2, 8),
    ("default at rate 0.8", trees.random_tree, True, 0.8, 8),
    ("default, 4 candidates", trees.random_tree, True, 0.5, 4),
    ("default, 16 candidates", trees.random_tree, True, 0.5, 16),
]


def measure(
    train: list[Question], audited: list[Question], design: tuple[str, Tree, bool, float, int]
) -> dict[str, Any]:
    """The attackers' accuracies on the pools of one design."""
    name, tree, fitted, rate, size = design
    with patch.object(trees, "random_tree", tree):
        if fitted:
            likeness = cross_fit(train, rate=rate, seed=0)
        else:
            likeness = CrossFitted([Likeness() for _ in range(FOLDS)], [0] * FOLDS)
        learned, found = (
            [_pool(one, size, rate, likeness.of(one.page)) for one in questions] for questions in (train, audited)
        )
    medoids = medoid_accuracies(found, medoid_scores(found))
    return {
        "design": name,
        "candidates": size,
        "rate": rate,
        "chance": round(float(np.mean([1.0 / len(pool.candidates) for pool in found])), 4),
        "linear": round(float(np.mean(accuracies(found, linear_scores(learned, found)))), 4),
        "combined": round(float(np.mean(accuracies(found, combined_scores(learned, found)))), 4),
        **{kind: round(max(float(np.mean(one)) for one in row.values()), 4) for kind, row in medoids.items()},
        "edits": round(_mean_edits(found), 2),
    }


def _pool(question: Question, size: int, rate: float, likeness: Likeness) -> Pool:
    """As stage 02 makes it by default."""
    return build_pool(question, PoolSettings(size, rate), likeness)


def _mean_edits(pools: list[Pool]) -> float:
    wrong = [len(candidate.edits) for pool in pools for candidate in pool.candidates if candidate.origin != "gold"]
    return float(np.mean(wrong))


def _sound(path: Path, most: int | None) -> list[Question]:
    questions = []
    for question in load_records(path, Question):
        try:
            gold_program(question)
        except NoPool:
            continue
        questions.append(question)
    return questions[:most]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--input_dir", type=Path, default=Path("datasets/finqa_processed"), help="output of stage 01")
    parser.add_argument("--split", default="dev", help="the split that attackers look at (default: dev)")
    parser.add_argument("--quick", action="store_true", help="150 questions of each split, the first four designs")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    most = 150 if arguments.quick else None
    train = _sound(arguments.input_dir / "train.jsonl", most)
    audited = _sound(arguments.input_dir / f"{arguments.split}.jsonl", most)
    rows = [measure(train, audited, design) for design in track(DESIGNS[:4] if arguments.quick else DESIGNS, "designs")]
    columns = [name for name in rows[0] if name not in ("candidates", "rate")]
    print(f"| {' | '.join(name.replace('_', ' ') for name in columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(
            "| "
            + " | ".join(f"{row[name]:.3f}" if isinstance(row[name], float) else row[name] for name in columns)
            + " |"
        )
    if arguments.json:
        result = {"device": platform.processor() or platform.machine(), "questions": len(audited), "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
