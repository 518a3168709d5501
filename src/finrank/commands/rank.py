"""`finrank rank`: rank a file of pools line by line, and resume where an earlier run was cut off."""

from __future__ import annotations

import json
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finrank.commands.options import BaseModel, ModelOrHubId, Overwrite, Revision
from finrank.console import say, warn
from finrank.errors import UserError
from finrank.parallel import ray_map
from finrank.store import read_json, sha256, versions
from finrank.store.json_lines import BadLine, Line, name_of
from finrank.store.remote import anywhere
from finrank.store.result_files import Block, ResultFiles, open_results

if TYPE_CHECKING:
    from finrank.ranker.ranker import Ranker, Ranking

_COUNTS = ("ranked", "abstained", "rejected")

Input = Annotated[
    Path,
    typer.Option(
        "--input",
        help="JSON lines or Parquet, a path or a URL: pools as stages 02 and 03 write them, or objects with question, "
        "table, text and candidates (id optional, default: the line's number).",
    ),
]
Output = Annotated[
    Path,
    typer.Option("--output", help="What to write, JSON lines or Parquet: one per pool, in the order of the input."),
]
RayWorkers = Annotated[
    int | None,
    typer.Option("--ray_workers", help="Rank by so many workers of a Ray cluster (default: in this process)."),
]


@anywhere
def rank(
    model: ModelOrHubId,
    input_path: Input,
    output_path: Output,
    *,
    overwrite: Overwrite = False,
    revision: Revision = None,
    base_model: BaseModel = None,
    ray_workers: RayWorkers = None,
) -> dict[str, int]:
    """Rank the pools of a file: answers, most probable first.

    A line of the output: {"id", "answers": [{"answer", "probability", "score", "index", "indices", "programs"}, ...],
    "abstain"}, with "error" in an answer whose program has no value. "abstain" is true where even the first answer is
    less probable than the model's threshold.

    For --output ranked.jsonl, lines that cannot be ranked go to ranked.rejects.jsonl with their number and the reason,
    and ranked.jsonl.manifest.json says what the output was made from and how far it is. After an interruption the same
    command resumes where it stopped. With --ray_workers the lines are those of one process; a worker that dies is
    replaced, and its lines are ranked again.

    \b
    Example:
      finrank rank --model outputs/run_001 --input datasets/finqa_with_rewards/dev.jsonl --output ranked.jsonl
    """
    if not input_path.is_file():
        example = "datasets/finqa_with_rewards/dev.jsonl"
        raise UserError(f"no such file: {input_path}; expected JSON lines such as {example}")
    from finrank.ranker.hub import locate_model
    from finrank.ranker.saving import find_model

    model_dir = find_model(locate_model(model, revision=revision))
    made_with = ranked_with(model_dir, base_model)
    with open_results(input_path, output_path, "rank", made_with, overwrite=overwrite) as files:
        if files.complete:
            say(f"{name_of(output_path)} is complete ({_summary(files)}): nothing to do; --overwrite ranks again")
            return {name: files.counts[name] for name in _COUNTS}
        if files.lines:
            say(f"{name_of(output_path)}: resuming after line {files.lines} of {name_of(input_path)}")
        work = _BlockRanker(model, revision, base_model)
        if ray_workers is None:
            say(f"device: {work.ranker.device}; attention route: {work.ranker.route}")
            files.transform(partial(map, work), "ranking")
        else:
            with ray_map(work, ray_workers) as ranked:
                files.transform(ranked, "ranking")
        rejected = files.counts["rejected"]
        if rejected and not files.counts["ranked"]:
            lines = f"{rejected} lines of {name_of(input_path)}"
            raise UserError(f"not one of {lines} can be ranked: see {files.rejects.path}")
        say(f"{name_of(output_path)}: {_summary(files)}")
        if rejected:
            warn(f"{rejected} lines could not be ranked: see {name_of(files.rejects.path)}")
        return {name: files.counts[name] for name in _COUNTS}


def ranked_with(model_dir: Path, base_model: str | None) -> dict[str, str]:
    """Everything besides the input that decides the answers; the config holds the hashes of the model's parts."""
    import torch

    from finrank.ranker.choosing.chooser import CHOOSER
    from finrank.ranker.choosing.confidence import CONFIDENCE
    from finrank.ranker.saving import CONFIG

    try:
        configured = str(read_json(model_dir / CONFIG)["base_model"])
    except (OSError, ValueError, KeyError, TypeError):
        configured = "unknown"  # loading the model reports what is wrong with its config
    installed = versions("torch", "transformers")
    return {
        **{name: sha256(model_dir / name) for name in (CONFIG, CONFIDENCE, CHOOSER) if (model_dir / name).is_file()},
        "base model given": base_model or "none",
        "base model of the model": configured,
        **{name: installed[name] for name in ("finrank", "torch", "transformers")},
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }


class _BlockRanker:
    """Ranks blocks of lines. It goes to workers without the model, which each loads for itself."""

    def __init__(self, model: str, revision: str | None, base_model: str | None) -> None:
        self._model, self._revision, self._base_model = model, revision, base_model

    @cached_property
    def ranker(self) -> Ranker:
        from finrank.ranker.hub import locate_model
        from finrank.ranker.ranker import Ranker
        from finrank.ranker.saving import find_model

        folder = find_model(locate_model(self._model, revision=self._revision))
        return Ranker.from_pretrained(folder, base_model=self._base_model, merge=True)

    def __call__(self, block: list[Line]) -> Block:
        from finrank.ranker.requests import read_line

        ranker = self.ranker
        parsed = [read_line(line, ranker.prepare) for line in block]
        identifiers = [line[0] for line in parsed if not isinstance(line, BadLine)]
        pools = [line[1] for line in parsed if not isinstance(line, BadLine)]
        rankings = [ranker.ranking(pool, scores) for pool, scores in zip(pools, ranker.score(pools), strict=True)]
        ranker.warn_of_unlike(pools)
        return Block(
            [_encode(identifier, ranking) for identifier, ranking in zip(identifiers, rankings, strict=True)],
            [line for line in parsed if isinstance(line, BadLine)],
            {"ranked": len(rankings), "abstained": sum(ranking.abstain for ranking in rankings)},
        )


def _encode(identifier: str, ranking: Ranking) -> bytes:
    row = {"id": identifier, **ranking.as_json()}
    # A lone surrogate in a message cannot be UTF-8; JSON can name it.
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace") + b"\n"


def _summary(files: ResultFiles) -> str:
    ranked, abstained, rejected = (files.counts[name] for name in _COUNTS)
    return f"{ranked} ranked, {abstained} of them abstain, {rejected} rejected"
