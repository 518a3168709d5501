"""Options and default folders that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RAW = Path("datasets/finqa_raw")
PROCESSED = Path("datasets/finqa_processed")
CANDIDATES = Path("datasets/finqa_candidates")
REWARDED = Path("datasets/finqa_with_rewards")
OUTPUTS = Path("outputs")
MINILM = Path("configs/models/minilm.yaml")

Seed = Annotated[int, typer.Option("--seed", help="Seed: the same seed and input produce the same files.")]
Workers = Annotated[
    int, typer.Option("--workers", help="Processes at work (0: one per core); the files do not depend on it.")
]
Split = Annotated[str, typer.Option("--split", help="Which split: train, selection, dev or test.")]
FiguresJson = Annotated[Path | None, typer.Option("--json", help="Write all figures as JSON to this file.")]
RewardedPools = Annotated[Path, typer.Option("--data", help="Rewarded pools (output of stage 03).")]
Control = Annotated[
    Path | None,
    typer.Option(
        "--candidate_only",
        help="A model trained with --candidate_only, compared with this one (default: the newest run next to it on the "
        "same data).",
    ),
]
WantedAccuracy = Annotated[
    float,
    typer.Option(
        "--wanted_accuracy", help="Accuracy (0-1) of the answers above the threshold below which ranking abstains."
    ),
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
    str | None,
    typer.Option("--base_model", help="Other base weights than config or model name: a local folder or hub id."),
]
ModelOrHubId = Annotated[
    str,
    typer.Option(
        "--model",
        help="A run (outputs/run_001), a stage directory, a model folder, a hub id, or finqa-minilm, the ready-made "
        "model.",
    ),
]
Revision = Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit of a hub id (default: main).")]
Config = Annotated[
    Path,
    typer.Option(
        "--config",
        help="Training config: the name of a shipped one (minilm, smollm2-135m, qwen3-0.6b, llama-3-8b) or a YAML file "
        "(keys: docs/configuration.md).",
    ),
]
InputDir = Annotated[Path, typer.Option("--input_dir", help="Output of stage 03.")]
OutputDir = Annotated[Path, typer.Option("--output_dir", help="Folder in which the run gets its own, run_NNN.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value over the config, such as trainer.max_steps=100; repeatable."),
]
QuickTest = Annotated[
    bool,
    typer.Option(
        "--quick_test", help="Go through every step on a handful of questions: a test of the setup, no useful model."
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue the newest unfinished run of OUTPUT_DIR from its last checkpoint.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Start over, whatever the output holds (default: resume).")
]
