"""The `prepare` command: raw FinQA files to questions; some train pages are kept apart to choose checkpoints."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.table import Table

from finrank.commands.options import PROCESSED, RAW, Seed, Workers
from finrank.console import Reading, console, say, track, warn
from finrank.errors import UserError
from finrank.parallel import ordered_map
from finrank.records import Question
from finrank.sources.finqa import FILES, Element, Fault, finqa_files, gold_of, read_elements, to_example, to_question
from finrank.store import REJECTS, SPLITS, StageWriter
from finrank.store.json_lines import LONGEST_LINE, encode

# A page or id that occurs twice stays where it comes first in this order: train holds nothing reported on.
_PRECEDENCE = ("test", "dev", "train")
_BREAKS_OFF = "rest of a broken file"


def prepare(
    input_dir: Annotated[Path, typer.Option("--input_dir", help="Folder with train.json, dev.json, test.json.")] = RAW,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Stage directory to write.")] = PROCESSED,
    *,
    selection_share: Annotated[
        float, typer.Option("--selection_share", help="Share of train pages kept apart for choosing checkpoints (0-1).")
    ] = 0.1,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Stage 01: official files to questions, split by page.

    Writes train, selection (pages of train, for choosing checkpoints), dev and test.jsonl, rejects.jsonl with every
    example left out and why, and manifest.json.

    \b
    Example:
      finrank prepare --input_dir datasets/finqa_raw --output_dir datasets/finqa_processed
    """
    if not 0 <= selection_share < 1:
        raise UserError(f"--selection_share is {selection_share}: expected a share of pages, at least 0 and below 1")
    files = finqa_files(input_dir)
    writer = StageWriter[Question](
        output_dir,
        stage="prepare",
        arguments={"input_dir": str(input_dir), "selection_share": selection_share},
        seed=seed,
        inputs=files.values(),
    )
    counts = _Counts()
    with writer as out, ordered_map(_examine, workers) as examined:
        admission = _Admission()
        for raw_split in (split for split in _PRECEDENCE if split in files):
            path = files[raw_split]
            reading = Reading.of(path)
            results = examined(read_elements(path, reading))
            for index, result in enumerate(track(results, path.name, reading=reading)):
                verdict = admission.judge(raw_split, result)
                if isinstance(verdict, _LeftOut):
                    out.reject(path.name, index, result.id, verdict.reason)
                    counts.left_out[verdict.kind] += 1
                    continue
                selected = raw_split == "train" and _in_selection(verdict.page, selection_share, seed)
                split = "selection" if selected else raw_split
                out.write_encoded(split, verdict.line)
                counts.add(split, verdict, admission.page_is_new)
        if not out.counts:
            raise UserError(f"no usable question in {input_dir}: finrank check --input_dir {input_dir} says why")
        out.extra["left_out"] = dict(counts.left_out.most_common())
    counts.show()
    if counts.left_out[_BREAKS_OFF]:
        warn(f"a file breaks off or turns malformed, and the rest was not read: see {output_dir / REJECTS}")
    say(f"questions in {output_dir}" + (f", left out: see {output_dir / REJECTS}" if counts.left_out else ""))


def _in_selection(page: str, share: float, seed: int) -> bool:
    """True if a train page belongs to the selection split: a fixed draw per (seed, page).

    Other pages do not matter, so the split stays the same when questions are added.
    """
    digest = hashlib.sha256(f"{seed}:{page}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


class _LeftOut(NamedTuple):
    """Why an example is left out: the kind, for counting, and the whole reason."""

    kind: str
    reason: str


class _Examined(NamedTuple):
    """An example by itself: the line to write if it is kept, or its problem."""

    id: str
    page: str
    has_program: bool
    line: bytes
    problem: _LeftOut | None


def _examine(element: Element) -> _Examined | Fault:
    """All of the work on an example that needs no other example; with several workers, in another process."""
    example = to_example(element)
    if isinstance(example, Fault):
        return example
    gold = gold_of(example)
    problem = None if gold.problem is None else _LeftOut(f"program {gold.problem}", gold.reason)
    line = b"" if problem else encode(to_question(example, gold.answer))
    if len(line) > LONGEST_LINE:
        reason = f"the question has {len(line)} bytes, more than the {LONGEST_LINE} that a record may have"
        line, problem = b"", _LeftOut("too long", reason)
    return _Examined(example.id, example.filename, example.qa.program is not None, line, problem)


class _Admission:
    """Decides which examples are kept, by the ids and pages kept so far; memory holds nothing else of them."""

    def __init__(self) -> None:
        self.file_of_id: dict[str, str] = {}
        self.split_of_page: dict[str, str] = {}
        self.page_is_new = False  # the page of the last example kept

    def judge(self, split: str, example: _Examined | Fault) -> _Examined | _LeftOut:
        """The example itself if it is kept, else why it is left out."""
        if isinstance(example, Fault):
            return _LeftOut(_BREAKS_OFF if example.breaks_off else "not an example", example.reason)
        earlier = self.file_of_id.get(example.id)
        if earlier is not None:
            return _LeftOut("duplicate id", f"this id was used before, in {earlier}")
        other = self.split_of_page.get(example.page, split)
        if other != split:
            return _LeftOut(f"page in {other} too", f"leak: page {example.page} is in {other} too")
        if example.problem is not None:
            return example.problem
        self.page_is_new = example.page not in self.split_of_page
        self.file_of_id[example.id] = FILES[split]
        self.split_of_page[example.page] = split
        return example


class _Counts:
    """Counts for the closing table."""

    def __init__(self) -> None:
        self.questions: Counter[str] = Counter()
        self.with_program: Counter[str] = Counter()
        self.pages: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def add(self, split: str, example: _Examined, page_is_new: bool) -> None:
        self.questions[split] += 1
        self.with_program[split] += example.has_program
        self.pages[split] += page_is_new

    def show(self) -> None:
        table = Table("split", "questions", "pages", "with program", title="prepared questions")
        for split in (split for split in SPLITS if split in self.questions):
            row = (self.questions[split], self.pages[split], self.with_program[split])
            table.add_row(split, *(str(number) for number in row))
        for kind, count in self.left_out.most_common():
            table.add_row(f"left out: {kind}", str(count), "", "")
        console.print(table)
