"""Small rewarded pools for tests of training and evaluation."""

from __future__ import annotations

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
    directory.mkdir(parents=True, exist_ok=True)
    start = 0
    for split, count in {"train": train, "selection": selection, "dev": dev}.items():
        lines = [make_pool(start + number).model_dump_json() for number in range(count)]
        (directory / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        start += count
    return directory
