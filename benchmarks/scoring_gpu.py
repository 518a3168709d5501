"""Scoring a whole split on a GPU: the pools a second of each attention route, with SmolLM2-135M's shape.

The pools are as many as FinQA's dev questions, with the token counts in shared/finqa_lengths.json, encoded beforehand;
weights are random, with LoRA adapters. `by_size` is what `auto` takes on a GPU. Naive scoring repeats every prefix, so
it scores each eighth pool, and its seconds are scaled up. After one warm run, routes have two runs each, in the order
A B C C B A; a row is printed and written after each run. Ratios are over naive.

    python benchmarks/scoring_gpu.py --json scoring_gpu.json
    python benchmarks/scoring_gpu.py --shape toy --quick
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from itertools import cycle, islice

import torch
from shared import shapes
from shared.device_memory import free_memory, within_memory
from shared.tables import Report, device, parser
from transformers import LlamaConfig, LlamaModel

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.scoring import score_pools
from finrank.training.config import load_config

POOLS, QUICK_POOLS = 883, 24
ROUTES: tuple[RouteName, ...] = ("by_size", "cached", "split", "naive")
NAIVE_SHARE = 8
DTYPES = ("float32", "bfloat16")
Seconds = dict[RouteName, list[float]]
LEFT = {"float32": 0.6, "bfloat16": 1.0}  # share of the time that is left


def main() -> None:
    """Measure, print and write."""
    arguments = parser(__doc__, "few pools", docs=False)
    arguments.add_argument("--shape", choices=("smollm2-135m", "toy"), default="smollm2-135m")
    arguments.add_argument("--seed", type=int, default=0, help="of weights and tokens")
    arguments.add_argument("--budget_s", type=float, default=120, help="seconds in all; what does not fit is left out")
    options = arguments.parse_args()
    ends = time.monotonic() + options.budget_s
    count = QUICK_POOLS if options.quick else POOLS
    report = Report(options.json, shape=options.shape, seed=options.seed, skipped=[])
    print(device("torch"), flush=True)
    for dtype in DTYPES:
        model = make_model(options.shape, dtype, options.seed)
        shrink = shapes.TOY_SHRINK if options.shape == "toy" else 1
        drawn = shapes.random_pools(model.encoder.config.vocab_size, options.seed, shrink)
        pools = [item.pool for item in islice(cycle(drawn), count)]
        now = time.monotonic()
        measure(model, pools, dtype, report, now + LEFT[dtype] * max(ends - now, 0))
    report.write()


def make_model(shape: str, dtype: str, seed: int) -> CandidateRankingModel:
    """Random weights on the GPU, where there is one."""
    torch.manual_seed(seed)
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = load_config(shapes.CONFIGS / "llama-3-8b.yaml", [f"dtype={dtype}"]).ranker_settings()
    config = LlamaConfig(**{"vocab_size": shapes.TOY_VOCABULARY, **shapes.SHAPES[shape]})
    with shapes.weights_in(dtype, place):
        encoder = LlamaModel(config).requires_grad_(False)
    return CandidateRankingModel.new(settings, encoder).eval()


def measure(model: CandidateRankingModel, pools: list[EncodedPool], dtype: str, report: Report, ends: float) -> None:
    """The rows of one precision."""
    seconds: Seconds = {}
    cost: dict[RouteName, float] = dict.fromkeys(ROUTES, 0.0)
    full: set[RouteName] = set()
    for turn, route in enumerate([*ROUTES, *ROUTES[::-1]]):
        left = ends - time.monotonic()
        scored = pools[::NAIVE_SHARE] if route == "naive" else pools
        runs = 1 + (turn < len(ROUTES))  # before its first run a route is warmed up
        if route in full:
            continue
        if left < runs * cost[route] or left <= 0:
            report.facts["skipped"].append(f"{dtype}, {route}: about {cost[route]:.0f} s a run, {left:.0f} s are left")
            continue
        free_memory()
        for _ in range(runs):
            took = within_memory(partial(timed, model, scored, route))
            if took is None:
                report.facts["skipped"].append(f"{dtype}, {route}: out of memory")
                full.add(route)
                break
            cost[route] = took
        else:
            seconds.setdefault(route, []).append(took * len(pools) / len(scored))
            put(report, dtype, route, len(pools), seconds)
    for route in seconds:  # with the ratio over naive, which is measured last
        put(report, dtype, route, len(pools), seconds, printed=False)


def timed(model: CandidateRankingModel, pools: list[EncodedPool], route: RouteName) -> float:
    """Seconds of scoring; the scores arrive on the host, so nothing is left running."""
    began = time.perf_counter()
    score_pools(model, pools, route=route)
    return time.perf_counter() - began


def put(report: Report, dtype: str, route: RouteName, pools: int, seconds: Seconds, *, printed: bool = True) -> None:
    """Report the row of a route."""
    median = statistics.median(seconds[route])
    ratio = statistics.median(seconds["naive"]) / median if "naive" in seconds else None
    row = {"what": "scoring", "dtype": dtype, "pools": pools, "route": route, "repeats": len(seconds[route])}
    row |= {"seconds": median, "pools_per_s": pools / median, "ratio": ratio}
    report.put(row, (dtype, route), printed=printed)


if __name__ == "__main__":
    main()
