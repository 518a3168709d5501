"""Training steps, PPO steps and ranking with Llama-3-8B's exact shape on one GPU: finrank's routes beside naive ones.

Weights are random, in bfloat16, under LoRA adapters with an effect: neither time nor memory depends on their values.
Pools of 8 candidates have the token counts in finqa_lengths.json (wordpieces stand in for Llama's; see
finqa_lengths.py), and the model, its settings, its batches and its loss are finrank's own. A batch is one pass, as with
`tokens_per_pass` set high enough in a config.

A training step is forward, backward and AdamW on adapters and head. It is measured at two points:

    fastest   no activation checkpointing, and of 1, 2, 4, ... questions per step the best that fits into memory
    leanest   activation checkpointing, 1 question per step

Naive scoring (every candidate with its own prefix) is measured at its own best batch, with or without checkpointing.
After the search for these batches, steps of all points take turns. The longest questions decide what fits.

Tokens are those of the packed form: one prefix and all candidates of a question, no padding. The prefixes that naive
scoring repeats are `redundant`, its own work. Rates of questions and of an epoch are those tokens a second over
the mean tokens of a question in the file, so that no point gains from the questions it happened to draw.

    utilisation = 4 x parameters x tokens / seconds / peak

is that of the chip's dense bfloat16 rate: 2 operations per parameter and token forward, 2 for gradients of activations;
LoRA needs none for the base's weights. Parameters are the base's without the embedding table, which multiplies nothing.
Attention, adapters, head and recomputed activations do not count. `own` utilisation counts redundant tokens too. The
packed routes spare the last layer's feed-forward block most tokens, up to 2.5 % of the operations counted.

A PPO step is what stage 05 does with a batch, at the leanest point: `sampled` scores it without gradients, draws
actions and makes two updates (`ppo.epochs_per_rollout`), `exact` makes the two updates alone. Dropout is off.

Ranking is measured on one question with the median prefix and 8, 100 and 1,000 median candidates. Naive passes are all
alike, so naive is timed on at most 128 candidates and scaled up. Ratios are over naive in the same round.

    python benchmarks/llama_8b_gpu.py --json llama_8b_gpu.json
    python benchmarks/llama_8b_gpu.py --shape toy --quick
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from llama_training import (
    ESTIMATORS,
    PACKED,
    Row,
    now,
    ppo_rows,
    quartiles,
    ratio_columns,
    set_checkpointing,
    training_rows,
    within_memory,
)
from shared.llama_shapes import SHAPES, Bench, make_bench, packed_tokens, peak_tflops, redundant_tokens

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import Route, RouteName
from finrank.ranker.scoring import score_pools

SIZES, QUICK_SIZES = (1, 2, 4, 8, 16), (1, 2)  # questions per step
CANDIDATES, QUICK_CANDIDATES = (8, 100, 1000), (8, 100)
STEPS, QUICK_STEPS = 10, 3
NAIVE_CANDIDATES = 128
MOST_BYTES = 80e9  # of the fastest point
SLOW_S = 10.0  # a ranking that takes longer is timed once
RANKING: tuple[RouteName, ...] = ("naive", "cached", "split", "mask")


def main() -> None:
    """Measure what the arguments ask for, print one table and the goals, and write it all with --json."""
    began = time.monotonic()
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # lengths vary, and so do blocks
    options = arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = options.shape or "llama-3-8b"
    if device.type == "cpu" and shape != "toy":
        raise SystemExit(f"--shape {shape} needs a CUDA device, and there is none: on a CPU give --shape toy")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    if device.type == "cuda":  # the fastest batch is looked for within the memory that it may take
        total = torch.cuda.get_device_properties().total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, MOST_BYTES / total))
    peak = options.peak_tflops or peak_tflops(name)
    bench = make_bench(shape, device, options.seed, peak, began + options.budget_s)
    print(f"{name}, torch {torch.__version__}, {shape}, built in {time.monotonic() - began:.0f} s", flush=True)
    checks = check_routes(bench)
    steps = QUICK_STEPS if options.quick else STEPS
    rows = training_rows(bench, QUICK_SIZES if options.quick else SIZES, steps)
    rows += ppo_rows(bench, steps)
    rows += ranking_rows(bench, QUICK_CANDIDATES if options.quick else CANDIDATES, steps)
    print_table(rows)
    met = goals(rows) if shape == "llama-3-8b" else []
    for goal in met:
        verdict = {None: "not measured", True: "met", False: "not met"}[goal["met"]]
        print(f"{goal['goal']}: {cell(goal['value'])} {verdict}")
    print(f"{time.monotonic() - began:.0f} s in all")
    if options.json:
        device_name = f"{name}, torch {torch.__version__}"
        about = {"device": device_name, "shape": shape, "seed": options.seed, "peak_tflops": peak}
        result = {**about, "checks": checks, "rows": rows, "goals": met, "skipped": bench.skipped}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, help="default: llama-3-8b; on a CPU only toy")
    parser.add_argument("--quick", action="store_true", help="few sizes and steps: to see whether it runs")
    parser.add_argument("--seed", type=int, default=0, help="of weights, tokens and batches")
    parser.add_argument("--peak_tflops", type=float, help="dense bfloat16 rate (default: by the device's name)")
    parser.add_argument("--budget_s", type=float, default=540, help="what no longer fits into so many s is left out")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args()


def check_routes(bench: Bench) -> list[Row]:
    """How far each route's vectors are from naive ones, on the check's input (its verdict) and on real lengths."""
    rows = []
    pools = [item.pool for item in bench.pools[:2]]
    bench.model.eval()
    for route in (*PACKED, "cached"):
        with torch.inference_mode():
            naive_ND, own_ND = (bench.model.candidate_vectors(pools, name) for name in ("naive", route))
        difference = ((own_ND - naive_ND).norm(dim=1) / naive_ND.norm(dim=1)).max().item()
        agrees = bench.model.check(Route(route, "measured")).name == route
        rows.append({"route": route, "agrees": agrees, "difference": difference})
        print(f"{route}: vectors differ from naive by {difference:.2g} of their length; agrees: {agrees}", flush=True)
    bench.model.train()
    return rows


def ranking_rows(bench: Bench, counts: Sequence[int], repeats: int) -> list[Row]:
    """Rows for one median question with so many candidates, along each route that fits."""
    rows: list[Row] = []
    set_checkpointing(bench.model, False)
    bench.optimizer.zero_grad()
    bench.optimizer.state.clear()  # memory that ranking does without
    before: dict[RouteName, Row] = {}
    for count in counts:
        first: dict[RouteName, Row] = {}
        for route in RANKING:
            what = f"ranking {count} candidates, {route}"
            if route in before:
                growth = scored_candidates(count, route) / before[route]["scored"]
                expected = before[route]["took_s"] * growth ** (2 if route == "mask" else 1)
            else:
                expected = 0.0
            if not bench.fits(expected, what):
                continue
            run = within_memory(ranking(bench, count, route))
            if run is None:
                bench.skip(f"{what}: out of memory")
            else:
                first[route] = before[route] = run
        rows += ranking_rounds(bench, count, first, repeats)
    return rows


def ranking_rounds(bench: Bench, count: int, first: dict[RouteName, Row], repeats: int) -> list[Row]:
    """Routes in turns; of one that was slow in the first run, that run is all."""
    runs: dict[RouteName, list[Row]] = {route: [] for route in first}
    quick = [route for route in first if first[route]["took_s"] <= SLOW_S]
    for done in range(repeats):
        expected = sum(first[route]["took_s"] for route in quick)
        if not bench.fits(expected, f"ranking {count} candidates after {done} of {repeats} rounds"):
            break
        for route in quick:
            runs[route].append(ranking(bench, count, route)())
    for route, own in runs.items():
        own[:] = own or [first[route]]
    naive = runs.get("naive", [])
    return [ranking_row(count, route, own, naive) for route, own in runs.items()]


def ranking(bench: Bench, count: int, route: RouteName) -> Callable[[], Row]:
    """The work of ranking once; naive with fewer candidates, its time scaled up."""
    scored = scored_candidates(count, route)
    pool, whole = median_pool(bench, scored), median_pool(bench, count)
    tokens, redundant = packed_tokens([whole]), redundant_tokens([whole], route)
    cuda = bench.model.device.type == "cuda"

    def work() -> Row:
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        began = now(bench.model)
        score_pools(bench.model, [pool], route=route)
        took = now(bench.model) - began
        peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else None
        seconds = took * count / scored
        return {
            "seconds": seconds,
            "took_s": took,
            "scored": scored,
            "tokens_per_s": tokens / seconds,
            "redundant_tokens_per_s": redundant / seconds,
            "peak_gib": peak,
        }

    return work


def scored_candidates(count: int, route: RouteName) -> int:
    """How many of the candidates are timed."""
    return min(count, NAIVE_CANDIDATES) if route == "naive" else count


def ranking_row(count: int, route: RouteName, runs: Sequence[Row], naive: Sequence[Row]) -> Row:
    """The figures of a route; ratios are naive's seconds over its own, round by round."""
    seconds = [run["seconds"] for run in runs]
    return {
        "what": "ranking",
        "candidates": count,
        "scored": runs[0]["scored"],
        "route": route,
        "repeats": len(runs),
        "seconds": statistics.median(seconds),
        "quartiles": quartiles(seconds),
        "questions_per_s": 1 / statistics.median(seconds),
        "tokens_per_s": statistics.median(run["tokens_per_s"] for run in runs),
        "redundant_tokens_per_s": statistics.median(run["redundant_tokens_per_s"] for run in runs),
        "peak_gib": max(run["peak_gib"] for run in runs) if runs[0]["peak_gib"] is not None else None,
        **ratio_columns([b["seconds"] / a["seconds"] for a, b in zip(runs, naive, strict=False)]),
    }


