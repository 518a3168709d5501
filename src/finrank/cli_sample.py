"""The command that makes pools of what a generating model writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from finrank.commands.options import PROCESSED, BaseModel, Seed
from finrank.errors import UserError

SAMPLED = Path("datasets/finqa_sampled")

Model = Annotated[
    str,
    typer.Option(
        "--model", help="A generator (a run, its stage directory or model folder); with --endpoint a model's name."
    ),
]
Endpoint = Annotated[
    str | None,
    typer.Option("--endpoint", help="URL of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1."),
]
Questions = Annotated[
    Path, typer.Option("--input_dir", help="Questions: output of stage 01 (pools of any stage serve as well).")
]
Output = Annotated[Path, typer.Option("--output_dir", help="Stage directory to write.")]
NumCandidates = Annotated[int, typer.Option("--num_candidates", help="Completions per question.")]
Temperature = Annotated[
    float, typer.Option("--temperature", help="0: always the likeliest token; higher: more varied.")
]
TopP = Annotated[float, typer.Option("--top_p", help="Draw from the likeliest tokens of this total probability (0-1).")]
Splits = Annotated[
    list[str] | None, typer.Option("--split", help="train, selection, dev or test; repeatable (default: all).")
]
Limit = Annotated[
    int | None, typer.Option("--limit", help="Only the first questions of each split, for a first try (default: all).")
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max_tokens", help="Endpoint: tokens of a completion (0: none is sent, the server's own limit; default: 512)."
    ),
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option(
        "--api_key_env", help="Endpoint: the environment variable that holds the key (default: OPENAI_API_KEY)."
    ),
]
Concurrency = Annotated[int | None, typer.Option("--concurrency", help="Endpoint: questions at a time (default: 4).")]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Endpoint: seconds for each attempt (default: 120).")]
MaxRetries = Annotated[
    int | None,
    typer.Option(
        "--max_retries", help="Endpoint: further attempts at a request, with longer and longer waits (default: 6)."
    ),
]
MaxFailures = Annotated[
    int | None,
    typer.Option(
        "--max_failures",
        help="Endpoint: stop after so many questions in a row without an answer, if one answered before gets none "
        "either (0: leave them out; default: 5).",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Ask for everything again, whatever is there (default: go on).")
]


def sample(
    model: Model,
    endpoint: Endpoint = None,
    input_dir: Questions = PROCESSED,
    output_dir: Output = SAMPLED,
    num_candidates: NumCandidates = 8,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    split: Splits = None,
    limit: Limit = None,
    base_model: BaseModel = None,
    max_tokens: MaxTokens = None,
    api_key_env: ApiKeyEnv = None,
    concurrency: Concurrency = None,
    timeout: Timeout = None,
    max_retries: MaxRetries = None,
    max_failures: MaxFailures = None,
    overwrite: Overwrite = False,
) -> None:
    """Pools of what a generating model answers.

    Its completions are read as programs and executed; gold is never put in. Writes the same splits as its input,
    rejects.jsonl with all that could not be read, and manifest.json; stage 03 rewards the pools where gold is known.

    What was received is kept in OUTPUT_DIR.journal.jsonl until the output is whole: after an interruption the same
    command goes on where it stopped, and asks for nothing twice.

    \b
    Example:
      finrank sample --model outputs/run_002 --num_candidates 8
      finrank sample --endpoint http://127.0.0.1:8000/v1 --model my-llm --split dev --limit 20
    """
    from finrank.sampling import gather as stage
    from finrank.sampling.askers import EndpointOptions, Sampling

    asking = {
        "max_tokens": max_tokens,
        "api_key_env": api_key_env,
        "concurrency": concurrency,
        "timeout": timeout,
        "max_retries": max_retries,
    }
    given: dict[str, Any] = {name: value for name, value in asking.items() if value is not None}
    stopping = {} if max_failures is None else {"max_failures": max_failures}
    if endpoint is None and (given or stopping):
        flag = next(iter({**given, **stopping}))
        raise UserError(f"--{flag} belongs to --endpoint: a generator in a folder knows no such thing")
    stage.run(
        input_dir,
        output_dir,
        model=model,
        endpoint=None if endpoint is None else EndpointOptions(endpoint, **given),
        sampling=Sampling(num_candidates, temperature, top_p, seed),
        splits=split,
        limit=limit,
        base_model=base_model,
        **stopping,
        overwrite=overwrite,
    )
