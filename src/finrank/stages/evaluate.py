"""Evaluate a saved model on a split of rewarded pools, beside the baselines of the same pools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from finrank.console import say, warn
from finrank.evaluation.report import diagnose, evaluate_pools, print_table
from finrank.ranker.encoding import pad_id
from finrank.ranker.saving import find_model, load_model, read_settings
from finrank.ranker.scoring import score_pools
from finrank.records import RewardedPool
from finrank.store import UserError, available_splits, load_records, write_json
from finrank.training.pools import encode_pools
from finrank.training.runs import TRAINING_MANIFEST, data_hashes, explain_out_of_memory


def run(
    model_dir: Path,
    data_dir: Path,
    *,
    split: str = "dev",
    json_path: Path | None = None,
    candidate_only_dir: Path | None = None,
    base_model: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Print the table and what is wrong, write the figures as JSON, and give them.

    The candidate-only model is `candidate_only_dir`, or else the newest one trained beside this model on the same
    data. Raises UserError for a missing model, split or part.
    """
    splits = available_splits(data_dir, expected="finqa_with_rewards")
    if split not in splits:
        raise UserError(f"{data_dir} has no {split}.jsonl; it has: {', '.join(splits)}")
    model_dir = find_model(model_dir)
    with explain_out_of_memory():
        return _evaluate(model_dir, data_dir, split, json_path, candidate_only_dir, base_model, seed)


def _evaluate(
    model_dir: Path,
    data_dir: Path,
    split: str,
    json_path: Path | None,
    candidate_only_dir: Path | None,
    base_model: str | None,
    seed: int,
) -> dict[str, Any]:
    pools = load_records(data_dir / f"{split}.jsonl", RewardedPool)
    scores = _score(model_dir, pools, base_model, f"scoring {split}")
    candidate_only_dir = candidate_only_dir or _candidate_only_beside(model_dir, data_dir)
    candidate_only = None
    if candidate_only_dir is not None:
        say(f"candidate-only model: {candidate_only_dir}")
        candidate_only = _score(find_model(candidate_only_dir), pools, base_model, "scoring candidate-only")
    result = evaluate_pools(pools, scores, seed=seed, candidate_only=candidate_only)
    print_table(result, title=f"{split}: {result['n']} pools, {result['unanswerable']} without a correct candidate")
    for sentence in diagnose(result):
        warn(sentence)
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_path, {**result, "model": str(model_dir), "data": str(data_dir), "split": split})
        say(f"figures: {json_path}")
    return result


def _score(model_dir: Path, pools: list[RewardedPool], base_model: str | None, description: str) -> list[np.ndarray]:
    loaded = load_model(model_dir, base_model)
    encoded = encode_pools(pools, loaded.tokenizer, loaded.model.settings.prompt, "encoding")
    packed = [item.pool for item in encoded.pools]
    return score_pools(loaded.model, packed, pad_id(loaded.tokenizer), route=loaded.route, description=description)


def _candidate_only_beside(model_dir: Path, data_dir: Path) -> Path | None:
    """The newest candidate-only model among the sibling runs that was trained on this very data."""
    if read_settings(model_dir).prompt.candidate_only:
        return None
    folders = model_dir.resolve().parents  # of run_NNN/04_sft/best_model the third is the parent of all runs
    hashes = data_hashes(data_dir)
    for manifest in sorted(folders[2].glob(f"run_*/04_sft/{TRAINING_MANIFEST}"), reverse=True) if folders[2:] else []:
        stored = json.loads(manifest.read_text(encoding="utf-8"))
        is_control = stored["config"]["prompt"]["candidate_only"] and not stored["quick_test"]
        if is_control and stored["data"] == hashes:
            return manifest.parent / "best_model"
    return None
