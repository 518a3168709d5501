"""Audit a split of pools: how often attackers that see neither question nor page find gold.

Takes pools of stage 02 or of stage 03. What an attacker learns, it learns on the train split of the same folder, and
never on the pages it is measured on: where there is no train split, or it is the audited one, attackers are fitted
on some of its pages and measured on the others.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finrank.console import say, warn
from finrank.errors import UserError
from finrank.evaluation.audit.attackers import accuracies
from finrank.evaluation.audit.audit import audit_pools, findings, print_audit
from finrank.evaluation.metrics import FloatArray, Metric
from finrank.records import Pool, RewardedPool
from finrank.store import available_splits, load_records, split_files, write_json

TRAIN, SKIP = "train", "skip"


def run(
    input_dir: Path,
    *,
    split: str = "dev",
    json_path: Path | None = None,
    candidate_only: str = TRAIN,
    config_path: Path = Path("configs/models/minilm.yaml"),
    seed: int = 0,
) -> dict[str, Any]:
    """Print the table and what the pools give away, write the figures as JSON, and give them.

    `candidate_only` is "train" (train the control here, for one epoch of `config_path`), "skip", or the folder of a
    control trained before. Raises UserError for a missing split, a bad line, or a model that is no control.
    """
    splits = available_splits(input_dir, expected="finqa_with_rewards")
    pools = load_pools(split_files(input_dir, [split])[split])
    train = _train_pools(input_dir, splits, split, pools)
    control, why_not = _control(input_dir, splits, split, pools, candidate_only, config_path, seed)
    result = audit_pools(pools, train, seed=seed, candidate_only=control)
    facts = {
        "data": str(input_dir),
        "split": split,
        "seed": seed,
        "fitted_on": f"other pages of {split} (cross-fitted)" if train is None else "train",
        "no_candidate_only": why_not,
    }
    print_audit(result, title=f"{split}: {result['n']} pools, {result['unanswerable']} without a correct candidate")
    say(f"attackers fitted on: {facts['fitted_on']}")
    if why_not:
        say(f"candidate-only control: none, because {why_not}")
    for sentence in findings(result):
        warn(sentence)
    if json_path is not None:
        write_json(json_path, {**result, **facts})
        say(f"figures: {json_path}")
    return result


def load_pools(path: Path) -> Sequence[Pool]:
    """The pools of a split, with rewards where the file has them; the first bad line raises UserError."""
    return load_records(path, RewardedPool if _is_rewarded(path) else Pool)


def _is_rewarded(path: Path) -> bool:
    with path.open("rb") as stream:
        first = next((line for line in stream if line.strip()), b"{}")
    try:
        return "rewards" in json.loads(first)
    except (ValueError, TypeError):
        return False  # load_records says what is wrong with the line


def _train_pools(input_dir: Path, splits: Sequence[str], split: str, pools: Sequence[Pool]) -> Sequence[Pool] | None:
    """The train pools of other pages than the audited ones; None where attackers must be cross-fitted."""
    if split == "train" or "train" not in splits:
        return None
    audited = {pool.page for pool in pools}
    train = load_pools(input_dir / "train.jsonl")
    others = [pool for pool in train if pool.page not in audited]
    if len(others) < len(train):
        warn(f"{len(train) - len(others)} train pools are of pages that {split} has too: the attackers do not see them")
    return others or None


def _control(
    input_dir: Path,
    splits: Sequence[str],
    split: str,
    pools: Sequence[Pool],
    candidate_only: str,
    config_path: Path,
    seed: int,
) -> tuple[Metric | None, str | None]:
    """The outcome of the candidate-only control per audited pool, or None and why there is none."""
    if candidate_only == SKIP:
        return None, "it was skipped"
    if candidate_only == TRAIN:
        if split == "train":
            return None, "it would be trained on the audited pools"
        if missing := [name for name in ("train", "selection") if name not in splits]:
            return None, f"{input_dir} has no {' and no '.join(f'{name}.jsonl' for name in missing)} to train it with"
    from finrank.training.run import explain_out_of_memory

    advice = (
        "Training the control takes the most: lower tokens_per_pass and batch_size in a copy of its config and give "
        "that with --config, or leave the control out with --candidate_only skip"
    )
    with tempfile.TemporaryDirectory(prefix="finrank-audit-") as folder, explain_out_of_memory(advice=advice):
        data = _with_rewards(input_dir, split, Path(folder))
        if candidate_only == TRAIN:
            model_dir = _train_control(data, config_path, Path(folder), seed)
        else:
            model_dir = Path(candidate_only)
        rewarded = load_records(data / f"{split}.jsonl", RewardedPool)
        found = dict(
            zip([pool.id for pool in rewarded], accuracies(rewarded, _score(model_dir, rewarded)), strict=True)
        )
    # Pools that stage 03 rejects have no outcome and no weight.
    values = np.array([found.get(pool.id, 0.0) for pool in pools])
    return Metric(values, np.array([float(pool.id in found) for pool in pools])), None


def _with_rewards(input_dir: Path, split: str, folder: Path) -> Path:
    """The folder itself where its pools have rewards, else what stage 03 makes of it."""
    if _is_rewarded(input_dir / f"{split}.jsonl"):
        return input_dir
    from finrank.commands import rewards

    rewards.run(input_dir, folder / "rewarded")
    return folder / "rewarded"


def _train_control(data: Path, config_path: Path, folder: Path, seed: int) -> Path:
    """Train the control on train for one epoch, with the code of stage 04; gives its stage directory."""
    from finrank.commands import sft

    say(
        "training the candidate-only control for one epoch: this may take minutes (--candidate_only skip leaves it out)"
    )
    seen = folder / "seen"
    seen.mkdir()
    for name in ("train", "selection"):  # stage 04 would evaluate on dev too, for nothing
        (seen / f"{name}.jsonl").symlink_to((data / f"{name}.jsonl").resolve())
    overrides = ["trainer.num_train_epochs=1", f"seed={seed}"]
    stage = sft.run(config_path, seen, folder / "outputs", overrides=overrides, candidate_only=True)
    say("the control is trained; its folder is a temporary one and goes with the audit")
    return stage


def _score(model_dir: Path, pools: list[RewardedPool]) -> list[FloatArray]:
    """Scores [candidates] per pool by a saved control; UserError for a model that reads question and page."""
    from finrank.ranker.saving import find_model, load_model, read_settings
    from finrank.ranker.scoring import score_records

    model_dir = find_model(model_dir)
    if not read_settings(model_dir).prompt.candidate_only:
        raise UserError(
            f"{model_dir} reads question and page: give a control, trained with: "
            "python 04_sft_train.py --config configs/models/minilm.yaml --candidate_only"
        )
    loaded = load_model(model_dir)
    return score_records(loaded, pools, "scoring control")
