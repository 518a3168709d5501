"""Wrote "PPO after SFT adds nothing on the same pools" in docs/experiments.md: four models per seed on the same pools.

    SFT            stage 04 with the config
    + PPO sampled  stage 05 from it, estimator: sampled
    + PPO exact    stage 05 from it, estimator: exact
    + longer SFT   stage 04 from it, for as many steps as fit into the mean time of the two PPO runs, at PPO's
                   learning rate

Time is the processor's, since others may use the machine. A step of SFT is taken to cost what an update of `exact`
does: both are one forward and backward pass over as many pools; PPO's one pass over the train pools before it begins is
not counted.

Each arm's best checkpoint by selection accuracy is measured (SFT itself where none beats it there: step 0); differences
from SFT are tested in pairs over pages. Finished arms are kept in the work folder, and a second run with the same
settings resumes where the first one stopped.

    export PYTHONPATH=benchmarks
    python research/ppo_comparison.py --input_dir demo/with_rewards --seeds 0 1 2 --json ppo_sample.json
    python research/ppo_comparison.py --input_dir datasets/finqa_with_rewards --work_dir outputs/ppo_finqa
    python research/ppo_comparison.py --input_dir DIR --quick
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shared.tables import Row, device, table, write_results

from finrank.commands.ppo import ppo
from finrank.commands.sft import sft
from finrank.console import say
from finrank.evaluation.evaluate import compare_pools
from finrank.ranker.saving import load_model
from finrank.ranker.scoring import score_records
from finrank.records import RewardedPool
from finrank.store import load_records
from finrank.training.run import TRAINING_MANIFEST

CONFIG = Path(__file__).parents[1] / "configs/models/minilm.yaml"
SFT, SAMPLED, EXACT, LONGER = "SFT", "+ PPO sampled", "+ PPO exact", "+ longer SFT"
ARMS = (SFT, SAMPLED, EXACT, LONGER)


def finished(folder: Path, train: Callable[[Path], Path]) -> Path:
    """The stage directory in an arm's folder; trained now where there is none that finished."""
    found = sorted(folder.glob(f"run_*/*/{TRAINING_MANIFEST}"))
    return found[-1].parent if found else train(folder)


def manifest_of(stage: Path) -> dict[str, Any]:
    """The training manifest of a stage directory."""
    loaded: dict[str, Any] = json.loads((stage / TRAINING_MANIFEST).read_text(encoding="utf-8"))
    return loaded


def train_arms(seed: int, data: Path, work: Path, overrides: list[str], quick: bool) -> dict[str, Path]:
    """The stage directories of the four arms of a seed."""
    own = [*overrides, f"seed={seed}"]
    folder = work / f"seed_{seed}"
    first = finished(folder / "sft", lambda out: sft(CONFIG, data, out, overrides=own, quick_test=quick))

    def learned(estimator: str) -> Path:
        estimated = [*own, f"ppo.estimator={estimator}"]
        return finished(
            folder / estimator,
            lambda out: ppo(CONFIG, data, out, sft_model=first, overrides=estimated, quick_test=quick),
        )

    arms = {SFT: first, SAMPLED: learned("sampled"), EXACT: learned("exact")}
    sampled, exact = (manifest_of(arms[name]) for name in (SAMPLED, EXACT))
    mean_seconds = (sampled["train_cpu_seconds"] + exact["train_cpu_seconds"]) / 2
    steps = round(exact["curve"][-1]["step"] * mean_seconds / exact["train_cpu_seconds"])
    rate = exact["config"]["ppo"]["learning_rate"]
    longer = [*own, f"trainer.max_steps={steps}", "trainer.eval_strategy=steps", f"trainer.eval_steps={steps // 2}"]
    longer += [f"learning_rate={rate}", f"head_learning_rate={rate}"]
    arms[LONGER] = finished(
        folder / "longer",
        lambda out: sft(CONFIG, data, out, init_model=first, overrides=longer, quick_test=quick),
    )
    return arms


def selection_accuracy(stage: Path) -> float:
    """That of a stage's best model."""
    return float(manifest_of(stage)["metrics"]["selection"]["accuracy"])


