"""Objectives of a policy that chooses among the candidates of a pool: the softmax over their scores.

Shapes: B pools, N candidates, S actions drawn per pool. A pool with fewer than N candidates has log-probability minus
infinity in the rest of its row, which no sum below counts.
"""

from __future__ import annotations

import torch
from torch import Tensor


def expectation(logp_BN: Tensor, values_BN: Tensor) -> Tensor:
    """Expected value of `values_BN` under the policy, [pools]; of the rewards it is the exact objective.

    All actions and their rewards are known, so nothing is estimated. The gradient is Σ π(a) (r(a) − E[r]) ∇ log π(a),
    the policy gradient theorem (Sutton et al. 2000) for one step; the softmax's derivative brings the baseline E[r].

    >>> expectation(torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[1.0, 0.2]]))
    tensor([0.4000])
    """
    present_BN = logp_BN > float("-inf")
    return (logp_BN.exp() * values_BN.masked_fill(~present_BN, 0.0)).sum(dim=1)


def entropy(logp_BN: Tensor) -> Tensor:
    """Entropy of the policy in nats, [pools].

    >>> entropy(torch.tensor([[0.5, 0.5, 0.0]]).log())  # log 2
    tensor([0.6931])
    """
    return -expectation(logp_BN, logp_BN)


def kl_divergence(logp_BN: Tensor, reference_BN: Tensor) -> Tensor:
    """Exact KL(policy || reference) in nats, [pools]; both are log-probabilities over the same candidates.

    >>> half = torch.tensor([[0.5, 0.5]]).log()
    >>> kl_divergence(half, half), kl_divergence(torch.tensor([[1.0, 0.0]]).log(), half)
    (tensor([0.]), tensor([0.6931]))
    """
    present_BN = logp_BN > float("-inf")
    return expectation(logp_BN, logp_BN - reference_BN.masked_fill(~present_BN, 0.0))


def clipped_objective(
    logp_BN: Tensor, old_BN: Tensor, actions_BS: Tensor, advantages_BS: Tensor, clip_range: float
) -> Tensor:
    """PPO's clipped surrogate, mean over the actions drawn, [pools] (Schulman et al. 2017, equation 7).

    `old_BN` are log-probabilities of the policy that drew the actions. The ratio is bounded only where that lowers the
    objective:

    >>> old, new = torch.tensor([[0.4, 0.6]]).log(), torch.tensor([[0.6, 0.4]]).log()
    >>> clipped_objective(new, old, torch.tensor([[0]]), torch.tensor([[1.0]]), 0.2)
    tensor([1.2000])
    >>> clipped_objective(new, old, torch.tensor([[0]]), torch.tensor([[-1.0]]), 0.2)
    tensor([-1.5000])
    """
    ratio_BS = (logp_BN.gather(1, actions_BS) - old_BN.gather(1, actions_BS)).exp()
    bounded_BS = ratio_BS.clamp(1 - clip_range, 1 + clip_range)
    return torch.minimum(ratio_BS * advantages_BS, bounded_BS * advantages_BS).mean(dim=1)


def adapted(kl_coefficient: float, kl: float, target: float) -> float:
    """The KL coefficient after a rollout with this KL: moved by at most a tenth (after Ziegler et al. 2019, 2.2).

    They clip the relative error at 0.2, for thousands of rollouts; for tens of rollouts it is clipped at 1 here.

    >>> adapted(0.1, kl=0.3, target=0.1), adapted(0.1, kl=0.1, target=0.1), adapted(0.1, kl=0.0, target=0.1)
    (0.11000000000000001, 0.1, 0.09000000000000001)
    """
    error = min(max(kl / target - 1, -1.0), 1.0)
    return kl_coefficient * (1 + 0.1 * error)
