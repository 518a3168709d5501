"""Stage 02: fit the likeness to gold programs, make a pool of candidates for each question, write the pools.

Wrong candidates of other sources are looked up by the question's id in an index of their file, and are chosen in the
workers, which get the question's line there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
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
from finrank.pools.mixing import CORRUPTED, Mix, take, wrong_candidates
from finrank.pools.pool import NoPool, PoolSettings, build_pool, gold_program
from finrank.pools.pool_counts import PoolCounts
from finrank.records import Candidate, Pool, Question
from finrank.store import REJECTS, SPLITS, StageWriter, split_files
from finrank.store.json_lines import BadLine, Line, encode, line_id, name_of, read_lines, read_record, why_too_long
from finrank.store.line_index import lines_by_id
from finrank.store.remote import anywhere

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
    float, typer.Option("--failing_share", help="Share of corrupted candidates that fail to execute (0 to below 1).")
]
TrainPools = Annotated[
    int, typer.Option("--train_pools", help="Pools per train question, each with other wrong candidates.")
]

Sources = Annotated[
    str,
    typer.Option(
        "--sources",
        help="Where wrong candidates come from, with commas: corrupted (from gold), proposed, sampled (from pools of "
        "the same questions in other folders).",
    ),
]
Shares = Annotated[
    str | None,
    typer.Option(
        "--shares",
        help="Share of each source in the wrong candidates, such as 2,1,1: only proportions count (default: equal).",
    ),
]
ProposedDir = Annotated[
    Path | None, typer.Option("--proposed_dir", help="Pools of the source proposed: train.jsonl, dev.jsonl, ...")
]
SampledDir = Annotated[
    Path | None, typer.Option("--sampled_dir", help="Pools of the source sampled, such as those of finrank sample.")
]


@anywhere
def candidates(
    input_dir: Annotated[Path, typer.Option("--input_dir", help="Output of stage 01.")] = PROCESSED,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Stage directory to write.")] = CANDIDATES,
    num_candidates: NumCandidates = 8,
    corruption_rate: CorruptionRate = 0.5,
    failing_share: FailingShare = 0.02,
    train_pools: TrainPools = 1,
    seed: Seed = 0,
    workers: Workers = 1,
    sources: Sources = CORRUPTED,
    shares: Shares = None,
    proposed_dir: ProposedDir = None,
    sampled_dir: SampledDir = None,
) -> None:
    """Stage 02: pools of the gold program and wrong ones.

    Wrong candidates are made from the gold program, and look like gold ones; the order is shuffled. Some can be those
    of other systems instead (--sources). Writes the same splits as stage 01, rejects.jsonl and manifest.json.

    \b
    Example:
      finrank candidates --num_candidates 8 --corruption_rate 0.5
      finrank candidates --sources corrupted,sampled --shares 3,1 --sampled_dir datasets/finqa_sampled
    """
    settings = PoolSettings(num_candidates, corruption_rate, failing_share, seed)
    if train_pools < 1:
        raise UserError(f"train_pools is {train_pools}: every train question has 1 pool at least")
    number_of_workers(workers)  # a wrong number is refused before the work, not after
    mix = Mix.of(sources, shares)
    files = split_files(input_dir, expected="finqa_processed")
    folder_of = {"proposed": proposed_dir, "sampled": sampled_dir}
    others = _files_of_sources(mix, folder_of)
    folders = {"input_dir": name_of(input_dir), "output_dir": name_of(output_dir)}
    arguments = {**folders, **vars(settings), "train_pools": train_pools}
    del arguments["seed"]  # the manifest has it by itself
    if others:
        arguments |= vars(mix) | {f"{source}_dir": str(folder_of[source]) for source in others}
    learned_from, path = next(iter(files.items()))
    fitted = _learn(path, corruption_rate, seed, workers)
    inputs = [*files.values(), *(path for of_source in others.values() for path in of_source.values())]
    writer = StageWriter[Pool](output_dir, stage="candidates", arguments=arguments, seed=seed, inputs=inputs)
    counts: dict[str, PoolCounts] = {}
    make_pools = partial(_make_pools, fitted=fitted, settings=settings, mix=mix)
    with writer as out, ordered_map(make_pools, workers) as made_of:
        for split, path in files.items():
            of_split = {source: paths.get(split) for source, paths in others.items()}
            counts[split] = _write_pools(path, of_split, train_pools if split == "train" else 1, made_of, out)
        if not any(of_split.pools for of_split in counts.values()):
            left_out = _listed(sum((of_split.rejects for of_split in counts.values()), Counter()), "no questions")
            raise UserError(f"no pool could be made of {input_dir} ({left_out}): run step 01 on data with programs")
        out.extra["likeness_fitted_on"] = {"split": learned_from, "questions_per_fold": fitted.questions}
        facts = {split: of_split.as_json(num_candidates, mix.others) for split, of_split in counts.items()}
        out.extra["candidates"] = facts
    _print_counts(counts, facts, num_candidates, output_dir)


def _files_of_sources(mix: Mix, folders: Mapping[str, Path | None]) -> dict[str, dict[str, Path]]:
    """The files of each source but corruption, by split; UserError for a folder that is missing or not asked for."""
    files: dict[str, dict[str, Path]] = {}
    for source, folder in folders.items():
        if source not in mix.sources:
            if folder is not None:
                raise UserError(f"--{source}_dir {folder} is not used: add {source} to --sources")
            continue
        if folder is None:
            raise UserError(f"--sources has {source}: name the folder of its pools with --{source}_dir")
        files[source] = {split: path for split in SPLITS if (path := folder / f"{split}.jsonl").is_file()}
        if not files[source]:
            raise UserError(
                f"--{source}_dir {folder} has no pools: expected files such as train.jsonl, with pools of the "
                "questions of --input_dir, as finrank sample and finrank import write them"
            )
    return files


class _Job(NamedTuple):
    """The line of a question, the number of its pools, and its lines in the files of other sources."""

    line: Line
    pools: int
    others: dict[str, Line]


class _Made(NamedTuple):
    """The pools of a question as lines, and the rejects where one could not be made or another pool not be read."""

    lines: list[bytes]
    counts: PoolCounts
    rejects: list[BadLine]


def _write_pools(
    path: Path,
    others: Mapping[str, Path | None],
    pools_each: int,
    made_of: Callable[[Iterable[_Job]], Iterator[_Made]],
    out: StageWriter[Pool],
) -> PoolCounts:
    """Write `pools_each` pools for every question of a split, and count them."""
    split, counts = path.stem, PoolCounts()

    def reject(bad: BadLine) -> None:
        # The files of other sources have the same name.
        out.reject(Path(bad.file).name if bad.file == name_of(path) else bad.file, bad.line, bad.id, bad.reason)

    def reject_of(source: str, bad: BadLine) -> None:
        reject(bad)
        counts.bad_lines[source] += 1

    reading = Reading.of(path)
    with ExitStack() as stack:
        line_of = {
            source: stack.enter_context(lines_by_id(file, partial(reject_of, source)))
            for source, file in others.items()
            if file is not None
        }
        jobs = (_Job(line, pools_each, _found(line, line_of)) for line in read_lines(path, reading))
        for made in track(made_of(jobs), f"candidates of {split}", reading=reading):
            for line in made.lines:
                out.write_encoded(split, line)
            for bad in made.rejects:
                reject(bad)
            counts.merge(made.counts)
    return counts


def _found(line: Line, line_of: Mapping[str, Callable[[str], Line | None]]) -> dict[str, Line]:
    """The lines of a question in the files of other sources that have it."""
    identifier = line_id(line) if line_of else None
    if identifier is None:
        return {}
    found = {source: lookup(identifier) for source, lookup in line_of.items()}
    return {source: its_line for source, its_line in found.items() if its_line is not None}


def _make_pools(job: _Job, *, fitted: CrossFitted, settings: PoolSettings, mix: Mix) -> _Made:
    """The pools of a question; runs in the workers."""
    line = job.line
    made = _Made([], PoolCounts(), [])
    question = read_record(line, Question)
    if isinstance(question, BadLine):
        made.counts.rejects["unreadable line"] += 1
        made.rejects.append(question._replace(reason=f"unreadable line: {question.reason}"))
        return made
    name = question.id
    try:
        wrong = _wrong_of_others(question, job.others, mix, made)
        places = mix.places(settings.num_candidates - 1, settings.seed, question.id)
        for number in range(1, job.pools + 1):
            # The id seeds a pool: another id has other wrong candidates.
            name = question.id if number == 1 else f"{question.id}#{number}"
            taken = take(question, wrong, places, number)
            others = [candidate for of_source in taken.values() for candidate in of_source]
            copy = question.model_copy(update={"id": name})
            pool = build_pool(copy, settings, fitted.of(copy.page), others)
            content = encode(pool)
            if (reason := why_too_long(content, "pool")) is not None:
                raise NoPool("too long", reason)
            made.lines.append(content)
            made.counts.add(pool, settings.num_candidates)
            for source, of_source in taken.items():
                made.counts.taken[source] += len(of_source)
                made.counts.left_to_corruption[source] += places[source] - len(of_source)
    except NoPool as fault:
        made.counts.rejects[fault.kind] += 1
        made.rejects.append(BadLine(line.file, line.number, name, str(fault)))
    return made


def _wrong_of_others(
    question: Question, lines: Mapping[str, Line], mix: Mix, made: _Made
) -> dict[str, list[Candidate]]:
    """The wrong candidates of each source but corruption; what it does not have, and bad lines, go into `made`."""
    wrong: dict[str, list[Candidate]] = {source: [] for source in mix.others}
    if wrong:
        _, answer = gold_program(question)
        question = question.model_copy(update={"answer": answer})
    for source in wrong:
        if source not in lines:
            made.counts.missing_questions[source] += 1
            continue
        pool = read_record(lines[source], Pool)
        if isinstance(pool, BadLine):
            made.counts.bad_lines[source] += 1
            made.rejects.append(pool)
        else:
            wrong[source] = wrong_candidates(question, pool.candidates)
    return wrong


def _learn(path: Path, rate: float, seed: int, workers: int) -> CrossFitted:
    """Fit the likeness to gold on the first questions of a split, and print on how many."""
    fitted = cross_fit(_sound_questions(path), rate=rate, seed=seed, workers=workers)
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


def _print_counts(
    counts: dict[str, PoolCounts], facts_of: dict[str, dict[str, Any]], num_candidates: int, output_dir: Path
) -> None:
    rejects = name_of(output_dir / REJECTS)
    for split, of_split in counts.items():
        facts = facts_of[split]
        say(f"{split}: {of_split.pools} pools, left out: {_listed(of_split.rejects, 'none')}")
        if of_split.taken:
            made = ", ".join(f"{count} {source}" for source, count in facts["sources"].items())
            left = of_split.left_to_corruption.total()
            say(f"    wrong candidates: {made}; places of other sources left to corruption: {left}")
        if of_split.corrupted:
            say(
                f"    edits per wrong candidate {facts['mean_edits']:.2f}, without a value "
                f"{facts['failing_share']:.2%}, gold at positions {facts['gold_positions']}"
            )
        for source, count in of_split.missing_questions.items():
            warn(f"{split}: {count} questions have no pool in --{source}_dir: corruption fills their places")
        for source, count in of_split.bad_lines.items():
            warn(f"{split}: lines of --{source}_dir left out, with the reasons in {rejects}: {count}")
        if of_split.smaller:
            warn(
                f"{split}: {of_split.smaller} pools have fewer than {num_candidates} candidates: "
                "no more with different values could be made"
            )
    if any(of_split.rejects for of_split in counts.values()):
        say(f"left-out questions, with reasons, are in {rejects}")


def _listed(rejects: Counter[str], nothing: str) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(rejects.items())) or nothing
