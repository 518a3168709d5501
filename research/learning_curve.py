"""Wrote "More train questions" in docs/experiments.md: the default config on nested parts of FinQA's train split.

Whole pages are taken in the order of a hash of their names until a part has its questions, so that a larger part holds
the smaller ones. Each run is stage 04 as the config has it; figures are of dev, for the checkpoint that selection
chose. Finished runs are kept, and a second call with the same folder goes on where the first one stopped.

    python research/learning_curve.py --input_dir datasets/finqa_with_rewards --work_dir outputs/learning_curve \
        --sizes 1100 2200 4400 9999 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from finrank.commands.sft import sft
from finrank.training.run import TRAINING_MANIFEST

CONFIG = Path(__file__).parents[1] / "configs/models/minilm.yaml"


def part(data: Path, size: int, out: Path) -> Path:
    """A folder with the first pages of train that have `size` questions, or all; the other splits are links."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(data.glob("*.json*")):
        if path.name not in ("train.jsonl", "manifest.json") and not (out / path.name).exists():
            (out / path.name).symlink_to(path.resolve())
    by_page: dict[str, list[str]] = {}
    for line in (data / "train.jsonl").read_text(encoding="utf-8").splitlines():
        by_page.setdefault(json.loads(line)["page"], []).append(line)
    lines: list[str] = []
    for page in sorted(by_page, key=lambda page: hashlib.sha256(page.encode()).digest()):
        if len(lines) < size:
            lines += by_page[page]
    (out / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def rows(data: Path, work: Path, sizes: list[int], seeds: list[int], overrides: list[str]) -> Iterator[str]:
    """A line of the table per size and seed, when it is trained."""
    for seed in seeds:
        for size in sizes:
            folder = part(data, size, work / f"train_{size}")
            runs = folder / f"seed_{seed}"
            finished = sorted(runs.glob(f"run_*/04_sft/{TRAINING_MANIFEST}"))
            stage = finished[-1].parent if finished else sft(CONFIG, folder, runs, overrides=[*overrides, f"seed={seed}"])
            manifest = json.loads((stage / TRAINING_MANIFEST).read_text(encoding="utf-8"))
            dev, count = manifest["metrics"]["dev"], sum(1 for _ in (folder / "train.jsonl").open(encoding="utf-8"))
            low, high = dev["intervals"]["accuracy"]
            yield (
                f"| {count} | {seed} | {manifest['metrics']['selection']['accuracy']:.3f} | "
                f"{dev['accuracy']:.3f} ({low:.3f}-{high:.3f}) | {dev['reward_ratio']:.3f} | "
                f"{manifest['train_cpu_seconds']:.0f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input_dir", type=Path, required=True, help="output of stage 03")
    parser.add_argument("--work_dir", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1100, 2200, 4400, 9999], help="train questions")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", dest="overrides", nargs="*", default=[], help="keys of the config, key=value")
    options = parser.parse_args()
    table = ["| questions | seed | selection | dev | reward ratio | CPU seconds |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows(options.input_dir, options.work_dir, options.sizes, options.seeds, options.overrides):
        table.append(row)
        (options.work_dir / "table.md").write_text("\n".join(table) + "\n", encoding="utf-8")
    print("\n".join(table))


if __name__ == "__main__":
    main()
