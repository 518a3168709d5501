"""Stage 01: raw FinQA files to `Question` records; some train pages are kept apart to choose checkpoints."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from finrank.console import console, say, track
from finrank.records import Question
from finrank.sources.finqa import Example, Fault, finqa_files, gold_of, read_examples, to_question
from finrank.store import REJECTS, SPLITS, StageWriter, UserError

# A page or id that occurs twice stays where it comes first in this order: train holds nothing reported on.
_PRECEDENCE = ("test", "dev", "train")


def run(input_dir: Path, output_dir: Path, *, selection_share: float = 0.1, seed: int = 0) -> None:
    """Write train, selection, dev and test questions, and in `rejects.jsonl` why others are left out.

    `selection_share` is the share of train *pages* that become the selection split. Questions without a
    program are kept. Left out: elements that are no example, programs that do not give `exe_ans`, second uses
    of an id, and train or dev pages that dev or test have too. Memory holds ids and page names, not
    questions. Raises UserError when there is nothing to read, or nothing of it is usable.
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
    with writer as out:
        admission = _Admission()
        for split in (split for split in _PRECEDENCE if split in files):
            path = files[split]
            for index, found in enumerate(track(read_examples(path), path.name)):
                verdict = admission.judge(split, found)
                if isinstance(verdict, _LeftOut):
                    out.reject(path.name, index, found.id, verdict.reason)
                    counts.left_out[verdict.kind] += 1
                    continue
                selected = split == "train" and in_selection(verdict.page, selection_share, seed)
                place = "selection" if selected else split
                out.write(place, verdict)
                counts.add(place, verdict)
        if not out.counts:
            raise UserError(f"no usable question in {input_dir}: finrank check --input_dir {input_dir} says why")
        out.extra["left_out"] = dict(counts.left_out.most_common())
    counts.show()
    say(f"questions in {output_dir}" + (f", left out: see {output_dir / REJECTS}" if counts.left_out else ""))


def in_selection(page: str, share: float, seed: int) -> bool:
    """Whether a train page belongs to the selection split: a fixed draw per (seed, page).

    Other pages have no say in it, so the split stays as it is when questions are added.
    """
    digest = hashlib.sha256(f"{seed}:{page}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


@dataclass(frozen=True)
class _LeftOut:
    """Why an example is left out: the kind, for counting, and the whole reason."""

    kind: str
    reason: str


class _Admission:
    """Decides what is kept; remembers the ids and pages kept so far."""

    def __init__(self) -> None:
        self.file_of_id: dict[str, str] = {}
        self.split_of_page: dict[str, str] = {}

    def judge(self, split: str, found: Example | Fault) -> Question | _LeftOut:
        """The question to keep, or why the example is left out."""
        if isinstance(found, Fault):
            return _LeftOut("not an example", found.reason)
        earlier = self.file_of_id.get(found.id)
        if earlier is not None:
            return _LeftOut("duplicate id", f"this id was used before, in {earlier}")
        other = self.split_of_page.get(found.filename, split)
        if other != split:
            return _LeftOut(f"page in {other} too", f"leak: page {found.filename} is in {other} too")
        gold = gold_of(found)
        if gold.problem is not None:
            return _LeftOut(f"program {gold.problem}", gold.reason)
        self.file_of_id[found.id] = f"{split}.json"
        self.split_of_page[found.filename] = split
        return to_question(found, gold.answer)


@dataclass
class _Counts:
    """What the closing table shows."""

    questions: Counter[str] = field(default_factory=Counter)
    with_program: Counter[str] = field(default_factory=Counter)
    pages: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, split: str, question: Question) -> None:
        self.questions[split] += 1
        self.with_program[split] += question.program is not None
        self.pages[split].add(question.page)

    def show(self) -> None:
        table = Table("split", "questions", "pages", "with program", title="prepared questions")
        for split in (split for split in SPLITS if split in self.questions):
            row = (self.questions[split], len(self.pages[split]), self.with_program[split])
            table.add_row(split, *(str(number) for number in row))
        for kind, count in self.left_out.most_common():
            table.add_row(f"left out: {kind}", str(count), "", "")
        console.print(table)
