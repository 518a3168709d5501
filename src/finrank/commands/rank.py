"""`finrank rank`: rank a file of pools line by line, and resume where an earlier run was cut off.

Lines are ranked in blocks of a fixed number, each stored before the next one (`store/growing_file.py`). The blocks,
their batches and so the bytes of the output are the same however often a run is cut off. Memory does not grow with the
number of lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finrank.commands.options import BaseModel, ModelOrHubId, Revision
from finrank.console import Reading, say, track, warn
from finrank.errors import UserError
from finrank.store import sha256, versions
from finrank.store.growing_file import RankedFiles, open_ranked
from finrank.store.json_lines import BadLine, Line, encode_reject, read_lines, read_value

if TYPE_CHECKING:
    from finrank.ranker.ranker import Prepared, Ranker, Ranking

_LINES_PER_BLOCK = 64
_BYTES_PER_BLOCK = 4_000_000  # for files of very long lines

Input = Annotated[
    Path,
    typer.Option(
        "--input",
        help="JSON lines: pools as stages 02 and 03 write them, or objects with question, table, text and "
        "candidates (id optional, default: the line's number).",
    ),
]
Output = Annotated[Path, typer.Option("--output", help="JSON lines to write, one per pool, in the order of the input.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Start over, whatever the output holds (default: resume).")
]


def rank(
    model: ModelOrHubId,
    input_path: Input,
    output_path: Output,
    *,
    overwrite: Overwrite = False,
    revision: Revision = None,
    base_model: BaseModel = None,
) -> dict[str, int]:
    """Rank the pools of a file: answers, most probable first.

    A line of the output: {"id", "answers": [{"answer", "probability", "score", "index", "indices", "programs"}, ...],
    "abstain"}, with "error" in an answer whose program has no value. "abstain" is true where even the first answer is
    less probable than the model's threshold.

    For --output ranked.jsonl, lines that cannot be ranked go to ranked.rejects.jsonl with their number and the reason,
    and ranked.jsonl.manifest.json says what the output was made from and how far it is. After an interruption the same
    command resumes where it stopped.

    \b
    Example:
      finrank rank --model outputs/run_001 --input datasets/finqa_with_rewards/dev.jsonl --output ranked.jsonl
    """
    if not input_path.is_file():
        example = "datasets/finqa_with_rewards/dev.jsonl"
        raise UserError(f"no such file: {input_path}; expected JSON lines such as {example}")
    from finrank.ranker.hub import locate_model
    from finrank.ranker.ranker import Ranker
    from finrank.ranker.saving import find_model

    model_dir = find_model(locate_model(model, revision=revision))
    made_with = _made_with(model_dir, base_model)
    with open_ranked(input_path, output_path, made_with, overwrite=overwrite) as files:
        if files.complete:
            say(f"{output_path} is complete ({_summary(files)}): nothing to do; --overwrite ranks again")
            return dict(files.counts)
        if files.lines:
            say(f"{output_path}: resuming after line {files.lines} of {input_path}")
        ranker = Ranker.from_pretrained(model_dir, base_model=base_model, merge=True)
        say(f"device: {ranker.device}; attention route: {ranker.route}")
        _rank_lines(ranker, files)
        rejected, see = files.counts["rejected"], f"see {files.rejects.path}"
        if rejected and not files.counts["ranked"]:
            raise UserError(f"not one of {rejected} lines of {input_path} can be ranked: {see}")
        say(f"{output_path}: {_summary(files)}")
        if rejected:
            warn(f"{rejected} lines could not be ranked: {see}")
        return dict(files.counts)


def _made_with(model_dir: Path, base_model: str | None) -> dict[str, str]:
    """Everything besides the input that decides the answers; the config holds the hashes of the model's parts."""
    import torch

    from finrank.ranker.choosing.confidence import CONFIDENCE
    from finrank.ranker.saving import CONFIG

    try:
        configured = str(json.loads((model_dir / CONFIG).read_text(encoding="utf-8"))["base_model"])
    except (OSError, ValueError, KeyError, TypeError):
        configured = "unknown"  # loading the model reports what is wrong with its config
    installed = versions("torch", "transformers")
    return {
        **{name: sha256(model_dir / name) for name in (CONFIG, CONFIDENCE) if (model_dir / name).is_file()},
        "base model given": base_model or "none",
        "base model of the model": configured,
        **{name: installed[name] for name in ("finrank", "torch", "transformers")},
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }


def _rank_lines(ranker: Ranker, files: RankedFiles) -> None:
    """Rank and store, block by block, the lines that are not done yet."""
    start, lines_done = files.input.size, files.lines
    # The part that an earlier run did is not progress of this one: the estimated time left would be too short.
    reading = Reading(total=files.input.path.stat().st_size - start, done=-start)
    lines = (line for line in read_lines(files.input.path, reading) if line.number > lines_done)
    for block in _blocks(track(lines, "ranking", reading=reading)):
        parsed = [_read(line, ranker) for line in block]
        identifiers = [line[0] for line in parsed if not isinstance(line, BadLine)]
        pools = [line[1] for line in parsed if not isinstance(line, BadLine)]
        rankings = [ranker.ranking(pool, scores) for pool, scores in zip(pools, ranker.score(pools), strict=True)]
        files.append(
            [_encode(identifier, ranking) for identifier, ranking in zip(identifiers, rankings, strict=True)],
            [encode_reject(line) for line in parsed if isinstance(line, BadLine)],
            abstained=sum(ranking.abstain for ranking in rankings),
            lines=block[-1].number,
            input_done=start + reading.done,
        )
        ranker.warn_of_unlike(pools)
    files.finish(start + reading.done)


def _blocks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    block: list[Line] = []
    for line in lines:
        block.append(line)
        if len(block) == _LINES_PER_BLOCK or sum(len(line.content) for line in block) > _BYTES_PER_BLOCK:
            yield block
            block = []
    if block:
        yield block


def _read(line: Line, ranker: Ranker) -> tuple[str, Prepared] | BadLine:
    """The id of a line's pool, and the pool ready for the model, or why it cannot be ranked; never raises."""
    value = read_value(line, "pool")
    if isinstance(value, BadLine):
        return value._replace(id=None)
    identifier = None
    try:
        if not isinstance(value, dict):
            raise UserError("expected an object with question, table, text and candidates")
        identifier = _id_of(value, line)
        return identifier, ranker.prepare(value, identifier)
    except UserError as error:
        return BadLine(line.file, line.number, identifier, str(error).removeprefix(f"{identifier}: "))


def _id_of(value: dict[str, Any], line: Line) -> str:
    """The id of a pool as text; without one, the number of its line."""
    identifier = value.get("id")
    if identifier is None:
        return str(line.number)
    if isinstance(identifier, bool) or not isinstance(identifier, str | int) or identifier == "":
        raise UserError("id: expected a text or a whole number")
    if any("\ud800" <= character <= "\udfff" for character in str(identifier)):
        raise UserError("id: half a surrogate pair, which is not text")
    return str(identifier)


def _encode(identifier: str, ranking: Ranking) -> bytes:
    row = {"id": identifier, **ranking.as_json()}
    # A lone surrogate in a message cannot be UTF-8; JSON can name it.
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace") + b"\n"


def _summary(files: RankedFiles) -> str:
    return "{ranked} ranked, {abstained} of them abstain, {rejected} rejected".format(**files.counts)
