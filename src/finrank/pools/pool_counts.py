"""What is counted over the pools of a split, for the manifest of stage 02 and for the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from finrank.pools.mixing import CORRUPTED
from finrank.records import Pool


@dataclass
class PoolCounts:
    """Running counts over the pools of one split; its size does not grow with their number."""

    pools: int = 0
    smaller: int = 0
    corrupted: int = 0
    failing: int = 0
    edits: int = 0
    gold_positions: Counter[int] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    # By source, for those but corruption:
    taken: Counter[str] = field(default_factory=Counter)  # candidates
    left_to_corruption: Counter[str] = field(default_factory=Counter)  # places for which it had no candidate
    missing_questions: Counter[str] = field(default_factory=Counter)  # questions that it does not have
    bad_lines: Counter[str] = field(default_factory=Counter)

    def add(self, pool: Pool, num_candidates: int) -> None:
        """Count one pool."""
        self.pools += 1
        self.smaller += len(pool.candidates) < num_candidates
        for position, candidate in enumerate(pool.candidates):
            if candidate.origin == "gold":
                self.gold_positions[position] += 1
            elif candidate.edits:  # made here
                self.corrupted += 1
                self.failing += candidate.answer is None
                self.edits += len(candidate.edits)

    def merge(self, other: PoolCounts) -> None:
        """Add the counts of other pools."""
        for part in fields(self):
            count = getattr(self, part.name)
            count += getattr(other, part.name)  # a Counter adds in place, which is much faster than a new one
            setattr(self, part.name, count)

    def as_json(self, num_candidates: int, others: Sequence[str]) -> dict[str, Any]:
        """The counts, for the manifest, those by source for `others`; a mean is over corrupted candidates, or None."""
        names = ("left_to_corruption", "missing_questions", "bad_lines")
        mixed: dict[str, Any] = {"sources": {CORRUPTED: self.corrupted, **_by_name(self.taken, others)}}
        mixed |= {name: _by_name(getattr(self, name), others) for name in names}
        return {
            "pools": self.pools,
            "smaller_pools": self.smaller,
            "mean_edits": round(self.edits / self.corrupted, 4) if self.corrupted else None,
            "failing_share": round(self.failing / self.corrupted, 4) if self.corrupted else None,
            "gold_positions": [self.gold_positions[position] for position in range(num_candidates)],
            "rejects": dict(sorted(self.rejects.items())),
            **(mixed if others else {}),
        }


def _by_name(counter: Counter[str], names: Sequence[str]) -> dict[str, int]:
    return {name: counter[name] for name in names}
