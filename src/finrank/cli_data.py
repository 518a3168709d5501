"""The commands that make data: raw files to rewarded pools, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finrank.commands.options import CANDIDATES, PROCESSED, REWARDED, Seed, Workers


def candidates(
    input_dir: Annotated[Path, typer.Option("--input_dir", help="Output of stage 01.")] = PROCESSED,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Stage directory to write.")] = CANDIDATES,
    num_candidates: Annotated[
        int, typer.Option("--num_candidates", help="Candidates per question, the gold program among them (from 2).")
    ] = 8,
    corruption_rate: Annotated[
        float,
        typer.Option(
            "--corruption_rate",
            help="Chance r of a further edit after each (0 <= r < 1): 1/(1-r) edits on average between neighbours of "
            "the tree along which candidates grow. Low rates give near misses, high rates far ones.",
        ),
    ] = 0.5,
    failing_share: Annotated[
        float, typer.Option("--failing_share", help="Share of wrong candidates that fail to execute (0 to below 1).")
    ] = 0.02,
    train_pools: Annotated[
        int, typer.Option("--train_pools", help="Pools per train question, each with wrong candidates of its own.")
    ] = 1,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Stage 02: pools of the gold program and wrong ones.

    Wrong candidates are made from the gold program, and look like gold ones; the order is shuffled. Writes the same
    splits as stage 01, rejects.jsonl and manifest.json.

    \b
    Example:
      finrank candidates --num_candidates 8 --corruption_rate 0.5
    """
    from finrank.commands import candidates as stage

    stage.run(
        input_dir,
        output_dir,
        num_candidates=num_candidates,
        corruption_rate=corruption_rate,
        failing_share=failing_share,
        train_pools=train_pools,
        seed=seed,
        workers=workers,
    )


def rewards(
    input_dir: Annotated[Path, typer.Option("--input_dir", help="Output of stage 02.")] = CANDIDATES,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Stage directory to write.")] = REWARDED,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="YAML with the weights of the parts (default: closeness 0.5, operations 0.3, execution 0.2).",
        ),
    ] = None,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Stage 03: a reward in [0, 1] for every candidate.

    Correct ones get 1.0, others at most 0.5, programs that fail 0. Writes the same splits as stage 02, rejects.jsonl
    and manifest.json.

    \b
    Example:
      finrank rewards --input_dir datasets/finqa_candidates --output_dir datasets/finqa_with_rewards
    """
    from finrank.commands import rewards as stage
    from finrank.pools.rewards import load_weights

    stage.run(input_dir, output_dir, weights=load_weights(config) if config else None, seed=seed, workers=workers)
