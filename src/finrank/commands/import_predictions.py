"""Import: outputs of any systems become pools, one per question, with every output as a candidate.

Files, runs and models merge by question id. Gold is never added: a pool may hold no correct candidate. Repeats stay in
the pool, because the number of outputs that agree is what voting counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from finrank.console import Reading, console, say, track, warn
from finrank.errors import UserError
from finrank.pools.pool import shuffled_pool
from finrank.programs.value import same_answer, value_of
from finrank.records import Candidate, Pool, Question, RewardedPool
from finrank.sources.predictions import Prediction, read_predictions
from finrank.store import REJECTS, StageWriter, sha256, split_files
from finrank.store.json_lines import LONGEST_LINE, BadLine, encode, read_lines, read_record, shorten


@dataclass
class ModelCounts:
    """What one model gave; a model is named by its predictions, or else by their file."""

    candidates: int = 0
    failed: int = 0  # programs without a value
    correct: int = 0  # the gold answer; never where it is unknown


@dataclass
class ImportSummary:
    """Running counts over the imported pools."""

    pools: int = 0
    candidates: int = 0
    duplicates: int = 0
    failed: int = 0
    answers_only: int = 0
    unanswerable: int = 0
    without_gold: int = 0
    without_prediction: int = 0
    unmatched: int = 0
    pool_sizes: Counter[int] = field(default_factory=Counter)
    models: dict[str, ModelCounts] = field(default_factory=dict)

    def add(self, question: Question, outputs: Sequence[tuple[Prediction, Candidate]]) -> None:
        """Count one pool: the predictions for its question, each with the candidate that it became."""
        any_correct = False
        for prediction, candidate in outputs:
            failed = candidate.answer is None
            correct = same_answer(candidate.answer, question.answer)
            counts = self.models.setdefault(prediction.model or prediction.file, ModelCounts())
            counts.candidates += 1
            counts.failed += failed
            counts.correct += correct
            self.failed += failed
            self.answers_only += candidate.program is None
            any_correct |= correct
        self.pools += 1
        self.candidates += len(outputs)
        self.duplicates += len(outputs) - len({(candidate.program, candidate.answer) for _, candidate in outputs})
        self.pool_sizes[len(outputs)] += 1
        self.without_gold += question.answer is None
        self.unanswerable += question.answer is not None and not any_correct

    def as_json(self) -> dict[str, Any]:
        """The counts, for the manifest."""
        counts = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        sizes = {str(size): count for size, count in sorted(self.pool_sizes.items())}
        return {
            **counts,
            "pool_sizes": sizes,
            "models": {name: vars(counts) for name, counts in sorted(self.models.items())},
        }


def run(
    predictions: Sequence[Path], data_dir: Path, output_dir: Path, *, split: str | None = None, seed: int = 0
) -> dict[str, Any]:
    """Write `output_dir` with a Pool for every question of `data_dir` that has a prediction; give the counts.

    Questions come from the given split, or from all that the folder has; a split without any prediction is passed over.
    Left out, with the reason in `rejects.jsonl`: lines that cannot be read, ids that no question has, predictions of
    nothing, and questions of a split that has other predictions. `seed` shuffles each pool, so that a place tells
    nothing about the model. Memory grows with the predictions, not with the pages. Raises UserError when there is
    nothing to read, or no id matches.
    """
    names = _file_names(predictions)
    files = split_files(data_dir, () if split is None else [split], expected="finqa_processed")
    arguments = {
        "predictions": [str(path) for path in predictions],
        "data": str(data_dir),
        "output_dir": str(output_dir),
        "split": split,
    }
    writer = StageWriter[Pool](
        output_dir, stage="import", arguments=arguments, seed=seed, inputs=[*predictions, *files.values()]
    )
    summary = ImportSummary()
    with writer as out:
        given, read = _gather(names, out)
        matched: set[str] = set()
        for name, path in files.items():
            matched |= _import_split(name, path, given, summary, out, seed)
        if not matched:
            raise UserError(
                f"no prediction is for a question of {', '.join(map(str, files.values()))}: ids such as "
                f"{shorten(next(iter(given)), 80)!r}; choose another --data or --split"
            )
        for one in (one for identifier, own in given.items() if identifier not in matched for one in own):
            out.reject(one.file, one.place, one.id, f"no question of {', '.join(files)} has this id")
            summary.unmatched += 1
        result = {"files": read, **summary.as_json()}
        out.extra["import"] = result
    _print_summary(result, out.rejected, output_dir)
    return result


def _file_names(paths: Sequence[Path]) -> dict[str, Path]:
    """What the files are called in counts and rejects: their names, or whole paths where two names are the same."""
    if not paths:
        raise UserError("no prediction file: give one or more with --predictions")
    twice = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]} is given twice: each of its predictions would count twice")
    same = Counter(path.name for path in paths)
    return {path.name if same[path.name] == 1 else str(path): path for path in paths}


def _gather(
    files: Mapping[str, Path], out: StageWriter[Pool]
) -> tuple[dict[str, list[Prediction]], list[dict[str, Any]]]:
    """All predictions by question id, and the counts of each file; UserError where there is none at all."""
    given: dict[str, list[Prediction]] = {}
    read = []
    first_fault = ""
    for name, path in files.items():
        reading = Reading(0)
        found = read_predictions(path, name, reading)  # says so when there is no such file
        reading.total = Reading.of(path).total
        counts = {"predictions": 0, "rejected": 0}
        for prediction in track(found, f"reading {name}", reading=reading):
            if isinstance(prediction, Prediction) and _is_empty(prediction):
                prediction = BadLine(name, prediction.place, prediction.id, "the prediction is empty: no program in it")
            if isinstance(prediction, BadLine):
                out.reject(*prediction)
                counts["rejected"] += 1
                first_fault = first_fault or f"; {name}, at {prediction.line}: {prediction.reason}"
            else:
                given.setdefault(prediction.id, []).append(prediction._replace(tokens=None))
                counts["predictions"] += 1
        read.append({"file": name, "sha256": sha256(path), **counts})
    if not given:
        raise UserError(
            f'no prediction in {", ".join(files)}: expected lines such as {{"id": ..., "program": ...}}{first_fault}'
        )
    return given, read


def _is_empty(prediction: Prediction) -> bool:
    return prediction.program is not None and not prediction.program.strip()


def _import_split(
    split: str,
    path: Path,
    given: Mapping[str, list[Prediction]],
    summary: ImportSummary,
    out: StageWriter[Pool],
    seed: int,
) -> set[str]:
    """Write the pools of one split; gives the ids that had predictions."""
    matched: set[str] = set()
    missing: list[tuple[int, str]] = []
    reading = Reading.of(path)
    for line, question in track(read_questions(path, reading), f"pools of {split}", reading=reading):
        if isinstance(question, BadLine):
            out.reject(path.name, question.line, question.id, question.reason)
        elif question.id not in given:
            missing.append((line, question.id))
        else:
            matched.add(question.id)
            outputs = [(one, to_candidate(one, question.table)) for one in given[question.id]]
            content = encode(shuffled_pool(question, [candidate for _, candidate in outputs], seed))
            if len(content) > LONGEST_LINE:
                reason = f"the pool has {len(content)} bytes, more than the {LONGEST_LINE} that a record may have"
                out.reject(path.name, line, question.id, reason)
                continue
            out.write_encoded(split, content)
            summary.add(question, outputs)
    if matched:
        summary.without_prediction += len(missing)
        for line, identifier in missing:
            out.reject(path.name, line, identifier, "no prediction for this question: it has no pool")
    return matched


def read_questions(path: Path, reading: Reading | None = None) -> Iterator[tuple[int, Question | BadLine]]:
    """Stream the questions of a split with their line numbers, from questions or pools of any stage.

    A folder of pools serves as well as one of questions: their candidates are left behind.
    """
    model: type[Question] | None = None
    for line in read_lines(path, reading):
        model = model or _record_type(line.content)
        record = read_record(line, model)
        if not isinstance(record, BadLine) and model is not Question:
            record = Question.of(record)
        yield line.number, record


def _record_type(line: bytes) -> type[Question]:
    try:
        keys = json.loads(line).keys()
    except (ValueError, AttributeError, RecursionError):
        return Question  # read_record says what is wrong with the line
    return RewardedPool if "rewards" in keys else Pool if "candidates" in keys else Question


def to_candidate(prediction: Prediction, table: list[list[str]]) -> Candidate:
    """The prediction as a candidate: its program executed on the page's table, or the answer as it was given.

    A program that does not parse, or has no finite value, is kept with the error that says so.
    """
    if prediction.program is None:
        return Candidate(answer=prediction.answer, origin="imported")
    text = prediction.program.strip()
    return Candidate(program=text, **value_of(text, table)._asdict(), origin="imported")


def _print_summary(result: Mapping[str, Any], rejected: int, output_dir: Path) -> None:
    title = f"{result['candidates']} candidates in {result['pools']} pools"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", "candidates", "without a value", "correct"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name, counts in result["models"].items():
        table.add_row(escape(name), *(str(counts[key]) for key in ("candidates", "failed", "correct")))
    console.print(table)
    sizes = ", ".join(f"{count} with {size}" for size, count in result["pool_sizes"].items())
    say(f"pools by number of candidates: {sizes}")
    say(f"exact repeats, kept as votes: {result['duplicates']}, answers without a program: {result['answers_only']}")
    say(f"pools without a correct candidate: {result['unanswerable']}, with unknown gold: {result['without_gold']}")
    if result["without_prediction"]:
        warn(
            "questions without a prediction, and so without a pool, which figures from these pools leave out (finrank "
            f"score-predictions counts them as wrong): {result['without_prediction']}"
        )
    if result["unmatched"]:
        warn(f"predictions with an id that no question has: {result['unmatched']}")
    if rejected:
        warn(f"records left out, with the reasons in {output_dir / REJECTS}: {rejected}")
