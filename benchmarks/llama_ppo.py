"""A PPO step of stage 05 on a batch of pools, for `llama_8b_gpu.py` and `generation_vs_classification.py`.

It does what `finrank.training.ppo.ppo_trainer` does, in its order: with `estimator: sampled` the policy scores the
pools without gradients (`log_policy`) and draws its actions; then follow `epochs_per_rollout` updates on the
objective, less the KL penalty. Rollouts are the batch itself. The SFT policy, which stage 05 keeps as one number per
candidate, is taken to be uniform: its values cost nothing. `ppo.py` of finrank tells the algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.model import CandidateRankingModel
from finrank.training.config import PPOSettings
from finrank.training.ppo import objectives as policy_loss
from finrank.training.ppo.ppo_trainer import log_policy
from finrank.training.ppo.rollouts import PerCandidate, actions_in_batch_order, draw_actions, in_batch_order
from finrank.training.trainer import scores_in_passes


def policy_step(
    model: CandidateRankingModel,
    optimizer: torch.optim.Optimizer,
    pools: Sequence[EncodedPool],
    rewards: PerCandidate,
    settings: PPOSettings,
    *,
    route: RouteName,
    most: int,
    bf16: bool,
) -> list[float]:
    """Rollout and updates; gives the loss of each update.

    `rewards` are those of the candidates in the order of `pools`, `most` bounds the tokens of a pass.
    """
    old, actions = {}, {}
    if settings.estimator == "sampled":
        old = log_policy(model, pools, route, most, bf16=bf16)
        actions = draw_actions(old, settings.samples_per_pool, "benchmark")
    losses = []
    for _ in range(settings.epochs_per_rollout):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            scores_BN = scores_in_passes(model, pools, route, most)
        loss = policy_objective(scores_BN, pools, rewards, old, actions, settings).mean().neg()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def policy_objective(
    scores_BN: Tensor,
    pools: Sequence[EncodedPool],
    rewards: PerCandidate,
    old: PerCandidate,
    actions: PerCandidate,
    settings: PPOSettings,
) -> Tensor:
    """What each pool contributes, [pools]: `PPOTrainer.compute_loss` before its mean, with a uniform SFT policy."""
    ids, orders = [pool.id for pool in pools], [list(range(len(pool.candidates))) for pool in pools]
    uniform = {pool.id: np.full(len(pool.candidates), -np.log(len(pool.candidates))) for pool in pools}
    logp_BN = scores_BN.log_softmax(dim=1)
    rewards_BN, reference_BN = (in_batch_order(kept, ids, orders).to(logp_BN.device) for kept in (rewards, uniform))
    if settings.estimator == "exact":
        objective_B = policy_loss.expectation(logp_BN, rewards_BN)
    else:
        old_BN = in_batch_order(old, ids, orders).to(logp_BN.device)
        actions_BS = actions_in_batch_order(actions, ids, orders).to(logp_BN.device)
        advantages_BS = rewards_BN.gather(1, actions_BS) - policy_loss.expectation(old_BN, rewards_BN)[:, None]
        objective_B = policy_loss.clipped_objective(logp_BN, old_BN, actions_BS, advantages_BS, settings.clip_range)
    kl_B = policy_loss.kl_divergence(logp_BN, reference_BN)
    return objective_B + settings.entropy_coefficient * policy_loss.entropy(logp_BN) - settings.kl_coefficient * kl_B
