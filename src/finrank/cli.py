"""The `finrank` command: arguments and messages only; every command calls one stage.

The numbered scripts at the repository's root call `run_script` and take the same flags.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from finrank.store import UserError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Choose the right answer to a question about a financial report from a pool of candidates.",
)

RAW = Path("datasets/finqa_raw")
PROCESSED = Path("datasets/finqa_processed")
CANDIDATES = Path("datasets/finqa_candidates")
REWARDED = Path("datasets/finqa_with_rewards")
OUTPUTS = Path("outputs")
MINILM = Path("configs/models/minilm.yaml")

Seed = Annotated[int, typer.Option("--seed", help="Seed: the same seed and input give the same files.")]
Workers = Annotated[
    int, typer.Option("--workers", help="Processes at work (0: one per core); the files do not depend on it.")
]
Split = Annotated[str, typer.Option("--split", help="train, selection, dev or test.")]
FiguresJson = Annotated[Path | None, typer.Option("--json", help="Write all figures as JSON to this file.")]
RewardedPools = Annotated[Path, typer.Option("--data", help="Rewarded pools (output of stage 03).")]
Control = Annotated[
    Path | None,
    typer.Option(
        "--candidate_only",
        help="A model trained with --candidate_only, set beside this one (default: the newest run beside it on the "
        "same data).",
    ),
]
WantedAccuracy = Annotated[
    float, typer.Option("--wanted_accuracy", help="Accuracy of the threshold below which ranking abstains.")
]
SaveConfidence = Annotated[
    bool,
    typer.Option(
        "--save_confidence/--no-save_confidence",
        help="Write temperature, threshold and model card into the model folder (from dev or selection only).",
    ),
]
EvaluationSeed = Annotated[int, typer.Option("--seed", help="Seed of bootstrap, paired test and calibration halves.")]
BaseModel = Annotated[
    str | None, typer.Option("--base_model", help="Another place for the base weights: local folder or hub id.")
]


@app.command()
def check(
    input_dir: Annotated[Path, typer.Option("--input_dir", help="Folder with train.json, dev.json, test.json.")] = RAW,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON to this file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too.")] = False,
    config: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            help="A model config for which to report what of the gold operands reaches the model; repeatable (default: "
            "all in configs/models; none: skip it).",
        ),
    ] = None,
) -> None:
    """Stage 00: read every example and report what is wrong with it; exit 1 with errors."""
    from finrank.stages import check as stage

    configs = [Path(name) for name in config or [] if name != "none"]
    if config is None:
        configs = sorted(MINILM.parent.glob("*.yaml"))
    raise typer.Exit(stage.run(input_dir, json_path=json_path, strict=strict, configs=configs))


@app.command()
def prepare(
    input_dir: Annotated[Path, typer.Option("--input_dir", help="Folder with train.json, dev.json, test.json.")] = RAW,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Stage directory to write.")] = PROCESSED,
    selection_share: Annotated[
        float, typer.Option("--selection_share", help="Share of train pages kept apart for choosing checkpoints (0-1).")
    ] = 0.1,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Stage 01: official files to questions, split by page."""
    from finrank.stages import prepare as stage

    stage.run(input_dir, output_dir, selection_share=selection_share, seed=seed, workers=workers)


@app.command()
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
    """Stage 02: pools of the gold program and corrupted ones, in shuffled order."""
    from finrank.stages import candidates as stage

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


@app.command()
def rewards(
    input_dir: Annotated[Path, typer.Option("--input_dir", help="Output of stage 02.")] = CANDIDATES,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Stage directory to write.")] = REWARDED,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="YAML with the weights closeness, operations, execution (0.5, 0.3, 0.2)."),
    ] = None,
    seed: Seed = 0,
    workers: Workers = 1,
) -> None:
    """Stage 03: a reward in [0, 1] for every candidate: correct 1.0, others at most 0.5, failures 0."""
    from finrank.rewards import load_weights
    from finrank.stages import rewards as stage

    stage.run(input_dir, output_dir, weights=load_weights(config) if config else None, seed=seed, workers=workers)


@app.command()
def sft(
    config: Annotated[Path, typer.Option("--config", help="Training config, such as configs/models/minilm.yaml.")],
    input_dir: Annotated[Path, typer.Option("--input_dir", help="Output of stage 03.")] = REWARDED,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Parent of run_NNN.")] = OUTPUTS,
    base_model: BaseModel = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the config, repeatable: trainer.max_steps=100.")
    ] = None,
    candidate_only: Annotated[
        bool,
        typer.Option("--candidate_only", help="Hide question, page and labels: measures what pools give away."),
    ] = False,
    init_model: Annotated[
        Path | None,
        typer.Option("--init_model", help="Start from this trained model's adapters and head (same base and LoRA)."),
    ] = None,
    quick_test: Annotated[bool, typer.Option("--quick_test", help="The whole path on a handful of questions.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the newest unfinished run.")] = False,
) -> None:
    """Stage 04: train the ranking model; writes run_NNN/04_sft/{best_model,final_model,training_manifest.json}."""
    from finrank.stages import sft as stage

    stage.run(
        config,
        input_dir,
        output_dir,
        base_model=base_model,
        overrides=overrides,
        candidate_only=candidate_only,
        init_model=init_model,
        quick_test=quick_test,
        resume=resume,
    )


