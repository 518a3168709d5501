"""`finrank solve`: question and page in, answer out, with no language model: propose candidates, rank them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finrank.commands.options import BaseModel, ModelOrHubId, Overwrite
from finrank.commands.rank import ranked_with
from finrank.console import say, warn
from finrank.errors import UserError
from finrank.programs.value import same_answer
from finrank.store import BadLine, sha256
from finrank.store.json_lines import Line, name_of
from finrank.store.remote import anywhere
from finrank.store.result_files import Block, open_results

if TYPE_CHECKING:
    from finrank.proposer.proposer import Proposer
    from finrank.ranker.ranker import Ranker, Ranking

_ANSWERS = 5  # of a line of the output


@anywhere
def solve(
    input_path: Annotated[
        Path,
        typer.Option("--input", help="JSON lines or Parquet, a path or a URL: objects with question, table, text."),
    ],
    output_path: Annotated[
        Path, typer.Option("--output", help="JSON lines or Parquet to write: an answer per question.")
    ],
    model: ModelOrHubId = "finqa-minilm",
    proposer: Annotated[
        str, typer.Option("--proposer", help="A run, a stage directory, a model folder, or finqa-proposer.")
    ] = "finqa-proposer",
    num_candidates: Annotated[int, typer.Option("--num_candidates", help="Candidates to propose and rank.")] = 32,
    overwrite: Overwrite = False,
    base_model: BaseModel = None,
) -> dict[str, int]:
    """Answer questions from their pages, without an LLM.

    Proposes candidates, and ranks them.

    A line of the output: {"id", "program", "answer", "probability", "abstain", "answers": the first 5 answers as
    `finrank rank` writes them}; finrank import takes the file as predictions. Where gold is known, the share of right
    answers is printed. After an interruption the same command resumes where it stopped. Lines that cannot be used go to
    NAME.rejects.jsonl with the reason.

    \b
    Example:
      finrank solve --input datasets/finqa_processed/dev.jsonl --output solved.jsonl
    """
    if num_candidates < 1:
        raise UserError(f"num_candidates is {num_candidates}: propose 1 at least")
    if not input_path.is_file():
        raise UserError(f"no such file: {input_path}; expected JSON lines such as datasets/finqa_processed/dev.jsonl")
    from finrank.proposer.proposer import Proposer
    from finrank.proposer.proposer_files import PROPOSER_CONFIG, find_proposer
    from finrank.ranker.hub import locate_model
    from finrank.ranker.ranker import Ranker
    from finrank.ranker.saving import find_model

    ranker_dir, proposer_dir = find_model(locate_model(model)), find_proposer(Path(proposer))
    made_with = {
        **ranked_with(ranker_dir, base_model),
        "proposer": sha256(proposer_dir / PROPOSER_CONFIG),
        "candidates": str(num_candidates),
    }
    with open_results(input_path, output_path, "solve", made_with, overwrite=overwrite) as files:
        if not files.complete:
            ranker = Ranker.from_pretrained(ranker_dir, base_model=base_model, merge=True)
            first_stage = Proposer.from_pretrained(proposer_dir, base_model=base_model)
            say(f"device: {ranker.device}; attention route: {ranker.route}")
            work = partial(_solve_block, proposer=first_stage, ranker=ranker, num_candidates=num_candidates)
            files.transform(partial(map, work), "solving")
        say(f"{name_of(output_path)}: {files.counts['solved']} solved, {files.counts['abstained']} of them abstain")
        if known := files.counts["with_gold"]:
            say(f"execution accuracy {files.counts['right'] / known:.3f}, of {known} questions with known gold")
        if files.counts["rejected"]:
            warn(f"{files.counts['rejected']} lines have no answer: see {name_of(files.rejects.path)}")
        return dict(files.counts)


def _solve_block(block: list[Line], proposer: Proposer, ranker: Ranker, num_candidates: int) -> Block:
    from finrank.ranker.requests import read_line, read_question

    made = Block([], [], {"solved": 0, "abstained": 0, "with_gold": 0, "right": 0})
    identifiers, prepared = [], []
    for line in block:
        read = read_line(line, read_question)
        if isinstance(read, BadLine):
            made.rejects.append(read)
            continue
        identifier, question = read
        try:
            candidates = proposer.propose_many([question], num_candidates)[0]
            if not candidates:
                raise UserError("no program could be proposed: the page has no numbers")
            prepared.append(ranker.prepare_pool(question, candidates))
            identifiers.append(identifier)
        except UserError as error:
            made.rejects.append(BadLine(line.file, line.number, identifier, str(error)))
    ranker.warn_of_unlike(prepared)
    for identifier, request, scores in zip(identifiers, prepared, ranker.score(prepared), strict=True):
        ranking = ranker.ranking(request, scores)
        made.lines.append(_encode(identifier, ranking))
        made.counts["solved"] += 1
        made.counts["abstained"] += ranking.abstain
        gold = request.question.answer
        made.counts["with_gold"] += gold is not None
        made.counts["right"] += same_answer(ranking[0].answer, gold)
    return made


def _encode(identifier: str, ranking: Ranking) -> bytes:
    row: dict[str, Any] = ranking.as_json()
    answers, abstain = row["answers"], row["abstain"]
    first = {"program": answers[0]["programs"][0], "answer": answers[0]["answer"]}
    solved = {"id": identifier, **first, "probability": answers[0]["probability"], "abstain": abstain}
    return json.dumps({**solved, "answers": answers[:_ANSWERS]}, ensure_ascii=False, allow_nan=False).encode() + b"\n"