def median_pool(bench: Bench, count: int) -> EncodedPool:
    """A question with the median prefix and so many median candidates."""
    pools = [item.pool for item in bench.pools]
    prefix = sorted((pool.prefix for pool in pools), key=len)[len(pools) // 2]
    candidates = sorted((own for pool in pools for own in pool.candidates), key=len)
    return EncodedPool("median", prefix, [candidates[len(candidates) // 2]] * count)


COLUMNS = (
    "what", "point", "estimator", "candidates", "route", "questions", "checkpointing", "repeats", "seconds",
    "quartiles", "questions_per_s", "tokens_per_s", "redundant_tokens_per_s", "utilisation", "own_utilisation",
    "peak_gib", "epoch_min", "ratio", "ratio_quartiles",
)  # fmt: skip


def print_table(rows: Sequence[Row]) -> None:
    """All rows under one heading, columns aligned."""
    lines = [[name.removesuffix("_tokens_per_s") for name in COLUMNS]]
    lines += [[cell(row.get(name)) for name in COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)), flush=True)


def cell(value: object) -> str:
    """A figure as the table shows it.

    >>> cell(0.41234), cell(12345.6), cell([1.5, 2.0]), cell(None), cell(True)
    ('0.412', '12,346', '1.5-2', '', 'yes')
    """
    if isinstance(value, list):
        return "-".join(map(cell, value))
    if value is None or isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return str(value)


def goals(rows: Sequence[Row]) -> list[Row]:
    """The goals of the two points, each with what was measured on the best packed route, and whether it is met.

    GB are 10^9 bytes, the stricter reading. The fastest point may take any memory up to 80 GB; a route that took more
    does not count.
    """
    packed = [
        row for row in rows if row["what"] == "training" and row["route"] in PACKED and row["peak_gib"] is not None
    ]
    fast = [row for row in packed if row["point"] == "fastest" and row["peak_gib"] * 2**30 <= MOST_BYTES]
    fastest = max(fast, key=lambda row: row["questions_per_s"], default={})
    peaks = [row["peak_gib"] for row in packed if row["point"] == "leanest"]
    wanted: list[tuple[str, float | None, Callable[[float], bool]]] = [
        ("epoch of 6,251 questions <= 8 min", fastest.get("epoch_min"), lambda value: value <= 8),
        ("utilisation >= 0.41", fastest.get("utilisation"), lambda value: value >= 0.41),
        (">= 4.5x naive at its own best batch", fastest.get("ratio"), lambda value: value >= 4.5),
        ("leanest peak <= 20 GB", min(peaks) * 2**30 / 1e9 if peaks else None, lambda value: value <= 20),
        ("leanest PPO peak <= 22 GB", ppo_peak_gb(rows), lambda value: value <= 22),
    ]
    return [
        {"goal": goal, "value": value, "met": None if value is None else holds(value)} for goal, value, holds in wanted
    ]


def ppo_peak_gb(rows: Sequence[Row]) -> float | None:
    """The peak of PPO in GB, of the estimator that takes more, each on its leaner route; None where one is missing."""
    peaks = [
        [row["peak_gib"] for row in rows if row.get("estimator") == name and row["peak_gib"] is not None]
        for name in ESTIMATORS
    ]
    return max(map(min, peaks)) * 2**30 / 1e9 if all(peaks) else None


if __name__ == "__main__":
    main()
