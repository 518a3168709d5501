"""A short way to write rewarded pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from finrank.records import Answer, Candidate, RewardedPool

MakePool = Callable[..., RewardedPool]


def _make_pool(
    answers: Sequence[Answer | None],
    correct: Sequence[int] = (0,),
    *,
    rewards: Sequence[float] | None = None,
    programs: Sequence[str | None] | None = None,
    page: str = "page",
    identifier: str = "q",
    edits: Sequence[Sequence[str]] | None = None,
    **gold: Any,
) -> RewardedPool:
    if rewards is None:
        rewards = [1.0 if index in correct else 0.2 for index in range(len(answers))]
    names = programs if programs is not None else [f"program {index}" for index in range(len(answers))]
    return RewardedPool(
        id=identifier,
        page=page,
        question="how much ?",
        **{"table": [["", "2008"]], "text": [], **gold},
        candidates=[
            Candidate(program=program, answer=answer, origin="corrupted", edits=list(edits[place]) if edits else [])
            for place, (program, answer) in enumerate(zip(names, answers, strict=True))
        ],
        rewards=list(rewards),
        components=[{} for _ in answers],
        correct=list(correct),
    )
