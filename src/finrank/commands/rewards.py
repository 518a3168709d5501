"""Stage 03: read candidate pools, compute a reward for every candidate, write rewarded pools."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.table import Table

from finrank.commands.options import CANDIDATES, REWARDED, Seed, Workers
from finrank.console import Reading, console, say, track, warn
from finrank.errors import UserError
from finrank.parallel import ordered_map
from finrank.pools.rewards import RewardWeights, Unrewardable, load_reward_weights, reward_pool
from finrank.records import Pool, RewardedPool
from finrank.store import REJECTS, StageWriter, refuse_earlier_stage, split_files
from finrank.store.json_lines import BadLine, Line, encode, name_of, read_lines, read_record, shorten, why_too_long
from finrank.store.remote import anywhere

_BINS = ("0", "0.0-0.1", "0.1-0.2", "0.2-0.3", "0.3-0.4", "0.4-0.5", "1")
_FIRST_IDS = 5  # ids that a warning names
_BAR_WIDTH = 40


@anywhere
def rewards(
    input_dir: Annotated[Path, typer.Option("--input_dir", help="Output of stage 02.")] = CANDIDATES,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Stage directory to write.")] = REWARDED,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="YAML with the weights of the parts (default: closeness 0.5, operations 0.3, execution 0.2).",
        ),
    ] = None,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Stage 03: a reward in [0, 1] for every candidate.

    Correct ones get 1.0, others at most 0.5, programs that fail 0. Writes the same splits as stage 02, rejects.jsonl
    and manifest.json.

    \b
    Example:
      finrank rewards --input_dir datasets/finqa_candidates --output_dir datasets/finqa_with_rewards
    """
    weights = load_reward_weights(config) if config else RewardWeights()
    files = split_files(input_dir, expected="finqa_candidates")
    refuse_earlier_stage(files.values(), "finqa_candidates")
    arguments = {"input_dir": name_of(input_dir), "output_dir": name_of(output_dir), "weights": weights.model_dump()}
    summary = RewardSummary()
    first_left_out: BadLine | None = None
    # Nothing here is random: the seed is only recorded.
    writer = StageWriter[RewardedPool](
        output_dir, stage="rewards", arguments=arguments, seed=seed, inputs=files.values()
    )
    with writer as out, ordered_map(partial(_rewarded, weights=weights), workers) as rewarded:
        for split, path in files.items():
            reading = Reading.of(path)
            for pool in track(rewarded(read_lines(path, reading)), f"rewards of {split}", reading=reading):
                if isinstance(pool, BadLine):
                    out.reject(Path(pool.file).name, pool.line, pool.id, pool.reason)
                    first_left_out = first_left_out or pool
                    continue
                out.write_encoded(split, pool.line)
                summary.add(pool)
        if not summary.pools:
            raise UserError(_why_nothing(input_dir, first_left_out))
        out.extra["rewards"] = summary.as_json()
    _print_summary(summary, out.rejected, output_dir)


class Rewarded(NamedTuple):
    """A rewarded pool as a line to write, and the facts that are counted."""

    line: bytes
    id: str
    rewards: list[float]
    num_correct: int


@dataclass
class RewardSummary:
    """Running counts over rewarded pools; its size does not grow with their number."""

    pools: int = 0
    candidates: int = 0
    rewards: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_BINS, 0))
    pools_tied_at_top: int = 0
    pools_with_several_correct: int = 0
    pools_without_correct: int = 0
    pools_without_spread: int = 0
    first_ids_without_spread: list[str] = field(default_factory=list)
    _best_sum: float = 0.0
    _others_sum: float = 0.0

    def add(self, pool: Rewarded) -> None:
        """Count one pool."""
        best = max(pool.rewards)
        self.pools += 1
        self.candidates += len(pool.rewards)
        for reward in pool.rewards:
            self.rewards[reward_bin(reward)] += 1
        self.pools_tied_at_top += pool.rewards.count(best) > 1
        self.pools_with_several_correct += pool.num_correct > 1
        self.pools_without_correct += not pool.num_correct
        self._best_sum += best
        self._others_sum += sum(pool.rewards) - best
        if min(pool.rewards) == best:
            self.pools_without_spread += 1
            if len(self.first_ids_without_spread) < _FIRST_IDS:
                self.first_ids_without_spread.append(pool.id)

    def as_json(self) -> dict[str, Any]:
        """The counts and means of at least one pool, for the manifest; the mean of no reward is None."""
        others = self.candidates - self.pools
        counts = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {
            "pools": self.pools,
            "candidates": self.candidates,
            "rewards": self.rewards,
            "mean_best": round(self._best_sum / self.pools, 6),
            "mean_of_others": round(self._others_sum / others, 6) if others else None,
            **counts,
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


def _rewarded(line: Line, weights: RewardWeights) -> Rewarded | BadLine:
    """The pool in a line with its rewards, or why it has none; runs in the workers."""
    pool = read_record(line, Pool)
    if isinstance(pool, BadLine):
        return pool
    try:
        rewarded = reward_pool(pool, weights)
    except Unrewardable as reason:
        return BadLine(line.file, line.number, pool.id, str(reason))
    content = encode(rewarded)
    if (too_long := why_too_long(content, "pool with its rewards")) is not None:
        return BadLine(line.file, line.number, pool.id, too_long)
    return Rewarded(content, pool.id, rewarded.rewards, len(rewarded.correct))


def _why_nothing(input_dir: Path, first_left_out: BadLine | None) -> str:
    """The error text when no pool got rewards."""
    if first_left_out is None:
        return f"all files of {input_dir} are empty: make its pools again with 02_generate_candidates.py"
    line = f"{first_left_out.file}:{first_left_out.line} (id {shorten(str(first_left_out.id), 100)})"
    return f"no pool of {input_dir} can have rewards; the first, {line}: {shorten(first_left_out.reason, 500)}"


def _print_summary(summary: RewardSummary, rejected: int, output_dir: Path) -> None:
    facts = summary.as_json()
    table = Table(title=f"rewards of {summary.candidates} candidates in {summary.pools} pools")
    for heading in ("reward", "candidates", "share", ""):
        table.add_column(heading, justify="right" if heading in ("candidates", "share") else "left")
    largest = max(summary.rewards.values())
    for name, count in summary.rewards.items():
        bar = "#" * round(_BAR_WIDTH * count / largest)
        table.add_row(name, str(count), f"{count / summary.candidates:.1%}", bar)
    console.print(table)
    say(f"mean best reward {facts['mean_best']}, mean of the others {facts['mean_of_others']}")
    say(
        f"pools tied at the top: {summary.pools_tied_at_top}, with several correct candidates: "
        f"{summary.pools_with_several_correct}, without a correct one: {summary.pools_without_correct}"
    )
    if summary.pools_without_spread:
        warn(
            f"{summary.pools_without_spread} pools have no spread (all rewards equal): a ranker learns nothing from "
            f"them; first ids: {', '.join(summary.first_ids_without_spread)}"
        )
    if rejected:
        warn(f"{rejected} records were left out: the reasons are in {name_of(output_dir / REJECTS)}")
