"""`finrank audit`: how often attackers that see neither question nor page find gold in a split of pools.

Attackers learn on the train split of the same folder. Where there is none, or it is the audited one, they are fitted on
some of the audited pages and measured on the others.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finrank.commands.options import MINILM, REWARDED, FiguresJson, Split
from finrank.console import say, warn
from finrank.errors import UserError
from finrank.records import Pool, RewardedPool
from finrank.store import available_splits, load_records, refuse_earlier_stage, split_files, write_json
from finrank.store.json_lines import read_lines

if TYPE_CHECKING:
    from finrank.evaluation.audit.audit import AuditResult
    from finrank.evaluation.metrics import Metric

TRAIN, SKIP = "train", "skip"
_MEMORY_ADVICE = (
    "Training the control takes the most: lower tokens_per_pass and batch_size in a copy of its config and pass "
    "that with --config, or leave the control out with --candidate_only skip"
)


def audit(
    input_dir: Annotated[
        Path, typer.Option("--input_dir", help="Pools with rewards or without (output of stage 02 or 03).")
    ] = REWARDED,
    *,
    split: Split = "dev",
    json_path: FiguresJson = None,
    candidate_only: Annotated[
        str,
        typer.Option(
            "--candidate_only",
            help="train: train a model that sees neither question nor page for an epoch (minutes); skip; or the "
            "folder of one trained before.",
        ),
    ] = TRAIN,
    config: Annotated[
        Path,
        typer.Option("--config", help="Training config of that model: the name of a shipped one or a YAML file."),
    ] = MINILM,
    seed: Annotated[int, typer.Option("--seed", help="Seed of folds, training and bootstrap.")] = 0,
) -> AuditResult:
    """Find out what pools reveal to attackers that cannot read.

    Prints how often attackers that see neither question nor page find the gold program, and the cues they use.

    \b
    Example:
      finrank audit --input_dir datasets/finqa_with_rewards --split dev --candidate_only skip
    """
    from finrank.evaluation.audit.audit import audit_pools, findings, print_audit

    splits = available_splits(input_dir, expected="finqa_with_rewards")
    audited = split_files(input_dir, [split])[split]
    refuse_earlier_stage([audited], "finqa_candidates")
    pools = _load_pools(audited)
    train = _train_pools(input_dir, splits, split, pools)
    why_not = _why_no_control(input_dir, splits, split, candidate_only)
    control = None if why_not else _control(input_dir, pools, split, candidate_only, config, seed)
    result = audit_pools(pools, train, seed=seed, candidate_only=control)
    fitted_on = f"other pages of {split} (cross-fitted)" if train is None else "train"
    try:
        if json_path is not None:
            facts = {"data": str(input_dir), "split": split, "seed": seed, "fitted_on": fitted_on}
            write_json(json_path, {**result.as_json(), **facts, "no_candidate_only": why_not})
    finally:
        print_audit(result, title=f"{split}: {result.n} pools, {result.unanswerable} without a correct candidate")
        say(f"attackers fitted on: {fitted_on}")
        if why_not:
            say(f"candidate-only control: none, because {why_not}")
        for sentence in findings(result):
            warn(sentence)
    if json_path is not None:
        say(f"figures: {json_path}")
    return result


def _load_pools(path: Path) -> Sequence[Pool]:
    return load_records(path, RewardedPool if _is_rewarded(path) else Pool)


def _is_rewarded(path: Path) -> bool:
    first = next((line.content for line in read_lines(path)), b"{}")
    try:
        return "rewards" in json.loads(first)
    except (ValueError, TypeError):
        return False  # load_records names the fault


def _train_pools(input_dir: Path, splits: Sequence[str], split: str, pools: Sequence[Pool]) -> Sequence[Pool] | None:
    """The train pools of other pages than the audited ones; None where attackers must be cross-fitted."""
    if split == "train" or "train" not in splits:
        return None
    audited = {pool.page for pool in pools}
    train = _load_pools(input_dir / "train.jsonl")
    others = [pool for pool in train if pool.page not in audited]
    if len(others) < len(train):
        warn(f"{len(train) - len(others)} train pools are of pages that {split} has too: the attackers do not see them")
    return others or None


def _why_no_control(input_dir: Path, splits: Sequence[str], split: str, candidate_only: str) -> str | None:
    if candidate_only == SKIP:
        return "it was skipped"
    missing = [f"no {name}.jsonl" for name in ("train", "selection") if name not in splits]
    if candidate_only == TRAIN and split == "train":
        return "it would be trained on the audited pools"
    if candidate_only == TRAIN and missing:
        return f"{input_dir} has {' and '.join(missing)} to train it with"
    return None


def _control(
    input_dir: Path, pools: Sequence[Pool], split: str, candidate_only: str, config: Path, seed: int
) -> Metric:
    """The outcome of the candidate-only control per audited pool; pools that stage 03 rejects have no weight."""
    import numpy as np

    from finrank.commands.rewards import rewards
    from finrank.evaluation.audit.attackers import accuracies
    from finrank.evaluation.metrics import Metric
    from finrank.ranker.saving import find_model, load_model, read_settings
    from finrank.ranker.scoring import score_records
    from finrank.training.memory import explain_out_of_memory

    with tempfile.TemporaryDirectory(prefix="finrank-audit-") as folder, explain_out_of_memory(advice=_MEMORY_ADVICE):
        data = input_dir
        if not _is_rewarded(input_dir / f"{split}.jsonl"):
            data = Path(folder) / "rewarded"
            rewards(input_dir, data)
        trained = candidate_only == TRAIN
        model_dir = find_model(_train_control(data, config, Path(folder), seed) if trained else Path(candidate_only))
        if not read_settings(model_dir).prompt.candidate_only:
            raise UserError(
                f"{model_dir} reads question and page; pass a control, trained with: "
                "finrank sft --config minilm --candidate_only"
            )
        rewarded = load_records(data / f"{split}.jsonl", RewardedPool)
        outcomes = accuracies(rewarded, score_records(load_model(model_dir), rewarded, "scoring control"))
    outcome_of = dict(zip([pool.id for pool in rewarded], outcomes.tolist(), strict=True))
    values = np.array([outcome_of.get(pool.id, 0.0) for pool in pools])
    return Metric(values, np.array([float(pool.id in outcome_of) for pool in pools]))


def _train_control(data: Path, config: Path, folder: Path, seed: int) -> Path:
    """Train the control on train for one epoch, as stage 04 does; returns its stage directory."""
    from finrank.commands.sft import sft

    say("training the candidate-only control for one epoch, for some minutes (--candidate_only skip leaves it out)")
    seen = folder / "seen"
    seen.mkdir()
    for name in ("train", "selection"):  # stage 04 would evaluate on dev too, for nothing
        (seen / f"{name}.jsonl").symlink_to((data / f"{name}.jsonl").resolve())
    overrides = ["trainer.num_train_epochs=1", f"seed={seed}"]
    stage = sft(config, seen, folder / "outputs", overrides=overrides, candidate_only=True)
    say("the control is trained; its folder is a temporary one and is removed with it")
    return stage
