"""Sample: completions of a generating model become pools, one per question, of origin "sampled" and without gold.

First all completions are gathered in a journal beside the output (`sampling/journal.py`), in whatever order they come;
then the pools are made of it in the order of the questions (`sampling/collect.py`). A run that was cut off
goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from finrank.console import say, track, warn
from finrank.errors import UserError
from finrank.records import Pool, Question
from finrank.sampling.askers import Asked, EndpointOptions, EndpointSource, ModelSource, Outcome, Sampling
from finrank.sampling.collect import print_summary, write_pools
from finrank.sampling.journal import Journal, key_of
from finrank.sources.questions import read_questions
from finrank.store import MANIFEST, StageWriter, sha256, split_files
from finrank.store.growing_file import difference

_REFUSALS_AT_START = 10  # questions; a server that has never answered and refuses so many would refuse all
_ATTEMPTS = 2  # times that a question is asked whose server failed, each with all retries


def run(
    input_dir: Path,
    output_dir: Path,
    *,
    model: str,
    endpoint: EndpointOptions | None = None,
    sampling: Sampling | None = None,
    splits: Sequence[str] | None = None,
    limit: int | None = None,
    base_model: str | None = None,
    max_failures: int = 5,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write `output_dir` with a Pool of sampled candidates for every question of `input_dir`; give the counts.

    `model` is the folder of a generator or, with an `endpoint`, the name of a model there. The first `limit` questions
    of the given splits (default: all that there are) are asked. Left out, with the reason in `rejects.jsonl`:
    completions that cannot be read, and questions without any candidate. After `max_failures` questions in a row
    without an answer the run stops, unless a question answered before is answered again (0: it never stops).

    Raises UserError for settings out of range, when model or input are missing, when the endpoint fails (what was
    answered is kept, and the same call goes on), when the output holds the result of other settings, and when no pool
    can be made.
    """
    sampling = sampling or Sampling()
    sampling.check()
    if (limit is not None and limit < 1) or max_failures < 0:
        raise UserError("limit is 1 or above (questions of each split), max_failures 0 or above")
    files = _files(input_dir, splits)
    source = _source(model, endpoint, sampling, base_model)
    made_with = {**source.made_with, "splits": list(files), "limit": limit}
    arguments = {"input_dir": str(input_dir), "output_dir": str(output_dir), "model": model, **made_with}
    writer = StageWriter[Pool](
        output_dir, stage="sample", arguments=arguments, seed=sampling.seed, inputs=files.values()
    )
    journal_path = output_dir.resolve().with_name(f"{output_dir.resolve().name}.journal.jsonl")
    if not overwrite and not journal_path.is_file() and (done := _finished(output_dir, files, made_with)) is not None:
        return done
    with Journal(journal_path, source.made_with, overwrite=overwrite) as journal:
        if not journal.is_empty:
            say(f"going on with the completions in {journal.path}")
        reasons = _gather(source, files, limit, journal, sampling.num_candidates, max_failures)
        result = write_pools(writer, files, limit, journal, sampling, reasons, made_with)
        journal.remove()
    print_summary(result, writer.rejected, output_dir)
    return result


def _source(
    model: str, endpoint: EndpointOptions | None, sampling: Sampling, base_model: str | None
) -> ModelSource | EndpointSource:
    if sampling.temperature == 0 and sampling.num_candidates > 1:
        warn("temperature 0 mostly gives the same completion every time: pools will hold repeats")
    if endpoint is None:
        return ModelSource(Path(model), sampling, base_model=base_model)
    if base_model is not None:
        raise UserError("--base_model belongs to a model folder: an endpoint has its own")
    return EndpointSource(endpoint, model, sampling)


def _files(input_dir: Path, splits: Sequence[str] | None) -> dict[str, Path]:
    """The files of the splits that are asked for, in the order of all splits."""
    return split_files(input_dir, splits or (), expected="finqa_processed")


