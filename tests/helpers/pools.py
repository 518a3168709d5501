"""Small rewarded pools for tests of training and evaluation."""

from __future__ import annotations

import itertools
from pathlib import Path

from finrank.records import Candidate, RewardedPool


def make_pool(number: int, candidates: int = 4) -> RewardedPool:
    """A pool whose correct candidate adds two numbers of the table; its index depends on the number."""
    left, right = 100 + number, 7 + number
    correct = number % candidates
    made = []
    for index in range(candidates):
        program, answer = f"add({left}, {right})", float(left + right)
        if index != correct:
            program, answer = f"subtract({left}, {right + index})", float(left - right - index)
        made.append(Candidate(program=program, answer=answer, origin="gold" if index == correct else "corrupted"))
    return RewardedPool(
        id=f"TEST/2012/page_{number // 2}.pdf-{number}",
        page=f"TEST/2012/page_{number // 2}.pdf",
        question=f"what is the total of item {number} ?",
        table=[["", "2012", "2011"], [f"item {number}", f"$ {left}", f"$ {right}"], ["other items", "9", "11"]],
        text=["the table shows our items .", f"we paid {number} in tax ."],
        program=f"add({left}, {right})",
        answer=float(left + right),
        candidates=made,
        rewards=[1.0 if index == correct else 0.3 for index in range(candidates)],
        components=[{"execution": 1.0, "closeness": 0.5, "operations": 0.0}] * candidates,
        correct=[correct],
    )


def write_pools(directory: Path, *, train: int = 24, selection: int = 8, dev: int = 8) -> Path:
    """A folder as stage 03 writes it, without the manifest."""
    pools = map(make_pool, itertools.count())
    counts = {"train": train, "selection": selection, "dev": dev}
    return write_splits(directory, {split: list(itertools.islice(pools, count)) for split, count in counts.items()})


def write_splits(directory: Path, splits: dict[str, list[RewardedPool]]) -> Path:
    """A folder with a file of pools for each split."""
    directory.mkdir(parents=True, exist_ok=True)
    for split, pools in splits.items():
        lines = [pool.model_dump_json() + "\n" for pool in pools]
        (directory / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return directory
