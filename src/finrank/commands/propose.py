"""`finrank propose`: candidates for a file of questions, from their pages alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finrank.commands.options import BaseModel, Overwrite
from finrank.console import say, warn
from finrank.errors import UserError
from finrank.programs.value import same_answer
from finrank.records import Candidate, Pool, Question
from finrank.store import BadLine, sha256, versions
from finrank.store.json_lines import Line, encode, name_of, why_too_long
from finrank.store.remote import anywhere
from finrank.store.result_files import Block, ResultFiles, open_results

if TYPE_CHECKING:
    from finrank.proposer.proposer import Proposer

_PLACES = {"gold_first": 1, "gold_among_8": 8, "gold_among_32": 32}


@anywhere
def propose(
    input_path: Annotated[
        Path, typer.Option("--input", help="JSON lines or Parquet, a path or a URL: questions, or pools (see --add).")
    ],
    output_path: Annotated[Path, typer.Option("--output", help="JSON lines or Parquet to write: a pool per question.")],
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A proposer: a run, a stage directory, a model folder, or finqa-proposer, the ready-made one (the "
            "default). Of several, each question gets the first that did not see its page in training.",
        ),
    ] = None,
    num_candidates: Annotated[
        int, typer.Option("--num_candidates", help="Candidates per question, of different values, at most.")
    ] = 32,
    add: Annotated[
        bool, typer.Option("--add", help="Add to the candidates of the input's pools (default: leave those out).")
    ] = False,
    overwrite: Overwrite = False,
    base_model: BaseModel = None,
) -> dict[str, int]:
    """Propose candidates for questions from their pages.

    Question and page in, programs out, the likeliest first, each with its `log_probability`. Gold is never looked at;
    where it is known, the shares of questions are printed whose gold value is first, and among the first 8 and 32. With
    --add, 8 proposals beside one model's few answers are a second opinion that `finrank rank` weighs. After an
    interruption the same command resumes where it stopped. Lines that cannot be used go to NAME.rejects.jsonl.

    \b
    Example:
      finrank propose --input datasets/finqa_processed/dev.jsonl --output datasets/finqa_proposed/dev.jsonl
      finrank propose --add --num_candidates 8 --input datasets/imported/dev.jsonl --output datasets/both/dev.jsonl
    """
    if num_candidates < 1:
        raise UserError(f"num_candidates is {num_candidates}: propose 1 at least")
    if not input_path.is_file():
        raise UserError(f"no such file: {input_path}; expected JSON lines such as datasets/finqa_processed/dev.jsonl")
    from finrank.proposer.proposer import Proposer
    from finrank.proposer.proposer_files import PROPOSER_CONFIG, find_proposer

    folders = [find_proposer(Path(name)) for name in models or ["finqa-proposer"]]
    made_with = {
        **{f"proposer {number}": sha256(folder / PROPOSER_CONFIG) for number, folder in enumerate(folders, 1)},
        "base model given": base_model or "none",
        "candidates": num_candidates,
        "added": add,
        **versions("finrank", "torch", "transformers"),
    }
    with open_results(input_path, output_path, "propose", made_with, overwrite=overwrite) as files:
        if not files.complete:
            proposers = [Proposer.from_pretrained(folder, base_model=base_model) for folder in folders]
            say(f"device: {proposers[0].device}")
            work = partial(_propose_block, proposers=proposers, num_candidates=num_candidates, add=add)
            files.transform(partial(map, work), "proposing")
        return _report(files)


def _propose_block(block: list[Line], proposers: list[Proposer], num_candidates: int, add: bool) -> Block:
    from finrank.ranker.requests import read_line, read_pool, read_question

    made = Block([], [], dict.fromkeys(("proposed", "candidates", "with_gold", "seen_in_training", *_PLACES), 0))
    for line in block:
        read = read_line(line, read_pool if add else lambda request, name: (read_question(request, name), []))
        if isinstance(read, BadLine):
            made.rejects.append(read)
            continue
        question, given = read[1]
        unseen = [proposer for proposer in proposers if not proposer.has_seen(question.page)]
        try:
            candidates = (unseen or proposers)[0].propose_many([question], num_candidates)[0]
            if not candidates + given:
                raise UserError("no program could be proposed: the page has no numbers")
        except UserError as error:
            made.rejects.append(BadLine(line.file, line.number, question.id, str(error)))
            continue
        content = encode(Pool.of(question, candidates=[*given, *candidates]))
        if (too_long := why_too_long(content, "pool")) is not None:
            made.rejects.append(BadLine(line.file, line.number, question.id, too_long))
            continue
        made.lines.append(content)
        made.counts["proposed"] += 1
        made.counts["candidates"] += len(candidates)
        made.counts["seen_in_training"] += not unseen
        _count_gold(question, candidates, made.counts)
    return made


def _count_gold(question: Question, candidates: list[Candidate], counts: dict[str, int]) -> None:
    if question.answer is None:
        return
    right = [same_answer(candidate.answer, question.answer) for candidate in candidates]
    rank = right.index(True) if True in right else max(_PLACES.values())
    counts["with_gold"] += 1
    for name, places in _PLACES.items():
        counts[name] += rank < places


def _report(files: ResultFiles) -> dict[str, int]:
    counts = files.counts
    say(f"{name_of(files.output.path)}: {counts['candidates']} candidates for {counts['proposed']} questions")
    if known := counts["with_gold"]:
        first, eight, many = (counts[name] / known for name in _PLACES)
        say(f"gold value first {first:.3f}, among 8 candidates {eight:.3f}, among 32 {many:.3f}, of {known} questions")
    if files.input.path.stem == "train" and counts["seen_in_training"]:
        warn(
            f"{counts['seen_in_training']} questions may have been seen in training, and what is proposed for them is "
            "too good: give two proposers, each trained without one half of the pages (proposer.left_out_half)"
        )
    if counts["rejected"]:
        warn(f"{counts['rejected']} lines have no candidates: see {name_of(files.rejects.path)}")
    return dict(counts)
