"""Rank a file of pools line by line, and continue where an earlier run was cut off.

Lines are ranked in blocks of a fixed number, and each block is stored whole before the next
(`store/growing_file.py`). The blocks, and with them the batches inside, are the same however often a run is cut off;
so are the bytes of the output. Memory does not grow with the number of lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from finrank.console import Reading, say, track, warn
from finrank.errors import UserError
from finrank.store import sha256, versions
from finrank.store.growing_file import RankedFiles
from finrank.store.json_lines import BadLine, Line, encode_reject, read_lines, read_value

if TYPE_CHECKING:
    from finrank.ranker.ranker import Prepared, Ranker

_LINES_PER_BLOCK = 64
_BYTES_PER_BLOCK = 4_000_000  # for files of very long lines


class _Pool(NamedTuple):
    """A line of the input that can be ranked."""

    id: str
    prepared: Prepared


def run(
    model: str,
    input_path: Path,
    output_path: Path,
    *,
    overwrite: bool = False,
    revision: str | None = None,
    base_model: str | None = None,
) -> dict[str, int]:
    """Rank every line of `input_path` into `output_path`, bad ones into its rejects file.

    Gives how many lines were ranked, how many of those abstain, and how many were rejected. Raises UserError when there
    is no input or model, when the output is not the beginning of what they would give (see `RankedFiles`), and when not
    one line could be ranked.
    """
    if not input_path.is_file():
        raise UserError(
            f"no such file: {input_path}; expected JSON lines such as datasets/finqa_with_rewards/dev.jsonl"
        )
    from finrank.ranker.hub import locate_model
    from finrank.ranker.ranker import Ranker
    from finrank.ranker.saving import find_model

    model_dir = find_model(locate_model(model, revision=revision))
    made_with = _made_with(model_dir, base_model)
    with RankedFiles(input_path, output_path, made_with, overwrite=overwrite) as files:
        if files.complete:
            say(f"{output_path} is complete ({_summary(files)}): nothing to do; --overwrite ranks again")
            return dict(files.counts)
        if files.lines:
            say(f"{output_path}: going on after line {files.lines} of {input_path}")
        ranker = Ranker.from_pretrained(model_dir, base_model=base_model, merge=True)
        say(f"device: {ranker.device}; attention route: {ranker.route}")
        _rank(ranker, files)
        _tell(files)
        return dict(files.counts)


def _made_with(model_dir: Path, base_model: str | None) -> dict[str, str]:
    """What besides the input decides the answers: the model's parts, whose hashes are in its config, its calibration,
    its base model (the one given, and the one of its config), the libraries, and the device."""
    import torch

    from finrank.ranker.confidence import CONFIDENCE
    from finrank.ranker.saving import CONFIG

    found = versions("torch", "transformers")
    parts = {name: sha256(model_dir / name) for name in (CONFIG, CONFIDENCE) if (model_dir / name).is_file()}
    return {
        **parts,
        "base model given": base_model or "none",
        "base model of the model": _configured_base(model_dir / CONFIG),
        **{name: found[name] for name in ("finrank", "torch", "transformers")},
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }


def _configured_base(config: Path) -> str:
    try:
        return str(json.loads(config.read_text(encoding="utf-8"))["base_model"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"  # loading the model says what is wrong with its config


def _rank(ranker: Ranker, files: RankedFiles) -> None:
    """Rank the lines that are not done yet."""
    start, skip = files.input_done, files.lines
    # What an earlier run did is no progress of this one: the time left would be too short.
    reading = Reading(total=files.input_path.stat().st_size - start, done=-start)
    lines = (line for line in read_lines(files.input_path, reading) if line.number > skip)
    for _ in track(_ranked_blocks(ranker, _blocks(lines), files, reading, start), "ranking", reading=reading):
        pass
    files.finish(start + reading.done)


def _blocks(lines: Iterator[Line]) -> Iterator[list[Line]]:
    block: list[Line] = []
    for line in lines:
        block.append(line)
        if len(block) == _LINES_PER_BLOCK or sum(len(one.content) for one in block) > _BYTES_PER_BLOCK:
            yield block
            block = []
    if block:
        yield block


def _ranked_blocks(
    ranker: Ranker, blocks: Iterator[list[Line]], files: RankedFiles, reading: Reading, start: int
) -> Iterator[str]:
    """Rank and store one block after the other; gives the ids, which the progress bar counts."""
    for block in blocks:
        read = [_read(line, ranker) for line in block]
        pools = [one for one in read if isinstance(one, _Pool)]
        rankings = [
            ranker.ranking(pool.prepared, scores)
            for pool, scores in zip(pools, ranker.score([pool.prepared for pool in pools]), strict=True)
        ]
        files.append(
            [_encode({"id": pool.id, **ranking.as_json()}) for pool, ranking in zip(pools, rankings, strict=True)],
            [encode_reject(one) for one in read if isinstance(one, BadLine)],
            abstained=sum(ranking.abstain for ranking in rankings),
            lines=block[-1].number,
            input_done=start + reading.done,
        )
        ranker.warn_of_unlike(pool.prepared for pool in pools)
        yield from (pool.id for pool in pools)


def _read(line: Line, ranker: Ranker) -> _Pool | BadLine:
    """The pool of a line, ready for the model, or what is wrong with it; never raises."""
    identifier = None
    value = read_value(line, "pool")
    if isinstance(value, BadLine):
        return value._replace(id=None)
    try:
        if not isinstance(value, dict):
            raise UserError("expected an object with question, table, text and candidates")
        identifier = _id_of(value, line)
        return _Pool(identifier, ranker.prepare(value, identifier))
    except UserError as error:
        return BadLine(line.file, line.number, identifier, str(error).removeprefix(f"{identifier}: "))


def _id_of(value: dict[str, Any], line: Line) -> str:
    """The id of a pool as text; without one, the number of its line."""
    given = value.get("id")
    if given is None:
        return str(line.number)
    if isinstance(given, bool) or not isinstance(given, str | int) or given == "":
        raise UserError("id: expected a text or a whole number")
    if isinstance(given, str) and any("\ud800" <= character <= "\udfff" for character in given):
        raise UserError("id: half a surrogate pair, which is no text")
    return str(given)


def _encode(row: dict[str, Any]) -> bytes:
    # A lone surrogate in a message cannot be UTF-8; JSON can name it.
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace") + b"\n"


def _summary(files: RankedFiles) -> str:
    counts = files.counts
    return f"{counts['ranked']} ranked, {counts['abstained']} of them abstain, {counts['rejected']} rejected"


def _tell(files: RankedFiles) -> None:
    rejected = files.counts["rejected"]
    if rejected and not files.counts["ranked"]:
        raise UserError(f"not one of {rejected} lines of {files.input_path} can be ranked: see {files.rejects_path}")
    say(f"{files.output_path}: {_summary(files)}")
    if rejected:
        warn(f"{rejected} lines could not be ranked: see {files.rejects_path}")
