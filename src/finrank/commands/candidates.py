"""Stage 02: fit the likeness to gold programs, make a pool of candidates for each question, write the pools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from finrank.commands.options import CANDIDATES, PROCESSED, Seed, Workers
from finrank.console import Reading, say, track, warn
from finrank.errors import UserError
from finrank.parallel import number_of_workers, ordered_map
from finrank.pools.corruption.fit_likeness import MOST_QUESTIONS, CrossFitted, cross_fit, fold_of
from finrank.pools.pool import NoPool, PoolSettings, build_pool, gold_program
from finrank.records import Pool, Question
from finrank.store import REJECTS, StageWriter, split_files
from finrank.store.json_lines import BadLine, Line, encode, read_lines, read_record

_LINES_TO_LEARN_FROM = 4000


NumCandidates = Annotated[
    int, typer.Option("--num_candidates", help="Candidates per question, the gold program among them (from 2).")
]
CorruptionRate = Annotated[
    float,
    typer.Option(
        "--corruption_rate",
        help="Chance r of a further edit after each (0 <= r < 1): 1/(1-r) edits on average between neighbours of the "
        "tree along which candidates grow. Low rates make near misses, high rates far ones.",
    ),
]
FailingShare = Annotated[
    float, typer.Option("--failing_share", help="Share of wrong candidates that fail to execute (0 to below 1).")
]
TrainPools = Annotated[
    int, typer.Option("--train_pools", help="Pools per train question, each with other wrong candidates.")
]


def candidates(
    input_dir: Annotated[Path, typer.Option("--input_dir", help="Output of stage 01.")] = PROCESSED,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Stage directory to write.")] = CANDIDATES,
    num_candidates: NumCandidates = 8,
    corruption_rate: CorruptionRate = 0.5,
    failing_share: FailingShare = 0.02,
    train_pools: TrainPools = 1,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Stage 02: pools of the gold program and wrong ones.

    Wrong candidates are made from the gold program, and look like gold ones; the order is shuffled. Writes the same
    splits as stage 01, rejects.jsonl and manifest.json.

    \b
    Example:
      finrank candidates --num_candidates 8 --corruption_rate 0.5
    """
    settings = PoolSettings(num_candidates, corruption_rate, failing_share, seed)
    if train_pools < 1:
        raise UserError(f"train_pools is {train_pools}: every train question has 1 pool at least")
    number_of_workers(workers)  # a wrong number is refused before the work, not after
    files = split_files(input_dir, expected="finqa_processed")
    folders = {"input_dir": str(input_dir), "output_dir": str(output_dir)}
    arguments = {**folders, **vars(settings), "train_pools": train_pools}
    del arguments["seed"]  # the manifest has it by itself
    learned_from, path = next(iter(files.items()))
    fitted = _learn(path, corruption_rate, seed)
    writer = StageWriter[Pool](output_dir, stage="candidates", arguments=arguments, seed=seed, inputs=files.values())
    counts: dict[str, PoolCounts] = {}
    with writer as out, ordered_map(partial(_make_pools, fitted=fitted, settings=settings), workers) as made_of:
        for split, path in files.items():
            counts[split] = _write_pools(split, path, train_pools if split == "train" else 1, made_of, out)
        if not any(of_split.pools for of_split in counts.values()):
            left_out = _listed(sum((of_split.rejects for of_split in counts.values()), Counter()), "no questions")
            raise UserError(f"no pool could be made of {input_dir} ({left_out}): run step 01 on data with programs")
        out.extra["likeness_fitted_on"] = {"split": learned_from, "questions_per_fold": fitted.questions}
        out.extra["candidates"] = {split: of_split.as_json(num_candidates) for split, of_split in counts.items()}
    _print_counts(counts, num_candidates, output_dir)


@dataclass
class PoolCounts:
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

    def merge(self, other: PoolCounts) -> None:
        """Add the counts of other pools."""
        for part in fields(self):
            setattr(self, part.name, getattr(self, part.name) + getattr(other, part.name))

    def as_json(self, num_candidates: int) -> dict[str, Any]:
        """The counts and means, for the manifest; a mean over no candidate is None."""
        return {
            "pools": self.pools,
            "smaller_pools": self.smaller,
            "mean_edits": round(self.edits / self.negatives, 4) if self.negatives else None,
            "failing_share": round(self.failing / self.negatives, 4) if self.negatives else None,
            "gold_positions": [self.gold_positions[position] for position in range(num_candidates)],
            "rejects": dict(sorted(self.rejects.items())),
        }