def dev_scores(stage: Path, pools: list[RewardedPool]) -> list[Any]:
    """Scores of a stage's best model."""
    loaded = load_model(stage, merge=True)
    return score_records(loaded, pools, "scoring dev")


def compare(seed: int, data: Path, work: Path, overrides: list[str], quick: bool) -> list[Row]:
    """A row per arm of one seed."""
    arms = train_arms(seed, data, work, overrides, quick)
    pools = load_records(data / "dev.jsonl", RewardedPool)
    scores = {name: dev_scores(stage, pools) for name, stage in arms.items()}
    rows = []
    for name, stage in arms.items():
        manifest = manifest_of(stage)
        if name == LONGER and selection_accuracy(stage) <= selection_accuracy(arms[SFT]):  # as stage 05 does it
            manifest = manifest_of(arms[SFT]) | {"best_step": 0, "curve": manifest["curve"]}
            scores[name] = scores[SFT]
        result = manifest["metrics"]["dev"]
        row: Row = {
            "seed": seed,
            "arm": name,
            "n": len(pools),
            "accuracy": round(result["accuracy"], 4),
            "accuracy_interval": [round(value, 4) for value in result["intervals"]["accuracy"]],
            "reward_ratio": round(result["reward_ratio"], 4),
            "train_cpu_s": manifest.get("train_cpu_seconds"),
            "steps": manifest["curve"][-1]["step"],
            "best_step": manifest["best_step"],
            "against_sft": None if name == SFT else asdict(compare_pools(pools, scores[name], scores[SFT], name=SFT)),
        }
        rows.append(row)
        say(f"seed {seed}  {name:14s} dev accuracy {row['accuracy']:.3f}, reward ratio {row['reward_ratio']:.3f}")
    return rows


def spread(values: list[float]) -> str:
    """Mean and lowest to highest; of a single value, that value."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def docs(rows: list[Row]) -> str:
    """The table of docs/experiments.md."""
    lines = []
    for name in ARMS:
        own = [row for row in rows if row["arm"] == name]
        against = [row["against_sft"] for row in own if row["against_sft"]]
        differences = [
            "{difference:+.3f} ({interval[0]:+.3f} to {interval[1]:+.3f}), p = {p_value:.2g}".format(**one)
            for one in against
        ]
        lines.append(
            {
                "model": name,
                "dev accuracy": spread([row["accuracy"] for row in own]),
                "reward ratio": spread([row["reward_ratio"] for row in own]),
                "steps": f"{statistics.mean(row['steps'] for row in own):.0f}",
                "best step": ", ".join(str(row["best_step"]) for row in own),
                "accuracy against SFT, paired over pages": "; ".join(differences),
            }
        )
    columns = {head: f"{{{head}}}" for head in lines[0]}
    seeds = ", ".join(str(seed) for seed in sorted({row["seed"] for row in rows}))
    return f"{device()}; {rows[0]['n']} dev pools; seeds {seeds}: mean (lowest-highest).\n\n{table(columns, lines)}"


def refuse_other_settings(work: Path, settings: dict[str, Any]) -> None:
    """End where the work folder holds models of other settings, whose figures would pass for these."""
    kept = work / "settings.json"
    if kept.is_file() and json.loads(kept.read_text(encoding="utf-8")) != settings:
        raise SystemExit(f"{work} holds models of other settings ({kept}): give another --work_dir, or remove it")
    work.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(settings) + "\n", encoding="utf-8")


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input_dir", type=Path, required=True, help="rewarded pools (output of stage 03)")
    parser.add_argument("--work_dir", type=Path, default=Path("outputs/ppo_comparison"), help="where the models go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="four trainings each (default: 0)")
    parser.add_argument("--set", action="append", default=[], help="a key of configs/models/minilm.yaml, key=value")
    parser.add_argument("--quick", action="store_true", help="a few steps of training: shows the path, says nothing")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    settings = {"input_dir": str(options.input_dir), "set": options.set, "quick": options.quick}
    refuse_other_settings(options.work_dir, settings)
    rows: list[Row] = []
    for seed in options.seeds:
        rows += compare(seed, options.input_dir, options.work_dir, options.set, options.quick)
        write_results(options.json, rows)
    print(docs(rows))


if __name__ == "__main__":
    main()
