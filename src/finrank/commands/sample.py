"""`finrank sample`: pools of a generating model's answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finrank.commands.options import PROCESSED, BaseModel, Seed
from finrank.console import say
from finrank.errors import UserError
from finrank.store.json_lines import name_of
from finrank.store.remote import anywhere

if TYPE_CHECKING:
    from finrank.sampling.askers import Asker
    from finrank.sampling.question_files import QuestionFiles

SAMPLED = Path("datasets/finqa_sampled")

Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        help="A generator (a run, its stage directory or model folder); with --endpoint a model's name. Of several "
        "generators, each question gets the first that did not see its page in training.",
    ),
]
Endpoint = Annotated[
    str | None, typer.Option("--endpoint", help="URL of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1.")
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
        help="Endpoint: stop after so many questions in a row without an answer (0: leave them out; default: 5).",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Ask for everything again, whatever is there (default: resume).")
]


@anywhere
def sample(
    models: Models,
    endpoint: Endpoint = None,
    input_dir: Questions = PROCESSED,
    output_dir: Output = SAMPLED,
    *,
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
) -> dict[str, Any]:
    """Pools of what a generating model answers.

    Its completions are read as programs and executed; gold is never put in. Writes the same splits as its input,
    rejects.jsonl with all that could not be read, and manifest.json; stage 03 rewards the pools where gold is known.

    What was received is kept in OUTPUT_DIR.journal.jsonl until the output is complete: after an interruption the same
    command resumes where it stopped, and asks for nothing twice.

    \b
    Example:
      finrank sample --model outputs/run_002 --num_candidates 8
      finrank sample --model outputs/run_003 --model outputs/run_004 --split train
      finrank sample --endpoint http://127.0.0.1:8000/v1 --model my-llm --split dev --limit 20
    """
    from finrank.sampling.askers import new_asker, warn_of_seen
    from finrank.sampling.policy import EndpointOptions, Sampling
    from finrank.sampling.question_files import QuestionFiles

    for_endpoints = {
        "max_tokens": max_tokens,
        "api_key_env": api_key_env,
        "concurrency": concurrency,
        "timeout": timeout,
        "max_retries": max_retries,
        "max_failures": max_failures,
    }
    given: dict[str, Any] = {name: value for name, value in for_endpoints.items() if value is not None}
    if endpoint is None and given:
        raise UserError(f"--{next(iter(given))} belongs to --endpoint: a generator in a folder has no such option")
    options = None if endpoint is None else EndpointOptions(endpoint, **given)
    questions = QuestionFiles(input_dir, split, limit)
    asker = new_asker(models, options, Sampling(num_candidates, temperature, top_p, seed), base_model)
    warn_of_seen(asker, questions.paths)
    arguments = {"input_dir": name_of(input_dir), "output_dir": name_of(output_dir), "model": ", ".join(models)}
    return _sample(asker, questions, output_dir, arguments, overwrite)


def _sample(
    asker: Asker, questions: QuestionFiles, output_dir: Path, arguments: dict[str, Any], overwrite: bool
) -> dict[str, Any]:
    """Fill the journal and make the pools; return the settings, the counts of each split and the tokens."""
    from finrank.records import Pool
    from finrank.sampling.collect import gather, print_summary, write_pools
    from finrank.sampling.journal import open_journal
    from finrank.store import StageWriter

    made_with = {**asker.made_with, "splits": list(questions.paths), "limit": questions.limit}
    writer = StageWriter[Pool](
        output_dir,
        stage="sample",
        arguments={**arguments, **made_with},
        seed=asker.sampling.seed,
        inputs=questions.paths.values(),
    )
    journal_path = writer.directory.with_name(f"{writer.directory.name}.journal.jsonl")
    if not overwrite and not journal_path.is_file() and (done := _finished(output_dir, questions, made_with)):
        say(f"{output_dir} is finished, with the same settings: nothing to do; --overwrite samples again")
        return done
    with open_journal(journal_path, asker.made_with, overwrite=overwrite) as journal:
        if not journal.is_empty:
            say(f"resuming with the completions in {journal.path}")
        reasons = gather(asker, questions, journal)
        result = write_pools(writer, questions, journal, asker.sampling, reasons, made_with)
        journal.remove()
    print_summary(result, writer.rejected, output_dir)
    return result


def _finished(output_dir: Path, questions: QuestionFiles, made_with: dict[str, Any]) -> dict[str, Any] | None:
    """The result of an earlier run on the same questions with the same settings, or None if nothing was sampled yet.

    Raises UserError if a result of other settings, which may have been paid for, would be replaced.
    """
    from finrank.store import MANIFEST, read_json, sha256
    from finrank.store.growing_file import difference

    try:
        manifest = read_json(output_dir / MANIFEST)
        result: dict[str, Any] = manifest["sample"]  # which other stages do not have
        before = {**result["made_with"], "input": manifest["inputs"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    now = {**made_with, "input": {path.name: sha256(path) for path in questions.paths.values()}}
    if before != now:
        advice = "choose another --output_dir, or replace it with --overwrite"
        changed = difference(before, now)
        raise UserError(f"{output_dir} holds what was sampled with other settings: {changed}; {advice}")
    return result
