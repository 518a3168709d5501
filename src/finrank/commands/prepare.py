"""Stage 01: raw FinQA files to `Question` records; some train pages are kept apart to choose checkpoints."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

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


def run(input_dir: Path, output_dir: Path, *, selection_share: float = 0.1, seed: int = 0, workers: int = 1) -> None:
    """Write train, selection, dev and test questions, and in `rejects.jsonl` why others are left out.

    `selection_share` is the share of train *pages* that become the selection split. Questions without a
    program are kept. Left out: elements that are no example, programs that do not give `exe_ans`, second uses
    of an id, and train or dev pages that dev or test have too. Memory holds ids and page names, not
    questions. `workers` processes (0: one per core) make the same files. Raises UserError when there is nothing to
    read, or nothing of it is usable.
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
    with writer as out, ordered_map(examine, workers) as examined:
        admission = _Admission()
        for split in (split for split in _PRECEDENCE if split in files):
            path = files[split]
            reading = Reading.of(path)
            found = examined(read_elements(path, reading))
            for index, example in enumerate(track(found, path.name, reading=reading)):
                verdict = admission.judge(split, example)
                if isinstance(verdict, _LeftOut):
                    out.reject(path.name, index, example.id, verdict.reason)
                    counts.left_out[verdict.kind] += 1
                    continue
                selected = split == "train" and in_selection(verdict.page, selection_share, seed)
                place = "selection" if selected else split
                out.write_encoded(place, verdict.line)
                counts.add(place, verdict, admission.page_is_new)
        if not out.counts:
            raise UserError(f"no usable question in {input_dir}: finrank check --input_dir {input_dir} says why")
        out.extra["left_out"] = dict(counts.left_out.most_common())
    counts.show()
    if counts.left_out[_BREAKS_OFF]:
        warn(f"a file breaks off or turns malformed, and what follows was not read: see {output_dir / REJECTS}")
    say(f"questions in {output_dir}" + (f", left out: see {output_dir / REJECTS}" if counts.left_out else ""))


def in_selection(page: str, share: float, seed: int) -> bool:
    """Whether a train page belongs to the selection split: a fixed draw per (seed, page).

    Other pages have no say in it, so the split stays as it is when questions are added.
    """
    digest = hashlib.sha256(f"{seed}:{page}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


class _LeftOut(NamedTuple):
    """Why an example is left out: the kind, for counting, and the whole reason."""

    kind: str
    reason: str


class Examined(NamedTuple):
    """An example looked at by itself: the line that it becomes if it is kept, or why it cannot be."""

    id: str
    page: str
    has_program: bool
    line: bytes
    problem: _LeftOut | None


def examine(element: Element) -> Examined | Fault:
    """All of the work on an example that needs no other example; in a worker process when there are several."""
    example = to_example(element)
    if isinstance(example, Fault):
        return example
    gold = gold_of(example)
    problem = None if gold.problem is None else _LeftOut(f"program {gold.problem}", gold.reason)
    line = b"" if problem else encode(to_question(example, gold.answer))
    if len(line) > LONGEST_LINE:
        reason = f"the question has {len(line)} bytes, more than the {LONGEST_LINE} that a record may have"
        line, problem = b"", _LeftOut("too long", reason)
    return Examined(example.id, example.filename, example.qa.program is not None, line, problem)


class _Admission:
    """Decides what is kept; remembers the ids and pages kept so far, and nothing else of them."""

    def __init__(self) -> None:
        self.file_of_id: dict[str, str] = {}
        self.split_of_page: dict[str, str] = {}
        self.page_is_new = False  # the page of the example kept last

    def judge(self, split: str, found: Examined | Fault) -> Examined | _LeftOut:
        """The example itself when it is kept, else why it is left out."""
        if isinstance(found, Fault):
            return _LeftOut(_BREAKS_OFF if found.breaks_off else "not an example", found.reason)
        earlier = self.file_of_id.get(found.id)
        if earlier is not None:
            return _LeftOut("duplicate id", f"this id was used before, in {earlier}")
        other = self.split_of_page.get(found.page, split)
        if other != split:
            return _LeftOut(f"page in {other} too", f"leak: page {found.page} is in {other} too")
        if found.problem is not None:
            return found.problem
        self.page_is_new = found.page not in self.split_of_page
        self.file_of_id[found.id] = FILES[split]
        self.split_of_page[found.page] = split
        return found


@dataclass
class _Counts:
    """What the closing table shows."""

    questions: Counter[str] = field(default_factory=Counter)
    with_program: Counter[str] = field(default_factory=Counter)
    pages: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, split: str, example: Examined, page_is_new: bool) -> None:
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
