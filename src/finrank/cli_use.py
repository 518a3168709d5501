"""The commands that use a trained model, and the one that says whether it can be used here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finrank.commands.options import BaseModel, ModelOrHubId


def rank(
    model: ModelOrHubId,
    input_path: Annotated[
        Path,
        typer.Option(
            "--input",
            help="JSON lines: pools as stages 02 and 03 write them, or objects with question, table, text and "
            "candidates (id optional, default: the line's number).",
        ),
    ],
    output_path: Annotated[
        Path,
        typer.Option("--output", help="JSON lines to write, one per pool, in the order of the input."),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start over, whatever the output holds (default: go on behind it).")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit of a hub id (default: main).")
    ] = None,
    base_model: BaseModel = None,
) -> None:
    """Rank the pools of a file: answers, most probable first.

    A line of the output: {"id", "answers": [{"answer", "probability", "score", "index", "indices", "programs"}, ...],
    "abstain"}, with "error" in an answer whose program has no value. "abstain" is true where even the first answer is
    less probable than the model's threshold.

    For --output ranked.jsonl, lines that cannot be ranked go to ranked.rejects.jsonl with their number and the reason,
    and ranked.jsonl.manifest.json says what the output was made from and how far it is. After an interruption the same
    command goes on where it stopped.

    \b
    Example:
      finrank rank --model outputs/run_001 --input datasets/finqa_with_rewards/dev.jsonl --output ranked.jsonl
    """
    from finrank.commands import rank as stage

    stage.run(model, input_path, output_path, overwrite=overwrite, revision=revision, base_model=base_model)


def serve(
    model: ModelOrHubId,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on; other than loopback needs FINRANK_API_KEY to be set."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port (0: a free one, which is printed).")] = 8000,
    name: Annotated[
        str | None, typer.Option("--name", help="How answers name the model (default: its folder or hub id).")
    ] = None,
    max_body_kib: Annotated[int, typer.Option("--max_body_kib", min=1, help="KiB of a request's body.")] = 1024,
    max_candidates: Annotated[int, typer.Option("--max_candidates", min=1, help="Candidates of a request.")] = 256,
    max_characters: Annotated[int, typer.Option("--max_characters", min=1, help="Characters of its texts.")] = 200_000,
    max_tokens: Annotated[
        int, typer.Option("--max_tokens", min=1, help="Tokens of a request: its prefix once and all candidates.")
    ] = 16384,
    max_waiting: Annotated[
        int, typer.Option("--max_waiting", min=1, help="Requests at once, those being scored included.")
    ] = 256,
    timeout_s: Annotated[
        float, typer.Option("--timeout_s", min=0.001, help="Seconds from a request's first byte to its answer.")
    ] = 30.0,
    batch_tokens: Annotated[
        int,
        typer.Option(
            "--batch_tokens",
            min=1,
            help="Tokens of concurrent requests that are scored together: 2048 fill a CPU, 32768 a GPU.",
        ),
    ] = 2048,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit of a hub id (default: main).")
    ] = None,
    base_model: BaseModel = None,
) -> None:
    """Serve a model over HTTP, with a page to try it.

    POST /v1/rank, /v1/rerank, /rerank and /v2/rerank; the page is at /, the description of the routes at /docs.

    A request over a limit gets a 4xx, 503 or 504 that says which. SIGTERM or Ctrl-C lets the server finish what it has
    accepted. With FINRANK_API_KEY in the environment clients must send it: Authorization: Bearer KEY.

    \b
    Example:
      finrank serve --model outputs/run_001 --port 8000
    """
    from finrank.serving.limits import Limits
    from finrank.serving.server import serve as run

    limits = Limits(
        body_bytes=max_body_kib * 1024,
        candidates=max_candidates,
        characters=max_characters,
        tokens=max_tokens,
        waiting=max_waiting,
        seconds=timeout_s,
        batch_tokens=batch_tokens,
    )
    run(model, host=host, port=port, limits=limits, name=name, revision=revision, base_model=base_model)


def doctor(
    model: Annotated[
        str | None, typer.Option("--model", help="Check this trained model too: a run, a model folder or a hub id.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the findings as JSON to this file.")] = None,
) -> None:
    """Say what finrank finds here, and what is broken.

    Versions, device, dtypes, the attention route, whether the default model is there and intact, optional extras. Exit
    code 1 when something that finrank needs is missing or damaged, else 0.

    \b
    Example:
      finrank doctor --model outputs/run_001
    """
    from finrank.commands import doctor as stage

    raise typer.Exit(stage.run(model=model, json_path=json_path))
