"""Training steps, PPO steps and ranking with Llama-3-8B's exact shape on one GPU: finrank's routes against naive ones.

Weights are random, in bfloat16, under LoRA adapters with an effect: neither time nor memory depends on their values.
Pools of 8 candidates have the token counts in shared/finqa_lengths.json (wordpieces stand in for Llama's; see
research/finqa_lengths.py); model, settings, batches and loss are finrank's own. A batch is one pass, as with
`tokens_per_pass` set high enough in a config.

A training step is forward, backward and AdamW on adapters and head, measured at two points:

    fastest   no activation checkpointing, and of 1, 2, 4, ... questions per step the best that fits into memory
    leanest   activation checkpointing, 1 question per step

Naive scoring (every candidate with its own prefix) has its own best batch, with or without checkpointing. After the
search for these batches, where the longest questions decide what fits, each point has two blocks of steps, in the order
A B C C B A. A row is printed and written after each block, the second time with all its steps.

Tokens are those of the packed form: one prefix and all candidates of a question, no padding; the prefixes that naive
scoring repeats are `redundant`. Rates of questions and of an epoch are tokens a second over the mean tokens of a
question in the file, so that no point gains from the questions that it happened to draw.

    utilisation = 4 x parameters x tokens / seconds / peak

is of the chip's dense bfloat16 rate: 2 operations per parameter and token forward, 2 for gradients of activations (LoRA
needs none for the base's weights). Parameters are the base's without the embedding table. Attention, adapters, head and
recomputed activations do not count; `own` utilisation counts redundant tokens too. The packed routes spare the last
layer's feed-forward block most tokens, up to 2.5 % of the operations counted.

A PPO step is what stage 05 does with a batch, at the leanest point: `sampled` scores it without gradients, draws
actions and makes two updates (`ppo.epochs_per_rollout`), `exact` makes the two updates alone. Dropout is off.

Ranking is measured on one question with the median prefix and 8, 100 and 1,000 median candidates. Naive passes are all
alike, so naive is timed on at most 128 candidates and scaled up. Ratios are over naive, run by run.

    python benchmarks/llama_8b_gpu.py --json llama_8b_gpu.json
    python benchmarks/llama_8b_gpu.py --shape toy --quick
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from shared import llama_steps as steps
from shared.device_memory import within_memory
from shared.shapes import packed_tokens, peak_tflops, redundant_tokens
from shared.tables import Report, Row, device, parser, show

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import Route, RouteName
from finrank.ranker.scoring import score_pools

SIZES, QUICK_SIZES = (1, 2, 4, 8, 16), (1, 2)  # questions per step
CANDIDATES, QUICK_CANDIDATES = (8, 100, 1000), (8, 100)
STEPS, QUICK_STEPS = 10, 3
# Of the time left when the part begins; ranking has the rest.
TRAINING_SHARE, PPO_SHARE = 0.55, 0.35
NAIVE_CANDIDATES = 128
MOST_BYTES = 80e9  # of the fastest point
SLOW_S = 10.0  # a ranking that takes longer is timed once
RANKING: tuple[RouteName, ...] = ("naive", "cached", "split", "mask")


def main() -> None:
    """Measure training, PPO and ranking; print the rows and the goals, and write them with --json."""
    began = time.monotonic()
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # lengths vary, and so do blocks
    arguments = parser(__doc__, "few sizes and steps: to see whether it runs", docs=False)
    arguments.add_argument("--shape", choices=("llama-3-8b", "toy"), default="llama-3-8b", help="on a CPU only toy")
    arguments.add_argument("--seed", type=int, default=0, help="of weights, tokens and batches")
    arguments.add_argument("--peak_tflops", type=float, help="dense bfloat16 rate (default: by the device's name)")
    arguments.add_argument("--budget_s", type=float, default=540, help="seconds in all; what does not fit is left out")
    options = arguments.parse_args()
    on_gpu = torch.cuda.is_available()
    if not on_gpu and options.shape != "toy":
        raise SystemExit(f"--shape {options.shape} needs a CUDA device, and there is none: on a CPU give --shape toy")
    if on_gpu:  # the search for the fastest batch stays within the memory that it may take
        total = torch.cuda.get_device_properties().total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, MOST_BYTES / total))
    name = device("torch")
    peak = options.peak_tflops or peak_tflops(name)
    ends = began + options.budget_s
    bench = steps.make_bench(options.shape, torch.device("cuda" if on_gpu else "cpu"), options.seed, peak, ends)
    print(f"{name}, {options.shape}, built in {time.monotonic() - began:.0f} s", flush=True)
    about = {"device": name, "shape": options.shape, "seed": options.seed, "peak_tflops": peak}
    report = bench.report = Report(options.json, **about, skipped=bench.skipped)
    report.facts["checks"] = check_routes(bench)
    rounds = QUICK_STEPS if options.quick else STEPS
    with bench.within(TRAINING_SHARE):
        steps.measure_training(bench, QUICK_SIZES if options.quick else SIZES, rounds)
    with bench.within(PPO_SHARE):
        steps.measure_ppo(bench, rounds)
    measure_ranking(bench, QUICK_CANDIDATES if options.quick else CANDIDATES, rounds)
    report.facts["goals"] = [show(goal) for goal in goals(report.rows)] if options.shape == "llama-3-8b" else []
    report.facts["took_s"] = round(time.monotonic() - began)
    report.write()
    print(f"{report.facts['took_s']} s in all")


def check_routes(bench: steps.Bench) -> list[Row]:
    """By how much each route's vectors differ from naive ones on real lengths, and the model's own verdict."""
    rows, model = [], bench.learner.model
    pools = [item.pool for item in bench.pools[:2]]
    model.eval()
    for route in (*steps.PACKED, "cached"):
        with torch.inference_mode():
            naive_ND, route_ND = (model.candidate_vectors(pools, name) for name in ("naive", route))
        difference = ((route_ND - naive_ND).norm(dim=1) / naive_ND.norm(dim=1)).max().item()
        agrees = model.check(Route(route, "measured")).name == route
        rows.append({"route": route, "agrees": agrees, "difference": difference})
        print(f"{route}: vectors differ from naive by {difference:.2g} of their length; agrees: {agrees}", flush=True)
    model.train()
    return rows


def measure_ranking(bench: steps.Bench, counts: Sequence[int], repeats: int) -> None:
    """Rows for one median question with so many candidates, along each route that fits."""
    steps.set_checkpointing(bench.learner.model, False)
    bench.learner.optimizer.zero_grad()
    bench.learner.optimizer.state.clear()  # memory that ranking does without
    before: dict[RouteName, Row] = {}
    for number, count in enumerate(counts):
        with bench.within(1 / (len(counts) - number)):
            runs = first_rankings(bench, count, before)
            before |= {route: its_runs[0] for route, its_runs in runs.items()}
            quick = {route: ranking(bench, count, route) for route in runs if runs[route][0]["took_s"] <= SLOW_S}
            for route, its_runs in bench.in_blocks(quick, repeats, f"ranking {count} candidates"):
                runs[route] = its_runs
                put_ranking(bench, count, runs, route)
            for route in runs:  # the ratio of all runs: naive has had its second block last
                put_ranking(bench, count, runs, route, printed=False)


def first_rankings(bench: steps.Bench, count: int, before: dict[RouteName, Row]) -> dict[RouteName, list[Row]]:
    """One ranking along each route that fits into time, by the times of fewer candidates, and into memory."""
    runs: dict[RouteName, list[Row]] = {}
    for route in RANKING:
        what = f"ranking {count} candidates, {route}"
        expected = 0.0
        if route in before:
            growth = scored_candidates(count, route) / before[route]["scored"]
            expected = before[route]["took_s"] * growth ** (2 if route == "mask" else 1)
        if not bench.fits(expected, what):
            continue
        run = within_memory(ranking(bench, count, route))
        if run is None:
            bench.skip(f"{what}: out of memory")
        else:
            runs[route] = [run]
            put_ranking(bench, count, runs, route)
    return runs


def put_ranking(
    bench: steps.Bench, count: int, runs: dict[RouteName, list[Row]], route: RouteName, *, printed: bool = True
) -> None:
    """Report the row of a route; its ratio is over what naive has by now."""
    row = {"what": "ranking", "candidates": count, "scored": runs[route][0]["scored"], "route": route}
    row |= steps.figures(runs[route], runs.get("naive", []))
    bench.report.put(row | {"questions_per_s": 1 / row["seconds"]}, (count, route), printed=printed)


def ranking(bench: steps.Bench, count: int, route: RouteName) -> Callable[[], Row]:
    """One ranking; naive with fewer candidates, its time scaled up."""
    scored = scored_candidates(count, route)
    pool, whole = median_pool(bench, scored), median_pool(bench, count)
    tokens, redundant = packed_tokens([whole]), redundant_tokens([whole], route)
    model = bench.learner.model

    def run() -> Row:
        work = partial(score_pools, model, [pool], route=route)
        return steps.measured(model, work, tokens, redundant, scored / count) | {"scored": scored}

    return run


def scored_candidates(count: int, route: RouteName) -> int:
    """How many of the candidates are timed."""
    return min(count, NAIVE_CANDIDATES) if route == "naive" else count


def median_pool(bench: steps.Bench, count: int) -> EncodedPool:
    """A question with the median prefix and so many copies of the median candidate."""
    pools = [item.pool for item in bench.pools]
    prefix = sorted((pool.prefix for pool in pools), key=len)[len(pools) // 2]
    candidates = sorted((tokens for pool in pools for tokens in pool.candidates), key=len)
    return EncodedPool("median", prefix, [candidates[len(candidates) // 2]] * count)


def goals(rows: Sequence[Row]) -> list[Row]:
    """The goals, each with the best packed route's value and whether it is met (None: not measured).

    GB are 10^9 bytes, the stricter reading; a fastest point over 80 GB does not count. PPO's peak is that of the
    estimator that takes more, each on its leaner route.
    """
    weighed = [row | {"gb": row["peak_gib"] * 2**30 / 1e9} for row in rows if row["peak_gib"] is not None]
    packed = [row for row in weighed if row["what"] == "training" and row["route"] in steps.PACKED]
    fast = [row for row in packed if row["point"] == "fastest" and row["gb"] <= MOST_BYTES / 1e9]
    fastest = max(fast, key=lambda row: row["questions_per_s"], default={})
    leanest = min((row["gb"] for row in packed if row["point"] == "leanest"), default=None)
    ppo = [[row["gb"] for row in weighed if row.get("estimator") == name] for name in steps.ESTIMATORS]
    wanted: list[tuple[str, float | None, Callable[[float], bool]]] = [
        ("epoch of 6,251 questions <= 8 min", fastest.get("epoch_min"), lambda value: value <= 8),
        ("utilisation >= 0.41", fastest.get("utilisation"), lambda value: value >= 0.41),
        (">= 4.5x naive at its own best batch", fastest.get("ratio"), lambda value: value >= 4.5),
        ("leanest peak <= 20 GB", leanest, lambda value: value <= 20),
        ("leanest PPO peak <= 22 GB", max(map(min, ppo)) if all(ppo) else None, lambda value: value <= 22),
    ]
    return [
        {"goal": goal, "value": value, "met": None if value is None else holds(value)} for goal, value, holds in wanted
    ]


if __name__ == "__main__":
    main()
