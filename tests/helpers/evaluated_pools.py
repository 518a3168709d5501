"""Rewarded pools made in a line, scorers that know the right answers, and attackers that do not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from finrank.evaluation.audit import attackers
from finrank.evaluation.audit.medoids import medoid_scores
from finrank.ranker.choosing.chooser import Chooser
from finrank.records import Answer, Candidate, Pool, RewardedPool

RANKER_ALONE = Chooser(votes=0.0, near=0.0, program=0.0, proposed=0.0)
"""A chooser that adds nothing to what the ranker says."""


def make_pool(
    answers: Sequence[Answer | None],
    correct: Sequence[int] = (0,),
    *,
    rewards: Sequence[float] | None = None,
    programs: Sequence[str | None] | None = None,
    page: str = "page",
    identifier: str = "q",
    edits: Sequence[Sequence[str]] | None = None,
    origin: str = "corrupted",
    **gold: Any,
) -> RewardedPool:
    """A pool with reward 1.0 for the correct candidates and 0.2 for the others.

    Further fields of the question (`question`, `program`, `answer`, `table`, `text`) go by their names.
    """
    if rewards is None:
        rewards = [1.0 if index in correct else 0.2 for index in range(len(answers))]
    names = programs if programs is not None else [f"program {index}" for index in range(len(answers))]
    candidates = [
        Candidate(program=program, answer=answer, origin=origin, edits=list(edits[index]) if edits else [])
        for index, (program, answer) in enumerate(zip(names, answers, strict=True))
    ]
    return RewardedPool(
        id=identifier,
        page=page,
        **{"question": "how much ?", "table": [["", "2008"]], "text": [], **gold},
        candidates=candidates,
        rewards=list(rewards),
        components=[{} for _ in answers],
        correct=list(correct),
    )


def by_reward(pools: Sequence[RewardedPool]) -> list[np.ndarray]:
    """The scores of a scorer that is always right."""
    return [np.array(pool.rewards) for pool in pools]


def by_chance(pools: Sequence[RewardedPool], bonus: float = 0.0) -> list[np.ndarray]:
    """Scores drawn by question and program, whatever the order; a right candidate has `bonus` more."""
    return [
        np.array(
            [
                random.Random(f"{pool.id} {candidate.program}").random() + bonus * (reward == 1.0)
                for candidate, reward in zip(pool.candidates, pool.rewards, strict=True)
            ]
        )
        for pool in pools
    ]


def linear_accuracy(train: Sequence[Pool], audited: Sequence[Pool]) -> float:
    """The share of `audited` in which the linear attacker, fitted on `train`, finds a correct candidate."""
    return float(attackers.accuracies(audited, attackers.linear_scores(train, audited)).mean())


def medoid_accuracies(pools: Sequence[Pool]) -> dict[str, dict[str, float]]:
    """Accuracy of every medoid and anti-medoid, by kind and distance."""
    outcomes = attackers.medoid_accuracies(pools, medoid_scores(pools))
    return {kind: {name: float(row.mean()) for name, row in rows.items()} for kind, rows in outcomes.items()}