class _Made(NamedTuple):
    """The pools of a question as lines, and a reject where one could not be made."""

    lines: list[bytes]
    counts: PoolCounts
    reject: BadLine | None


def _write_pools(
    split: str,
    path: Path,
    pools_each: int,
    made_of: Callable[[Iterable[tuple[Line, int]]], Iterator[_Made]],
    out: StageWriter[Pool],
) -> PoolCounts:
    """Write `pools_each` pools for every question of a split, and count them."""
    counts = PoolCounts()
    reading = Reading.of(path)
    jobs = ((line, pools_each) for line in read_lines(path, reading))
    for made in track(made_of(jobs), f"candidates of {split}", reading=reading):
        for line in made.lines:
            out.write_encoded(split, line)
        if made.reject is not None:
            out.reject(path.name, made.reject.line, made.reject.id, made.reject.reason)
        counts.merge(made.counts)
    return counts


def _make_pools(job: tuple[Line, int], *, fitted: CrossFitted, settings: PoolSettings) -> _Made:
    """So many pools of the question in a line; runs in the workers."""
    line, count = job
    made = _Made([], PoolCounts(), None)
    question = read_record(line, Question)
    if isinstance(question, BadLine):
        made.counts.rejects["unreadable line"] += 1
        return made._replace(reject=question._replace(reason=f"unreadable line: {question.reason}"))
    for number in range(1, count + 1):
        # The id seeds a pool: another id has other wrong candidates.
        copy = question if number == 1 else question.model_copy(update={"id": f"{question.id}#{number}"})
        try:
            pool = build_pool(copy, settings, fitted.of(copy.page))
        except NoPool as reason:
            made.counts.rejects[reason.kind] += 1
            return made._replace(reject=BadLine(line.file, line.number, copy.id, str(reason)))
        made.lines.append(encode(pool))
        made.counts.add(pool, settings.num_candidates)
    return made


def _learn(path: Path, rate: float, seed: int) -> CrossFitted:
    """Fit the likeness to gold on the first questions of a split, and print on how many."""
    fitted = cross_fit(_sound_questions(path), rate=rate, seed=seed)
    how = f"learned from {' and '.join(map(str, fitted.questions))} questions of {path.stem}, each half for the other"
    if min(fitted.questions) == 0:
        how = f"from FinQA's shapes alone, since {path.name} has too few questions to learn"
    say(f"likeness to gold programs: {how}")
    return fitted


def _sound_questions(path: Path) -> list[Question]:
    """The first questions of a file with a sound gold program, as many per fold as fitting takes."""
    sound: list[Question] = []
    counts = Counter[int]()
    for line in islice(read_lines(path), _LINES_TO_LEARN_FROM):
        question = read_record(line, Question)
        if isinstance(question, BadLine) or counts[fold_of(question.page)] == MOST_QUESTIONS:
            continue
        try:
            _, answer = gold_program(question)
        except NoPool:
            continue
        counts[fold_of(question.page)] += 1
        sound.append(question.model_copy(update={"answer": answer}))
    return sound


def _print_counts(counts: dict[str, PoolCounts], num_candidates: int, output_dir: Path) -> None:
    for split, of_split in counts.items():
        facts = of_split.as_json(num_candidates)
        say(f"{split}: {of_split.pools} pools, left out: {_listed(of_split.rejects, 'none')}")
        if of_split.pools:
            say(
                f"    edits per wrong candidate {facts['mean_edits']:.2f}, without a value "
                f"{facts['failing_share']:.2%}, gold at positions {facts['gold_positions']}"
            )
        if of_split.smaller:
            warn(
                f"{split}: {of_split.smaller} pools have fewer than {num_candidates} candidates: "
                "no more with different values could be made"
            )
    if any(of_split.rejects for of_split in counts.values()):
        say(f"left-out questions, with reasons, are in {output_dir / REJECTS}")


def _listed(rejects: Counter[str], nothing: str) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(rejects.items())) or nothing