def _finished(output_dir: Path, files: Mapping[str, Path], made_with: Mapping[str, Any]) -> dict[str, Any] | None:
    """The counts of an earlier run of the same settings on the same questions; None where there is no result.

    Raises UserError where a result of other settings would be replaced, which may have been paid for.
    """
    try:
        manifest = json.loads((output_dir / MANIFEST).read_text(encoding="utf-8"))
        if manifest["stage"] != "sample":
            return None
        result: dict[str, Any] = manifest["sample"]
        before = {**result["made_with"], "input": manifest["inputs"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    now = {**made_with, "input": {path.name: sha256(path) for path in files.values()}}
    if before == now:
        say(f"{output_dir} is finished, with the same settings: nothing to do; --overwrite samples again")
        return result
    raise UserError(
        f"{output_dir} holds what was sampled with other settings: {difference(before, now)}; choose another "
        "--output_dir, or replace it with --overwrite"
    )


def _questions(files: Mapping[str, Path], limit: int | None) -> Iterator[Asked]:
    """The questions to ask, each once."""
    seen: set[str] = set()
    for path in files.values():
        for _, question in islice(read_questions(path), limit):
            if isinstance(question, Question) and (key := key_of(question)) not in seen:
                seen.add(key)
                yield Asked(key, question)


@dataclass
class _Heard:
    """What asking has brought so far: why questions are without an answer, by key, and whether the server is in doubt.

    It is after `max_failures` times in a row (0: never) on which nothing came that shows it to be up.
    """

    max_failures: int
    refused: dict[str, str] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)  # of the present attempt
    in_a_row: int = 0
    last: str = ""  # the last reason

    @property
    def in_doubt(self) -> bool:
        return 0 < self.max_failures <= self.in_a_row

    def add(self, one: Outcome) -> None:
        """Take note of an outcome; UserError for one that ends the run."""
        if one.status == "stopped":
            raise UserError(one.reason)
        if one.status in ("refused", "forbidden"):
            self.refused[one.key] = one.reason
        elif one.status == "unanswered":
            self.unanswered[one.key] = one.reason
        self.in_a_row = self.in_a_row + 1 if one.status in ("unanswered", "forbidden") else 0
        self.last = one.reason or self.last


def _gather(
    source: ModelSource | EndpointSource,
    files: Mapping[str, Path],
    limit: int | None,
    journal: Journal,
    num_candidates: int,
    max_failures: int,
) -> dict[str, str]:
    """Fill the journal; the reasons, by key, why questions have not all their completions."""

    def is_open(one: Asked) -> bool:
        tried = one.key in heard.refused or one.key in heard.unanswered
        return not tried and journal.count(one.key) < num_candidates

    def check_up() -> None:
        answered = (one for one in _questions(files, limit) if journal.count(one.key) >= num_candidates)
        _check_up(source, next(answered, None), heard, journal)

    heard = _Heard(max_failures)
    for attempt in range(_ATTEMPTS):
        if attempt and not heard.unanswered:
            break
        heard.unanswered = {}
        verb = "asking again" if attempt else "asking"
        while total := sum(map(is_open, _questions(files, limit))):
            say(f"{verb} {source.name}: {total} questions")
            # In doubt no further question is begun; those that are on their way may still be answered.
            asked = takewhile(lambda _: not heard.in_doubt, filter(is_open, _questions(files, limit)))
            _ask(source, asked, total, journal, heard)
            if heard.in_doubt:
                check_up()
            verb = "going on with"
    if max_failures and heard.in_a_row:
        check_up()  # the last questions of all had no answer
    return {**heard.unanswered, **heard.refused}


def _ask(
    source: ModelSource | EndpointSource, asked: Iterator[Asked], total: int, journal: Journal, heard: _Heard
) -> None:
    """Ask these questions, and note what comes; UserError where all would be refused."""
    with closing(source.sample(asked, journal)) as outcomes:
        for one in track(outcomes, "sampling", total=total):
            heard.add(one)
            if len(heard.refused) >= _REFUSALS_AT_START and journal.is_empty:
                raise UserError(f"all of the first {len(heard.refused)} questions were refused: {one.reason}")


def _check_up(source: ModelSource | EndpointSource, answered: Asked | None, heard: _Heard, journal: Journal) -> None:
    """Ask a question once more that was answered before: an answer shows that the failures are those of the others.

    Raises UserError where there is none: the server seems to be down, and going on would turn questions into rejects.
    """
    times = f"no answer {heard.in_a_row} times in a row, the last time: {heard.last}"
    if answered is not None and isinstance(source, EndpointSource) and source.answers(answered):
        warn(f"{times}; a question that was answered before is answered again: the server is up, and the run goes on")
        heard.in_a_row = 0
        return
    kept = "" if journal.is_empty else f" What was answered is kept in {journal.path}."
    raise UserError(
        f"{times}.{kept} The same command goes on where this one stopped; with --max_failures 0 such questions are "
        "left out instead"
    )
