"""A short way to write rewarded pools, and how a good, a bad and an honest scorer ranks them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from finrank.records import Answer, Candidate, RewardedPool


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