@app.command()
def evaluate(
    model: Annotated[Path, typer.Option("--model", help="A run, a stage directory or a model folder.")],
    data: RewardedPools = REWARDED,
    split: Split = "dev",
    json_path: FiguresJson = None,
    candidate_only: Control = None,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="A second model, compared on the same pools by a paired test.")
    ] = None,
    html_path: Annotated[Path | None, typer.Option("--html", help="Write the report as one HTML file.")] = None,
    predictions_out: Annotated[
        Path | None, typer.Option("--predictions_out", help="Write the picks as the official evaluator reads them.")
    ] = None,
    wanted_accuracy: WantedAccuracy = 0.9,
    save_confidence: SaveConfidence = True,
    base_model: BaseModel = None,
    seed: EvaluationSeed = 0,
) -> None:
    """Evaluate a saved model beside its baselines: figures, bias, breakdowns, mistakes, confidence."""
    from finrank.stages import evaluate as stage

    stage.run(
        model,
        data,
        split=split,
        json_path=json_path,
        html_path=html_path,
        predictions_path=predictions_out,
        candidate_only_dir=candidate_only,
        compare_dir=compare,
        wanted_accuracy=wanted_accuracy,
        save_confidence=save_confidence,
        base_model=base_model,
        seed=seed,
    )


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run, a stage directory or a model folder.")],
    data: RewardedPools = REWARDED,
    split: Split = "dev",
    html_path: Annotated[
        Path | None, typer.Option("--html", help="File to write (default: report.html in the run).")
    ] = None,
    json_path: FiguresJson = None,
    candidate_only: Control = None,
    wanted_accuracy: WantedAccuracy = 0.9,
    save_confidence: SaveConfidence = True,
    base_model: BaseModel = None,
    seed: EvaluationSeed = 0,
) -> None:
    """Evaluate a run's model, and write an HTML report and the model card."""
    from finrank.stages import report as stage

    stage.run(
        run_dir,
        data,
        split=split,
        html_path=html_path,
        json_path=json_path,
        candidate_only_dir=candidate_only,
        wanted_accuracy=wanted_accuracy,
        save_confidence=save_confidence,
        base_model=base_model,
        seed=seed,
    )


@app.command("import")
def import_predictions(
    predictions: Annotated[
        list[Path],
        typer.Option("--predictions", help="JSONL or official prediction file; several: one after the other."),
    ],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Stage directory to write.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="More prediction files.")] = None,
    data: Annotated[Path, typer.Option("--data", help="Questions (output of stage 01), or pools.")] = PROCESSED,
    split: Annotated[str | None, typer.Option("--split", help="Questions of this split alone (default: all).")] = None,
    seed: Seed = 0,
) -> None:
    """Outputs of any systems to pools, as stage 02 writes them; stage 03 comes next."""
    from finrank.stages import import_predictions as stage

    stage.run([*predictions, *(more or [])], data, output_dir, split=split, seed=seed)


@app.command("score-predictions")
def score_predictions(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Predictions in the official FinQA format.")],
    data: Annotated[Path, typer.Option("--data", help="Questions (output of stage 01), or pools.")] = PROCESSED,
    split: Split = "dev",
    json_path: FiguresJson = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")] = 0,
) -> None:
    """Execution accuracy and program accuracy of a prediction file, with intervals over pages."""
    from finrank.stages import score_predictions as stage

    stage.run(file, data, split=split, json_path=json_path, seed=seed)


@app.command()
def audit(
    input_dir: Annotated[
        Path, typer.Option("--input_dir", help="Pools with rewards or without (output of stage 02 or 03).")
    ] = REWARDED,
    split: Split = "dev",
    json_path: FiguresJson = None,
    candidate_only: Annotated[
        str,
        typer.Option(
            "--candidate_only",
            help="train: train a model that sees neither question nor page for an epoch (minutes); skip; or the "
            "folder of one trained before.",
        ),
    ] = "train",
    config: Annotated[
        Path, typer.Option("--config", help="Training config of that model (--candidate_only train).")
    ] = MINILM,
    seed: Annotated[int, typer.Option("--seed", help="Seed of folds, training and bootstrap.")] = 0,
) -> None:
    """How often attackers that see neither question nor page find gold: what the pools give away."""
    from finrank.stages import audit as stage

    stage.run(
        input_dir,
        split=split,
        json_path=json_path,
        candidate_only=candidate_only,
        config_path=config,
        seed=seed,
    )


@app.command("sample-data")
def sample_data(
    output_dir: Annotated[
        Path, typer.Option("--output_dir", help="Folder to write train, dev and test.json to.")
    ] = RAW,
    train: Annotated[int, typer.Option("--train", help="Train questions.")] = 600,
    dev: Annotated[int, typer.Option("--dev", help="Dev questions.")] = 150,
    test: Annotated[int, typer.Option("--test", help="Test questions.")] = 150,
    seed: Seed = 0,
) -> None:
    """Write the embedded sample: made-up report pages and questions in the official layout."""
    from finrank.stages import sample_data as stage

    stage.run(output_dir, train=train, dev=dev, test=test, seed=seed)


@app.command()
def download(
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write the official files to.")] = RAW,
) -> None:
    """Fetch the official FinQA files (needs a network)."""
    from finrank.sources.download import download as fetch

    fetch(output_dir)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command; a `UserError` is printed without a traceback and exits with 2."""
    # A terminated stage must clean up as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app(args=arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def run_script(command: str) -> NoReturn:
    """Run a command with the arguments of a numbered script."""
    main([command, *sys.argv[1:]])
