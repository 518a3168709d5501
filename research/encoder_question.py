"""Wrote "The shared prefix costs no accuracy" in docs/experiments.md: one encoder trained under both attentions.

Under the shared prefix the question and the page do not see the candidate, which is what makes them shareable. A
CrossEncoder lets all tokens see each other. Both are trained here on the same pools in the same order, with the same
adapters, head, loss and steps, from the same seed; the second one on the naive route, each candidate with its own
prefix, under a plain padding mask. Then both rank the dev split, and the difference is tested over pages.

    export PYTHONPATH=benchmarks
    python research/encoder_question.py --input_dir datasets/finqa_with_rewards --json encoder_question.json
    python research/encoder_question.py --input_dir datasets/finqa_with_rewards --set prompt.context_tokens=null
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

from shared.tables import Row, device, table, with_quartiles, write_results

from finrank.commands.sft import sft
from finrank.console import say
from finrank.evaluation.evaluate import compare_pools, evaluate_pools
from finrank.ranker import model as model_module
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.saving import load_model
from finrank.ranker.scoring import score_records
from finrank.records import RewardedPool
from finrank.store import load_records

CONFIG = Path(__file__).parents[1] / "configs/models/minilm.yaml"
FULL = "every token sees every other (a CrossEncoder's function)"
SHARED = "shared prefix"


@contextmanager
def full_attention() -> Iterator[None]:
    """Models built inside cannot be packed: the naive route then uses the architecture's own attention."""
    with mock.patch.object(model_module, "why_not_packed", return_value="every token sees every other here"):
        yield


def train_and_score(full: bool, input_dir: Path, output_dir: Path, overrides: list[str]) -> tuple[list[Any], float]:
    """Dev scores of the best checkpoint, and the seconds that training took."""
    began = time.perf_counter()
    stage = sft(CONFIG, input_dir, output_dir, overrides=overrides)
    seconds = time.perf_counter() - began
    loaded = load_model(stage)
    assert isinstance(loaded.model, CandidateRankingModel)
    assert (loaded.route == "naive") == full
    pools = load_records(input_dir / "dev.jsonl", RewardedPool)
    return score_records(loaded, pools, "scoring dev"), seconds


def compare(seed: int, input_dir: Path, overrides: list[str]) -> Row:
    """One seed: both accuracies with intervals, the paired difference, both training times."""
    overrides = [*overrides, f"seed={seed}"]
    pools = load_records(input_dir / "dev.jsonl", RewardedPool)
    with tempfile.TemporaryDirectory() as folder:
        shared, shared_seconds = train_and_score(False, input_dir, Path(folder), overrides)
        with full_attention():
            full, full_seconds = train_and_score(True, input_dir, Path(folder), overrides)
    difference = asdict(compare_pools(pools, shared, full, name="full"))
    row: Row = {"seed": seed, "n": len(pools), "settings": overrides}
    for name, scores, seconds in (("shared", shared, shared_seconds), ("full", full, full_seconds)):
        result = evaluate_pools(pools, scores).as_json()
        row |= {
            f"{name}_accuracy": round(result["accuracy"], 4),
            f"{name}_interval": [round(value, 4) for value in result["intervals"]["accuracy"]],
            f"{name}_reward_ratio": round(result["reward_ratio"], 4),
            f"{name}_train_s": round(seconds, 1),
        }
    row["paired"] = difference
    say(
        f"seed {seed}: {SHARED} {row['shared_accuracy']:.3f} in {row['shared_train_s']:.0f} s, {FULL} "
        f"{row['full_accuracy']:.3f} in {row['full_train_s']:.0f} s; paired over pages: {difference}"
    )
    return row


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input_dir", type=Path, required=True, help="rewarded pools (output of stage 03)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one pair of trainings per seed (default: 0)")
    parser.add_argument("--set", action="append", default=[], help="a key of configs/models/minilm.yaml, key=value")
    parser.add_argument("--quick", action="store_true", help="one step of training each: shows the path, says nothing")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    overrides = [*options.set, *(["trainer.max_steps=1"] if options.quick else [])]
    rows = [compare(seed, options.input_dir, overrides) for seed in options.seeds]
    write_results(options.json, rows)
    print(docs(rows))


def docs(rows: list[Row]) -> str:
    """The table of docs/experiments.md."""
    lines = []
    for row in rows:
        for name, words in (("shared", SHARED), ("full", FULL)):
            figures = {key: row[f"{name}_{key}"] for key in ("accuracy", "interval", "reward_ratio", "train_s")}
            lines.append({"seed": row["seed"], "words": words, **figures})
    accuracy = with_quartiles("accuracy", "interval", 3)
    columns = {"seed": "{seed}", "attention": "{words}", "dev accuracy": accuracy}
    columns |= {"reward ratio": "{reward_ratio}", "training, s": "{train_s:.0f}"}
    settings = ", ".join(rows[0]["settings"][:-1]) or "the default config"
    differences = "; ".join(
        "seed {seed}: {difference:+.3f} ({low:+.3f} to {high:+.3f}), p = {p:.2g}".format(
            seed=row["seed"],
            difference=row["paired"]["difference"],
            low=row["paired"]["interval"][0],
            high=row["paired"]["interval"][1],
            p=row["paired"]["p_value"],
        )
        for row in rows
    )
    about = f"{device()}; {rows[0]['n']} dev pools, {settings}."
    return f"{about}\n\n{table(columns, lines)}\n\nPaired over pages: {differences}"


if __name__ == "__main__":
    main()
