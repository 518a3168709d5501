"""Stage 02: read questions, make a pool of candidates for each, write the pools.

Prints how many pools were made and left out, and where the gold candidates stand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from finrank.candidates.pool import NoPool, build_pool
from finrank.console import say, track, warn
from finrank.records import Pool, Question
from finrank.store import BadLine, StageWriter, UserError, available_splits, read_records


@dataclass
class SplitSummary:
    """Running counts over the pools of one split; its size does not grow with their number."""

    pools: int = 0
    smaller: int = 0
    negatives: int = 0
    failing: int = 0
    edits: int = 0
    gold_positions: Counter[int] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)

    def add(self, pool: Pool, num_candidates: int) -> None:
        """Count one pool."""
        self.pools += 1
        self.smaller += len(pool.candidates) < num_candidates
        for position, candidate in enumerate(pool.candidates):
            if candidate.origin == "gold":
                self.gold_positions[position] += 1
            else:
                self.negatives += 1
                self.failing += candidate.answer is None
                self.edits += len(candidate.edits)

    def as_json(self, num_candidates: int) -> dict[str, Any]:
        """The counts and means, for the manifest; a mean of nothing is None."""
        return {
            "pools": self.pools,
            "smaller_pools": self.smaller,
            "mean_edits": round(self.edits / self.negatives, 4) if self.negatives else None,
            "failing_share": round(self.failing / self.negatives, 4) if self.negatives else None,
            "gold_positions": [self.gold_positions[position] for position in range(num_candidates)],
            "rejects": dict(sorted(self.rejects.items())),
        }


def run(
    input_dir: Path,
    output_dir: Path,
    *,
    num_candidates: int = 8,
    corruption_rate: float = 0.5,
    train_pools: int = 1,
    seed: int = 0,
) -> None:
    """Write `output_dir` with a Pool for every Question of `input_dir` that has a program; the others go to rejects.

    `corruption_rate` in [0, 1) is the chance of one more edit after each edit of a wrong candidate: low rates give near
    misses, high rates far ones. `train_pools` above 1 makes further pools of every train question, each with wrong
    candidates of its own and an id that ends in "#2", "#3" and so on: training then meets new ones instead of learning
    the same by heart. Raises UserError for settings out of range, or when the input is missing.
    """
    _check_settings(num_candidates, corruption_rate, train_pools)
    splits = available_splits(input_dir, expected="finqa_processed")
    files = {split: input_dir / f"{split}.jsonl" for split in splits}
    arguments = {
        "input_dir": str(input_dir),
        "output_dir": str(output_dir),
        "num_candidates": num_candidates,
        "corruption_rate": corruption_rate,
        "train_pools": train_pools,
    }
    make_pool = partial(build_pool, num_candidates=num_candidates, corruption_rate=corruption_rate, seed=seed)
    summaries: dict[str, SplitSummary] = {}
    with StageWriter[Pool](
        output_dir, stage="candidates", arguments=arguments, seed=seed, inputs=files.values()
    ) as out:
        for split, path in files.items():
            summary = summaries[split] = SplitSummary()
            # A stage's file has no blank lines, so the count of records is the line number.
            for line, question in enumerate(track(read_records(path, Question), f"candidates of {split}"), start=1):
                identifier = question.id
                try:
                    for copy in _copies(_readable(question), train_pools if split == "train" else 1):
                        identifier = copy.id
                        pool = make_pool(copy)
                        out.write(split, pool)
                        summary.add(pool, num_candidates)
                except NoPool as reason:
                    # Of a further pool that cannot be made, the id says which; those before it are written.
                    out.reject(path.name, line, identifier, str(reason))
                    summary.rejects[reason.kind] += 1
        out.extra["candidates"] = {split: summary.as_json(num_candidates) for split, summary in summaries.items()}
    _print_summaries(summaries, num_candidates, output_dir)


def _copies(question: Question, count: int) -> Iterator[Question]:
    yield question
    for number in range(2, count + 1):
        yield question.model_copy(update={"id": f"{question.id}#{number}"})


def _check_settings(num_candidates: int, corruption_rate: float, train_pools: int) -> None:
    if train_pools < 1:
        raise UserError(f"train_pools is {train_pools}: every train question has 1 pool at least")
    if num_candidates < 2:
        raise UserError(f"num_candidates is {num_candidates}: a pool needs 2 at least, the gold and a wrong one")
    if not 0.0 <= corruption_rate < 1.0:
        raise UserError(
            f"corruption_rate is {corruption_rate}: it is the chance of one more edit, from 0 to below 1 (default 0.5)"
        )


def _readable(question: Question | BadLine) -> Question:
    if isinstance(question, BadLine):
        raise NoPool("unreadable line", question.reason)
    return question


def _print_summaries(summaries: dict[str, SplitSummary], num_candidates: int, output_dir: Path) -> None:
    for split, summary in summaries.items():
        facts = summary.as_json(num_candidates)
        left_out = ", ".join(f"{count} {reason}" for reason, count in facts["rejects"].items()) or "none"
        say(f"{split}: {summary.pools} pools, left out: {left_out}")
        if summary.pools:
            say(
                f"    edits per wrong candidate {facts['mean_edits']:.2f}, without a value "
                f"{facts['failing_share']:.2%}, gold at positions {facts['gold_positions']}"
            )
        if summary.smaller:
            warn(
                f"{split}: {summary.smaller} pools have fewer than {num_candidates} candidates: "
                "no more with different values could be made"
            )
    if any(summary.rejects for summary in summaries.values()):
        say(f"what was left out, and why, is in {output_dir / 'rejects.jsonl'}")
