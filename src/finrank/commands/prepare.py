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
from finrank.sources.finqa import Element, finqa_files, gold_of, read_elements, to_example, to_question
from finrank.store import REJECTS, SPLITS, BadLine, StageWriter
from finrank.store.json_lines import encode, why_too_long
from finrank.store.json_list import BrokenList

# A page or id that occurs twice is kept where it comes first in this order: train holds nothing reported on.
_PRECEDENCE = ("test", "dev", "train")
_BREAKS_OFF = "rest of a broken file"
_Problem = tuple[str, str]  # why an example is left out: the kind, for counting, and the reason


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
    kept, left_out = _Kept(), Counter[str]()
    with writer as out, ordered_map(_examine, workers) as examined:
        for raw_split in (split for split in _PRECEDENCE if split in files):
            path = files[raw_split]
            reading = Reading.of(path)
            results = examined(read_elements(path, reading))
            for index, example in enumerate(track(results, path.name, reading=reading)):
                selected = raw_split == "train" and _in_selection(example.page, selection_share, seed)
                split = "selection" if selected else raw_split
                problem = kept.add(example, path.name, split)
                if problem is None:
                    out.write_encoded(split, example.line)
                else:
                    kind, reason = problem
                    out.reject(path.name, index, example.id, reason)
                    left_out[kind] += 1
        if not out.counts:
            raise UserError(f"no usable question in {input_dir}: finrank check --input_dir {input_dir} says why")
        out.extra["left_out"] = dict(left_out.most_common())
    _show(out.counts, kept, left_out)
    if left_out[_BREAKS_OFF]:
        warn(f"a file breaks off or turns malformed, and the rest was not read: see {output_dir / REJECTS}")
    say(f"questions in {output_dir}" + (f", left out: see {output_dir / REJECTS}" if left_out else ""))


def _in_selection(page: str, share: float, seed: int) -> bool:
    """True if a train page belongs to the selection split: a fixed draw per (seed, page), whatever the other pages."""
    digest = hashlib.sha256(f"{seed}:{page}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


class _Examined(NamedTuple):
    """An example by itself: the line to write if it is kept, or its problem; a fault has no page."""

    id: str | None
    page: str = ""
    has_program: bool = False
    line: bytes = b""
    problem: _Problem | None = None


def _examine(element: Element) -> _Examined:
    """All of the work on an example that needs no other example; with several workers, in another process."""
    example = to_example(element)
    if isinstance(example, BadLine):
        kind = _BREAKS_OFF if isinstance(element.value, BrokenList) else "not an example"
        return _Examined(example.id, problem=(kind, example.reason))
    gold = gold_of(example)
    problem = None if gold.problem is None else (f"program {gold.problem}", gold.reason)
    line = b"" if problem else encode(to_question(example, gold.answer))
    if (reason := why_too_long(line, "question")) is not None:
        line, problem = b"", ("too long", reason)
    return _Examined(example.id, example.filename, example.qa.program is not None, line, problem)


class _Kept:
    """The examples kept so far, by their ids and pages; memory holds nothing else of them."""

    def __init__(self) -> None:
        self.file_of_id: dict[str | None, str] = {}
        self.split_of_page: dict[str, str] = {}
        self.with_program: Counter[str] = Counter()

    def add(self, example: _Examined, file: str, split: str) -> _Problem | None:
        """Keep an example, or return why it is left out."""
        if example.page:
            if example.id in self.file_of_id:
                return ("duplicate id", f"this id was used before, in {self.file_of_id[example.id]}")
            other = self.split_of_page.get(example.page, split)
            if other != split:
                return (f"page in {other} too", f"leak: page {example.page} is in {other} too")
        if example.problem is not None:
            return example.problem
        self.file_of_id[example.id] = file
        self.split_of_page[example.page] = split
        self.with_program[split] += example.has_program
        return None


def _show(questions: Counter[str], kept: _Kept, left_out: Counter[str]) -> None:
    pages = Counter(kept.split_of_page.values())
    table = Table("split", "questions", "pages", "with program", title="prepared questions")
    for split in (split for split in SPLITS if split in questions):
        table.add_row(split, str(questions[split]), str(pages[split]), str(kept.with_program[split]))
    for kind, count in left_out.most_common():
        table.add_row(f"left out: {kind}", str(count), "", "")
    console.print(table)
