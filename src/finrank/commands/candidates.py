"""Stage 02: learn what gold programs look like, make a pool of candidates for each question, write the pools.

Prints how many pools were made and left out, and where the gold candidates stand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from finrank.console import Reading, say, track, warn
from finrank.errors import UserError
from finrank.parallel import number_of_workers, ordered_map
from finrank.pools.fit_likeness import MOST_QUESTIONS, CrossFitted, cross_fit, fold_of
from finrank.pools.pool import NoPool, build_pool, gold_of
from finrank.records import Pool, Question
from finrank.store import StageWriter, available_splits
from finrank.store.json_lines import BadLine, Line, encode, read_lines, read_record

_LINES_TO_LEARN_FROM = 4000


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

    def merge(self, other: SplitSummary) -> None:
        """Add the counts of other pools."""
        for part in fields(self):
            setattr(self, part.name, getattr(self, part.name) + getattr(other, part.name))

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
    failing_share: float = 0.02,
    train_pools: int = 1,
    seed: int = 0,
    workers: int = 1,
) -> None:
    """Write `output_dir` with a Pool for every Question of `input_dir` that has a program; the others go to rejects.

    `corruption_rate` in [0, 1) is the chance of one more edit after each edit of a wrong candidate: low rates give near
    misses, high rates far ones. `failing_share` in [0, 1) is the share of wrong candidates that fail to execute.
    `train_pools` above 1 makes further pools of every train question, with ids that end in "#2", "#3" and so on and
    wrong candidates of their own: training then meets new ones instead of learning the same by heart. `workers`
    processes (0: one per core) make the same files. Raises UserError for settings out of range, when the input is
    missing, or when no pool can be made of it.
    """
    _check_settings(num_candidates, corruption_rate, failing_share, train_pools)
    number_of_workers(workers)  # a wrong number is refused before the work, not after
    splits = available_splits(input_dir, expected="finqa_processed")
    files = {split: input_dir / f"{split}.jsonl" for split in splits}
    arguments = {
        "input_dir": str(input_dir),
        "output_dir": str(output_dir),
        "num_candidates": num_candidates,
        "corruption_rate": corruption_rate,
        "failing_share": failing_share,
        "train_pools": train_pools,
    }
    fitted = _learn(files[splits[0]], corruption_rate, seed)
    pools_of = partial(
        _pools_of,
        fitted=fitted,
        make_pool=partial(
            build_pool,
            num_candidates=num_candidates,
            corruption_rate=corruption_rate,
            failing_share=failing_share,
            seed=seed,
        ),
        num_candidates=num_candidates,
    )
    summaries: dict[str, SplitSummary] = {}
    with (
        StageWriter[Pool](output_dir, stage="candidates", arguments=arguments, seed=seed, inputs=files.values()) as out,
        ordered_map(pools_of, workers) as made_of,
    ):
        for split, path in files.items():
            count = train_pools if split == "train" else 1
            summaries[split] = _write_pools(split, path, count, made_of, out)
        if not any(summary.pools for summary in summaries.values()):
            reasons = sum((summary.rejects for summary in summaries.values()), Counter[str]())
            left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "no questions"
            raise UserError(f"no pool could be made of {input_dir} ({left_out}): run step 01 on data with programs")
        out.extra["likeness_fitted_on"] = {"split": splits[0], "questions_per_fold": fitted.questions}
        out.extra["candidates"] = {split: summary.as_json(num_candidates) for split, summary in summaries.items()}
    _print_summaries(summaries, num_candidates, output_dir)


class _Made(NamedTuple):
    """What becomes of a question: its pools as lines, and a reject where one could not be made."""

    lines: list[bytes]
    summary: SplitSummary
    reject: BadLine | None


def _write_pools(
    split: str,
    path: Path,
    count: int,
    made_of: Callable[[Iterable[tuple[Line, int]]], Iterator[_Made]],
    out: StageWriter[Pool],
) -> SplitSummary:
    """Write `count` pools for every question of a split; the counts of what was made."""
    summary = SplitSummary()
    reading = Reading.of(path)
    jobs = ((line, count) for line in read_lines(path, reading))
    for made in track(made_of(jobs), f"candidates of {split}", reading=reading):
        for line in made.lines:
            out.write_encoded(split, line)
        if made.reject is not None:
            out.reject(path.name, made.reject.line, made.reject.id, made.reject.reason)
        summary.merge(made.summary)
    return summary


def _pools_of(
    job: tuple[Line, int], *, fitted: CrossFitted, make_pool: Callable[..., Pool], num_candidates: int
) -> _Made:
    """So many pools of the question in a line; in a worker process when there are several."""
    line, count = job
    made = _Made([], SplitSummary(), None)
    question = read_record(line, Question)
    if isinstance(question, BadLine):
        made.summary.rejects["unreadable line"] += 1
        return made._replace(reject=question._replace(reason=f"unreadable line: {question.reason}"))
    for copy in _copies(question, count):
        try:
            pool = make_pool(copy, likeness=fitted.of(copy.page))
        except NoPool as reason:
            # Of a further pool that cannot be made, the id says which; those before it are written.
            made.summary.rejects[reason.kind] += 1
            return made._replace(reject=BadLine(line.file, line.number, copy.id, str(reason)))
        made.lines.append(encode(pool))
        made.summary.add(pool, num_candidates)
    return made


def _learn(path: Path, rate: float, seed: int) -> CrossFitted:
    """What gold programs look like, learned from the first questions of a split; says so on the screen."""
    fitted = cross_fit(_sound_questions(path), rate=rate, seed=seed)
    if min(fitted.questions) == 0:
        say(
            f"what gold programs look like: from FinQA's shapes alone, since {path.name} has too few questions to learn"
        )
    else:
        numbers = " and ".join(map(str, fitted.questions))
        say(f"what gold programs look like: learned from {numbers} questions of {path.stem}, each half for the other")
    return fitted


def _sound_questions(path: Path) -> list[Question]:
    """The first questions of a file with a gold program that gives their answer, as many per fold as fitting takes."""
    sound: list[Question] = []
    counts = Counter[int]()
    for line in islice(read_lines(path), _LINES_TO_LEARN_FROM):
        question = read_record(line, Question)
        if isinstance(question, BadLine) or counts[fold_of(question.page)] == MOST_QUESTIONS:
            continue
        try:
            gold_of(question)
        except NoPool:
            continue
        counts[fold_of(question.page)] += 1
        sound.append(question)
    return sound


def _copies(question: Question, count: int) -> Iterator[Question]:
    yield question
    for number in range(2, count + 1):
        yield question.model_copy(update={"id": f"{question.id}#{number}"})


def _check_settings(num_candidates: int, corruption_rate: float, failing_share: float, train_pools: int) -> None:
    if not 0.0 <= failing_share < 1.0:
        raise UserError(f"failing_share is {failing_share}: it is a share of wrong candidates, from 0 to below 1")
    if train_pools < 1:
        raise UserError(f"train_pools is {train_pools}: every train question has 1 pool at least")
    if num_candidates < 2:
        raise UserError(f"num_candidates is {num_candidates}: a pool needs 2 at least, the gold and a wrong one")
    if not 0.0 <= corruption_rate < 1.0:
        raise UserError(
            f"corruption_rate is {corruption_rate}: it is the chance of one more edit, from 0 to below 1 (default 0.5)"
        )


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
