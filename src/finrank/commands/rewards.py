"""Stage 03: read candidate pools, give every candidate a reward, write rewarded pools.

Prints how the rewards are distributed, and warns about pools that cannot teach anything.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from finrank.console import Reading, console, say, track, warn
from finrank.errors import UserError
from finrank.parallel import ordered_map
from finrank.pools.rewards import RewardWeights, Unrewardable, reward_pool
from finrank.records import Pool, RewardedPool
from finrank.store import StageWriter, available_splits
from finrank.store.json_lines import BadLine, Line, encode, read_lines, read_record, shorten

_BINS = ("0", "0.0-0.1", "0.1-0.2", "0.2-0.3", "0.3-0.4", "0.4-0.5", "1")
_FIRST_IDS = 5  # how many ids a warning names
_BAR_WIDTH = 40


class Rewarded(NamedTuple):
    """A rewarded pool as a line to be written, and what is counted of it."""

    id: str
    line: bytes
    rewards: list[float]
    correct: int  # how many candidates are


@dataclass
class RewardSummary:
    """Running counts over rewarded pools; its size does not grow with their number."""

    pools: int = 0
    candidates: int = 0
    bins: Counter[str] = field(default_factory=Counter)
    tied_top: int = 0
    several_correct: int = 0
    without_correct: int = 0
    no_spread: int = 0
    no_spread_ids: list[str] = field(default_factory=list)
    _best_sum: float = 0.0
    _others_sum: float = 0.0

    def add(self, pool: Rewarded) -> None:
        """Count one pool."""
        best = max(pool.rewards)
        self.pools += 1
        self.candidates += len(pool.rewards)
        self.bins.update([reward_bin(reward) for reward in pool.rewards])
        self.tied_top += pool.rewards.count(best) > 1
        self.several_correct += pool.correct > 1
        self.without_correct += not pool.correct
        self._best_sum += best
        self._others_sum += sum(pool.rewards) - best
        if min(pool.rewards) == best:
            self.no_spread += 1
            if len(self.no_spread_ids) < _FIRST_IDS:
                self.no_spread_ids.append(pool.id)

    def as_json(self) -> dict[str, Any]:
        """The counts and means, for the manifest; a mean of nothing is None."""
        others = self.candidates - self.pools
        return {
            "pools": self.pools,
            "candidates": self.candidates,
            "rewards": {name: self.bins[name] for name in _BINS},
            "mean_best": round(self._best_sum / self.pools, 6) if self.pools else None,
            "mean_of_others": round(self._others_sum / others, 6) if others else None,
            "pools_tied_at_top": self.tied_top,
            "pools_with_several_correct": self.several_correct,
            "pools_without_correct": self.without_correct,
            "pools_without_spread": self.no_spread,
            "first_ids_without_spread": self.no_spread_ids,
        }


def reward_bin(reward: float) -> str:
    """The bin of a reward: "0", "1", or the tenth it lies in, upper end included (0.1 is in "0.0-0.1").

    >>> reward_bin(0.0), reward_bin(0.416667), reward_bin(1.0)
    ('0', '0.4-0.5', '1')
    """
    if reward == 0.0:
        return "0"
    if reward > 0.5:
        return "1"
    return _BINS[math.ceil(round(reward * 10, 6))]  # rounded first: 0.7 * 10 is not 7 in binary


def run(
    input_dir: Path, output_dir: Path, *, weights: RewardWeights | None = None, seed: int = 0, workers: int = 1
) -> None:
    """Write `output_dir` with a RewardedPool for every Pool of `input_dir`; the others go to rejects.

    Nothing here is random: `seed` is recorded in the manifest alone. `workers` processes (0: one per core) make the
    same files. Raises UserError when the input is missing, or when none of it can be rewarded.
    """
    weights = weights or RewardWeights()
    splits = available_splits(input_dir, expected="finqa_candidates")
    files = {split: input_dir / f"{split}.jsonl" for split in splits}
    arguments = {"input_dir": str(input_dir), "output_dir": str(output_dir), "weights": weights.model_dump()}
    summary = RewardSummary()
    first_left_out: BadLine | None = None
    with (
        StageWriter[RewardedPool](
            output_dir, stage="rewards", arguments=arguments, seed=seed, inputs=files.values()
        ) as out,
        ordered_map(partial(_rewarded, weights=weights), workers) as rewarded,
    ):
        for split, path in files.items():
            reading = Reading.of(path)
            found = rewarded(read_lines(path, reading))
            for pool in track(found, f"rewards of {split}", reading=reading):
                if isinstance(pool, BadLine):
                    out.reject(path.name, pool.line, pool.id, pool.reason)
                    first_left_out = first_left_out or pool
                    continue
                out.write_encoded(split, pool.line)
                summary.add(pool)
        if not summary.pools:
            raise UserError(_why_nothing(input_dir, first_left_out))
        out.extra["rewards"] = summary.as_json()
    _print_summary(summary, out.rejected, output_dir)


def _rewarded(line: Line, weights: RewardWeights) -> Rewarded | BadLine:
    """The pool in a line with its rewards, or why it has none; in a worker process when there are several."""
    pool = read_record(line, Pool)
    if isinstance(pool, BadLine):
        return pool
    try:
        rewarded = reward_pool(pool, weights)
    except Unrewardable as reason:
        return BadLine(line.file, line.number, pool.id, str(reason))
    return Rewarded(pool.id, encode(rewarded), rewarded.rewards, len(rewarded.correct))


def _why_nothing(input_dir: Path, first_left_out: BadLine | None) -> str:
    """What to tell the user when no pool got rewards."""
    if first_left_out is None:
        return f"all files of {input_dir} are empty: make its pools again with 02_generate_candidates.py"
    place = f"{first_left_out.file}:{first_left_out.line} (id {shorten(str(first_left_out.id), 100)})"
    return f"no pool of {input_dir} can be given rewards; the first, {place}: {shorten(first_left_out.reason, 500)}"


def _print_summary(summary: RewardSummary, rejected: int, output_dir: Path) -> None:
    facts = summary.as_json()
    table = Table(title=f"rewards of {facts['candidates']} candidates in {facts['pools']} pools")
    table.add_column("reward")
    table.add_column("candidates", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    most = max(facts["rewards"].values()) or 1
    for name, count in facts["rewards"].items():
        share = count / max(facts["candidates"], 1)
        table.add_row(name, str(count), f"{share:.1%}", "#" * round(_BAR_WIDTH * count / most))
    console.print(table)
    if summary.pools:
        say(f"mean best reward {facts['mean_best']}, mean of the others {facts['mean_of_others']}")
    say(
        f"pools tied at the top: {summary.tied_top}, with several correct candidates: "
        f"{summary.several_correct}, without a correct one: {summary.without_correct}"
    )
    if summary.no_spread:
        warn(
            f"{summary.no_spread} pools have no spread (all rewards equal): a ranker learns nothing from "
            f"them; first ids: {', '.join(summary.no_spread_ids)}"
        )
    if rejected:
        warn(f"{rejected} records were left out: the reasons are in {output_dir / 'rejects.jsonl'}")
