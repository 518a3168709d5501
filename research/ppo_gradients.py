"""Wrote "PPO after SFT adds nothing" in docs/experiments.md: how hard SFT and the expected reward pull on scores.

For a pool with the policy π over its candidates and the rewards r, the gradient with respect to the scores is

    SFT            log Σ π(correct):  π(a | correct) − π(a)
    PPO exact      E[r]:              π(a) (r(a) − E[r])

Where π is nearly certain of a wrong candidate, the first is at its largest and the second almost zero: a policy
gradient moves only as fast as the policy still tries the better one (on such plateaus: Mei et al. 2020, On the Global
Convergence Rates of Softmax Policy Gradient Methods). A row holds pools by the probability of their correct candidates.

    export PYTHONPATH=benchmarks
    python research/ppo_gradients.py --model outputs/run_001 --data datasets/finqa_with_rewards
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from shared.tables import Row, table, write_results
from torch import Tensor

from finrank.ranker.saving import load_model
from finrank.ranker.scoring import score_records
from finrank.records import RewardedPool
from finrank.store import load_records
from finrank.training.losses import listwise_loss
from finrank.training.ppo.objectives import expectation

BOUNDS = (0.0, 0.01, 0.1, 0.5, 0.9, 1.0)


def pulls(scores: np.ndarray, correct: Sequence[int], rewards: Sequence[float]) -> tuple[float, float, float]:
    """Of one pool: probability of its correct candidates, length of SFT's gradient, length of the expected reward's.

    >>> [round(one, 3) for one in pulls(np.array([0.0, 4.0]), [0], [1.0, 0.0])]  # wrong, and sure of it
    [0.018, 1.389, 0.025]
    """
    right_1N = torch.zeros(1, len(scores), dtype=torch.bool)
    right_1N[0, list(correct)] = True

    def gradient(objective: Tensor) -> float:
        (found,) = torch.autograd.grad(objective.sum(), scores_1N, retain_graph=True)
        return float(found.norm())

    scores_1N = torch.from_numpy(scores.astype(np.float64))[None].requires_grad_()
    logp_1N = scores_1N.log_softmax(dim=1)
    expected = expectation(logp_1N, torch.tensor([list(rewards)], dtype=torch.float64))
    return (
        float(logp_1N.detach().exp()[right_1N].sum()),
        gradient(listwise_loss(scores_1N, right_1N)),
        gradient(expected),
    )


def rows_of(found: Sequence[tuple[float, float, float]]) -> list[Row]:
    """A row per range of the correct candidates' probability."""
    values = np.array(found)
    rows: list[Row] = []
    for low, high in pairwise(BOUNDS):
        own = values[(values[:, 0] >= low) & ((values[:, 0] < high) | (high == 1.0))]
        rows.append(
            {
                "probability": f"{low:g} to {high:g}",
                "pools": len(own),
                "sft": round(float(own[:, 1].mean()), 4) if len(own) else None,
                "exact": round(float(own[:, 2].mean()), 4) if len(own) else None,
                "sft_share": round(float(own[:, 1].sum() / values[:, 1].sum()), 3),
                "exact_share": round(float(own[:, 2].sum() / values[:, 2].sum()), 3),
            }
        )
    return rows


def docs(rows: Sequence[Row]) -> str:
    """The table of docs/experiments.md."""
    shown = [{key: float("nan") if value is None else value for key, value in row.items()} for row in rows]
    columns = {"probability of the correct": "{probability}", "pools": "{pools}", "SFT pulls": "{sft:.3f}"}
    columns |= {"expected reward pulls": "{exact:.3f}", "share of SFT's": "{sft_share:.0%}"}
    columns |= {"share of expected reward's": "{exact_share:.0%}"}
    return table(columns, shown)


def main() -> None:
    """Score the pools, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a run or stage directory")
    parser.add_argument("--data", type=Path, required=True, help="rewarded pools (output of stage 03)")
    parser.add_argument("--split", default="train", help="whose pools (default: train)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    loaded = load_model(options.model, merge=True)
    pools = [pool for pool in load_records(options.data / f"{options.split}.jsonl", RewardedPool) if pool.correct]
    scores = score_records(loaded, pools, "scoring")
    rows = rows_of([pulls(own, pool.correct, pool.rewards) for own, pool in zip(scores, pools, strict=True)])
    write_results(options.json, rows)
    print(docs(rows))


if __name__ == "__main__":
    main()
