"""Floors of speed, several times below what a slow core does: they fail when the work per program grows."""

from __future__ import annotations

import time
from collections.abc import Callable

from finrank.programs import execute, parse
from finrank.sources import made_up as sample

EXECUTIONS_PER_SECOND = 100_000
WITH_PARSING_PER_SECOND = 30_000


def per_second(work: Callable[[], object], count: int) -> float:
    """Programs per second of processor time, the best of several runs."""
    best = float("inf")
    for _ in range(7):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return count / max(best, 1e-9)


def test_speed_of_execution_with_and_without_parsing() -> None:
    examples = sample.generate(train=150, dev=0, test=0)["train"] * 10
    texts = [(example["qa"]["program"], example["table"]) for example in examples]
    programs = [(parse(text), table) for text, table in texts]
    assert per_second(lambda: [execute(*pair) for pair in programs], len(programs)) > EXECUTIONS_PER_SECOND
    with_parsing = per_second(lambda: [execute(parse(text), table) for text, table in texts], len(texts))
    assert with_parsing > WITH_PARSING_PER_SECOND
