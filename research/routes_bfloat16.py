"""Wrote "In bfloat16 the routes differ by what naive scoring rounds" in docs/experiments.md: SmolLM2 on FinQA pools.

A causal token sees only tokens before it, so a shared prefix changes nothing but the order of sums. Vectors of the
candidates of each pool along each route in bfloat16, and the naive ones, are compared with naive ones in float32: the
difference as a share of a vector's length, its median and its largest.

    python research/routes_bfloat16.py --input_dir datasets/finqa_with_rewards
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from finrank.ranker.attention.routes import RouteName
from finrank.ranker.tokenizer import load_tokenizer
from finrank.ranker.encoding import encode_or_leave_out
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.settings import locate
from finrank.records import RewardedPool
from finrank.store import load_records
from finrank.training.config import load_config

ROUTES: tuple[RouteName, ...] = ("naive", "mask", "split", "cached")


def main() -> None:
    """Print a row per route."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input_dir", type=Path, required=True, help="output of stage 03")
    parser.add_argument("--pools", type=int, default=12, help="of dev, evenly spread")
    arguments = parser.parse_args()
    settings = load_config(Path("smollm2-135m")).ranker_settings()
    tokenizer = load_tokenizer(locate(settings.base_model, settings.base_model_sha256))
    records = load_records(arguments.input_dir / "dev.jsonl", RewardedPool)
    records = records[:: len(records) // arguments.pools][: arguments.pools]
    pools = [encode_or_leave_out(pool, pool.candidates, tokenizer, settings.prompt)[0] for pool in records]
    torch.manual_seed(0)
    exact = CandidateRankingModel.new(settings.model_copy(update={"dtype": "float32"})).eval()
    rounded = CandidateRankingModel.new(settings).eval()
    with torch.inference_mode():
        exact_ND = torch.cat([exact.candidate_vectors([pool], "naive") for pool in pools])
        for route in ROUTES:
            vectors_ND = torch.cat([rounded.candidate_vectors([pool], route) for pool in pools])
            difference_N = (vectors_ND - exact_ND).norm(dim=1) / exact_ND.norm(dim=1)
            print(f"{route:7} median {difference_N.median():.4f}, largest {difference_N.max():.4f}", flush=True)


if __name__ == "__main__":
    main()
