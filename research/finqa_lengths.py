"""Wrote benchmarks/shared/finqa_lengths.json, the token counts of FinQA pools that `llama_8b_gpu.py` draws from.

Pools are drawn by seed and written as the prompt settings of configs/models/llama-3-8b.yaml say (max_length 1024).
Llama's tokenizer needs an accepted licence, so the wordpieces of the default model (configs/models/minilm.yaml) stand
in for it: counts are near Llama's, not the same. The file holds counts only, no text of FinQA.

    python research/finqa_lengths.py --input_dir datasets/finqa_with_rewards
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from pathlib import Path
from typing import Any

from finrank.ranker.tokenizer import load_tokenizer
from finrank.ranker.encoding import encode
from finrank.ranker.settings import locate
from finrank.records import RewardedPool
from finrank.store import load_records
from finrank.training.config import load_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "models"
LENGTHS = Path(__file__).resolve().parents[1] / "benchmarks" / "shared" / "finqa_lengths.json"


def main() -> None:
    """Draw the pools, count their tokens, write the file and say what is in it."""
    options = arguments()
    prompt = load_config(CONFIGS / "llama-3-8b.yaml").prompt
    stand_in = load_config(CONFIGS / "minilm.yaml")
    tokenizer = load_tokenizer(locate(stand_in.base_model, stand_in.base_model_sha256))
    every = load_records(options.input_dir / "train.jsonl", RewardedPool)
    drawn = random.Random(options.seed).sample(every, min(options.pools, len(every)))
    pools = [count_tokens(pool, tokenizer, prompt) for pool in drawn]
    result = {
        "source": f"{len(pools)} FinQA train pools, drawn with seed {options.seed}",
        "tokenizer": f"wordpieces of {stand_in.base_model}, standing in for Llama's",
        "max_length": prompt.max_length,
        "pools": "[prefix tokens, [tokens of each candidate]]",
    }
    lines = ",\n".join(json.dumps(pool) for pool in pools)
    header = json.dumps(result, indent=2).removesuffix("\n}")
    options.output.write_text(f'{header},\n  "lengths": [\n{lines}\n  ]\n}}\n', encoding="utf-8")
    prefixes, candidates = [prefix for prefix, _ in pools], [tokens for _, own in pools for tokens in own]
    print(f"{options.output}: {len(pools)} pools, {len(candidates)} candidates")
    print(f"median prefix {statistics.median(prefixes):g} tokens, median candidate {statistics.median(candidates):g}")


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input_dir", type=Path, default=Path("datasets/finqa_with_rewards"))
    parser.add_argument("--pools", type=int, default=512, help="how many to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=LENGTHS)
    return parser.parse_args()


def count_tokens(pool: RewardedPool, tokenizer: Any, prompt: Any) -> tuple[int, list[int]]:
    """Tokens of the prefix, and of each candidate."""
    encoded = encode(pool, pool.candidates, tokenizer, prompt)
    return len(encoded.prefix), [len(candidate) for candidate in encoded.candidates]


if __name__ == "__main__":
    main()
