"""The `import` command: outputs of any systems become pools, one per question, with every output as a candidate.

Gold is never added, so a pool may have no correct candidate. Repeats are kept: voting counts them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Column, Table

from finrank.commands.options import PROCESSED, Seed
from finrank.console import Reading, console, say, track, warn
from finrank.errors import UserError
from finrank.pools.candidate import read_candidate
from finrank.pools.equal_answers import is_right
from finrank.pools.pool import shuffled_pool
from finrank.records import Candidate, Pool, Question
from finrank.sources.predictions import Prediction, read_predictions
from finrank.sources.questions import read_questions
from finrank.store import REJECTS, StageWriter, sha256, split_files
from finrank.store.json_lines import BadLine, encode, shorten, why_too_long

# Of the summary, in the order of the manifest; failed: candidates without a value.
_COUNTS: tuple[str, ...] = ("pools", "candidates", "duplicates", "failed", "answers_only", "unanswerable")
_COUNTS += ("without_gold", "without_prediction", "unmatched")
_Outputs = dict[str, list[Prediction]]  # by question id


def import_predictions(
    predictions: Annotated[
        list[Path],
        typer.Option("--predictions", help="JSONL or official prediction file; several: one after the other."),
    ],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Stage directory to write.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="More prediction files.")] = None,
    *,
    data: Annotated[Path, typer.Option("--data", help="Questions (output of stage 01), or pools.")] = PROCESSED,
    split: Annotated[str | None, typer.Option("--split", help="Questions of this split alone (default: all).")] = None,
    seed: Seed = 0,
) -> dict[str, Any]:
    """Predictions of any systems to pools, as of stage 02.

    A line of a file: {"id", "program"}, {"id", "answer"} or {"id", "text"}, "model" optional; or the official file.
    Writes the splits whose questions they answer, rejects.jsonl and manifest.json; stage 03 comes next.

    \b
    Example:
      finrank import --predictions a.jsonl b.jsonl --split dev --output_dir datasets/imported
    """
    files = _by_name([*predictions, *(more or [])])
    splits = split_files(data, () if split is None else [split], expected="finqa_processed")
    arguments: dict[str, Any] = {"predictions": [str(path) for path in files.values()], "data": str(data)}
    arguments |= {"output_dir": str(output_dir), "split": split}
    inputs = [*files.values(), *splits.values()]
    summary = _Summary()
    with StageWriter[Pool](output_dir, stage="import", arguments=arguments, seed=seed, inputs=inputs) as out:
        predicted, read = _gather(files, out)
        matched: set[str] = set()
        for path in splits.values():
            matched |= _import_split(path, predicted, summary, out, seed)
        if not matched:
            raise UserError(
                f"no prediction is for a question of {', '.join(map(str, splits.values()))}: ids such as "
                f"{shorten(next(iter(predicted)), 80)!r}; choose another --data or --split"
            )
        for identifier in (identifier for identifier in predicted if identifier not in matched):
            for output in predicted[identifier]:
                out.reject(output.file, output.place, identifier, f"no question of {', '.join(splits)} has this id")
                summary.counts["unmatched"] += 1
        result = {"files": read, **summary.as_json()}
        out.extra["import"] = result
    _print_summary(result, out.rejected, output_dir)
    return result


class _Summary:
    """Running counts over the imported pools."""

    def __init__(self) -> None:
        self.counts = Counter(dict.fromkeys(_COUNTS, 0))
        self.pool_sizes: Counter[int] = Counter()
        self.models: dict[str, Counter[str]] = {}  # by the model that the predictions name, or else their file

    def add(self, question: Question, outputs: Sequence[tuple[Prediction, Candidate]]) -> None:
        """Count one pool: the predictions for its question, each with the candidate made of it."""
        any_correct = False
        for prediction, candidate in outputs:
            failed, correct = candidate.answer is None, is_right(candidate, question.answer, question.question)
            model = prediction.model or prediction.file
            self.models.setdefault(model, Counter(candidates=0, failed=0, correct=0))
            self.models[model].update(candidates=1, failed=failed, correct=correct)
            self.counts.update(candidates=1, failed=failed, answers_only=not failed and candidate.program is None)
            any_correct |= correct
        known = question.answer is not None
        self.counts.update(pools=1, without_gold=not known, unanswerable=known and not any_correct)
        self.counts["duplicates"] += len(outputs) - len(
            {(candidate.program, candidate.answer) for _, candidate in outputs}
        )
        self.pool_sizes[len(outputs)] += 1

    def as_json(self) -> dict[str, Any]:
        """The counts, for the manifest."""
        sizes = {str(size): count for size, count in sorted(self.pool_sizes.items())}
        return {**self.counts, "pool_sizes": sizes, "models": dict(sorted(self.models.items()))}


def _by_name(paths: Sequence[Path]) -> dict[str, Path]:
    """The files by their names, those of the same name by their whole paths."""
    if not paths:
        raise UserError("no prediction file: give one or more with --predictions")
    repeated = [path for path, count in Counter(map(os.path.realpath, paths)).items() if count > 1]
    if repeated:
        raise UserError(f"{repeated[0]} is given twice: each of its predictions would count twice")
    names = Counter(path.name for path in paths)
    return {path.name if names[path.name] == 1 else str(path): path for path in paths}


def _gather(files: Mapping[str, Path], out: StageWriter[Pool]) -> tuple[_Outputs, list[dict[str, Any]]]:
    """All predictions, and the counts of each file; UserError if there are none at all."""
    predicted: _Outputs = {}
    read = []
    first_fault = ""
    for name, path in files.items():
        reading = Reading(0)
        predictions = read_predictions(path, name, reading)  # raises if there is no such file
        reading.total = Reading.of(path).total
        counts = {"predictions": 0, "rejected": 0}
        for prediction in track(predictions, f"reading {name}", reading=reading):
            if isinstance(prediction, BadLine):
                out.reject(*prediction)
                counts["rejected"] += 1
                first_fault = first_fault or f"; {name}, at {prediction.line}: {prediction.reason}"
            else:
                predicted.setdefault(prediction.id, []).append(prediction._replace(tokens=None))
                counts["predictions"] += 1
        read.append({"file": name, "sha256": sha256(path), **counts})
    if not predicted:
        raise UserError(
            f'no prediction in {", ".join(files)}: expected lines such as {{"id": ..., "program": ...}}{first_fault}'
        )
    return predicted, read


def _import_split(path: Path, predicted: _Outputs, summary: _Summary, out: StageWriter[Pool], seed: int) -> set[str]:
    """Write the pools of one split; return the ids that had predictions."""
    matched: set[str] = set()
    missing: list[tuple[int, str]] = []
    reading = Reading.of(path)
    for line, question in track(read_questions(path, reading), f"pools of {path.stem}", reading=reading):
        if isinstance(question, BadLine):
            out.reject(path.name, question.line, question.id, question.reason)
        elif question.id not in predicted:
            missing.append((line, question.id))
        else:
            matched.add(question.id)
            outputs = [(prediction, _candidate(prediction, question.table)) for prediction in predicted[question.id]]
            content = encode(shuffled_pool(question, [candidate for _, candidate in outputs], seed))
            if (reason := why_too_long(content, "pool")) is not None:
                out.reject(path.name, line, question.id, reason)
                continue
            out.write_encoded(path.stem, content)
            summary.add(question, outputs)
    if matched:  # else the split is passed over
        summary.counts["without_prediction"] += len(missing)
        for line, identifier in missing:
            out.reject(path.name, line, identifier, "no prediction for this question: it has no pool")
    return matched


def _candidate(prediction: Prediction, table: list[list[str]]) -> Candidate:
    """The prediction as a candidate that names its system, or else its file; without a value where it has none."""
    return read_candidate({**prediction.said, "model": prediction.model or prediction.file}, table)


def _print_summary(result: Mapping[str, Any], rejected: int, output_dir: Path) -> None:
    title = f"{result['candidates']} candidates in {result['pools']} pools"
    figures = (Column(heading, justify="right") for heading in ("candidates", "without a value", "correct"))
    table = Table("model", *figures, title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for name, counts in result["models"].items():
        table.add_row(name, *(str(counts[key]) for key in ("candidates", "failed", "correct")))
    console.print(table)
    sizes = ", ".join(f"{count} with {size}" for size, count in result["pool_sizes"].items())
    say(f"pools by number of candidates: {sizes}")
    say(f"exact repeats, kept as votes: {result['duplicates']}, answers without a program: {result['answers_only']}")
    say(f"pools without a correct candidate: {result['unanswerable']}, with unknown gold: {result['without_gold']}")
    if result["without_prediction"]:
        warn(
            "questions without a prediction, and so without a pool; figures from these pools leave them out (finrank "
            f"score-predictions counts them as wrong): {result['without_prediction']}"
        )
    if result["unmatched"]:
        warn(f"predictions with an id that no question has: {result['unmatched']}")
    if rejected:
        warn(f"records left out, with the reasons in {output_dir / REJECTS}: {rejected}")
