"""`finrank serve`: a trained model over HTTP."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from finrank.commands.options import BaseModel, ModelOrHubId, Revision
from finrank.console import say

Host = Annotated[
    str, typer.Option("--host", help="Address to listen on; other than loopback needs FINRANK_API_KEY to be set.")
]
Port = Annotated[int, typer.Option("--port", help="Port (0: a free one, which is printed).")]
Name = Annotated[str | None, typer.Option("--name", help="How answers name the model (default: its folder or hub id).")]
MaxBodyKib = Annotated[int, typer.Option("--max_body_kib", min=1, help="KiB of a request's body.")]
MaxCandidates = Annotated[int, typer.Option("--max_candidates", min=1, help="Candidates of a request.")]
MaxCharacters = Annotated[int, typer.Option("--max_characters", min=1, help="Characters of its texts.")]
MaxParts = Annotated[int, typer.Option("--max_parts", min=1, help="Rows, cells and sentences of its page.")]
MaxTokens = Annotated[
    int, typer.Option("--max_tokens", min=1, help="Tokens of a request: its prefix once and all candidates.")
]
MaxConnections = Annotated[
    int, typer.Option("--max_connections", min=16, help="Open connections, three quarters of them from one address.")
]
MaxWaiting = Annotated[int, typer.Option("--max_waiting", min=1, help="Requests at once, those being scored included.")]
Timeout = Annotated[
    float, typer.Option("--timeout_s", min=0.001, help="Seconds from a request's first byte to its answer.")
]
BatchTokens = Annotated[
    int,
    typer.Option(
        "--batch_tokens",
        min=1,
        help="Tokens of concurrent requests that are scored together: 2048 fill a CPU, 32768 a GPU.",
    ),
]


def serve(
    model: ModelOrHubId,
    *,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    name: Name = None,
    max_body_kib: MaxBodyKib = 1024,
    max_candidates: MaxCandidates = 256,
    max_characters: MaxCharacters = 200_000,
    max_parts: MaxParts = 10_000,
    max_tokens: MaxTokens = 16384,
    max_waiting: MaxWaiting = 256,
    max_connections: MaxConnections = 1024,
    timeout_s: Timeout = 30.0,
    batch_tokens: BatchTokens = 2048,
    revision: Revision = None,
    base_model: BaseModel = None,
) -> None:
    """Serve a model over HTTP, with a page to try it.

    POST /v1/rank, /v1/rerank, /rerank and /v2/rerank; the page is at /, the description of the endpoints at /docs.

    A request over a limit gets a 4xx, 503 or 504 that says which. SIGTERM or Ctrl-C lets the server finish what it has
    accepted. If FINRANK_API_KEY is set, clients must send it: Authorization: Bearer KEY; else only localhost is served.

    \b
    Example:
      finrank serve --model outputs/run_001 --port 8000
    """
    from finrank.serving.access import KEY_VARIABLE, read_key
    from finrank.serving.app import make_app
    from finrank.serving.limits import Limits
    from finrank.serving.server import DrainingServer, bind, on_passing_thread

    limits = Limits(
        body_bytes=max_body_kib * 1024,
        candidates=max_candidates,
        characters=max_characters,
        parts=max_parts,
        tokens=max_tokens,
        waiting=max_waiting,
        connections=max_connections,
        seconds=timeout_s,
        batch_tokens=batch_tokens,
    )
    key = read_key(host, os.environ)
    with bind(host, port) as opened:  # before the model is loaded, which takes longer to fail
        from finrank.ranker.ranker import Ranker

        load = partial(Ranker.from_pretrained, model, revision=revision, base_model=base_model, merge=True)
        ranker = on_passing_thread(load)
        name = name or (Path(model).resolve().name if Path(model).is_dir() else model)
        server = DrainingServer(app := make_app(ranker, name, limits, key))
        url = f"http://{f'[{host}]' if ':' in host else host}:{opened.getsockname()[1]}"
        say(f"{name} is served on {url} (page: /, endpoints: /docs); Ctrl-C stops it")
        say(f"device: {ranker.device}; attention route: {ranker.route}")
        say(f"key: {f'clients send {KEY_VARIABLE}' if key else 'none needed, only this machine can reach the server'}")
        say(f"limits: {limits}\nmetrics: {app.state.metrics}")
        server.run(sockets=[opened])
    say("stopped")
