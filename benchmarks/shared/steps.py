"""A supervised and a PPO step on a batch of pools, as finrank's trainers take them.

A PPO step does what `finrank.training.ppo.ppo_trainer` does, in its order: with `estimator: sampled` the policy scores
the pools without gradients and draws its actions; then come `epochs_per_rollout` updates. The batch is the rollout. The
SFT policy, which stage 05 keeps as one number per candidate, is taken to be uniform: its values cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.training.batches import TrainingPool, collate
from finrank.training.config import PPOSettings
from finrank.training.losses import listwise_loss
from finrank.training.ppo import objectives
from finrank.training.ppo.ppo_trainer import log_policy
from finrank.training.ppo.rollouts import PerCandidate, draw_actions
from finrank.training.trainer import scores_in_passes

ONE_PASS = 2**31  # tokens: a batch is never cut


class Learner:
    """A model with AdamW on its adapters and head; `bf16` is autocast, `tokens_per_pass` cuts a ranker's batches."""

    def __init__(self, model: Any, bf16: bool, tokens_per_pass: int = ONE_PASS) -> None:
        self.model, self.bf16, self.tokens_per_pass = model, bf16, tokens_per_pass
        self.trained = [value for value in model.parameters() if value.requires_grad]
        fused = model.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4, weight_decay=0.01, fused=fused)

    def autocast(self) -> torch.autocast:
        """The precision of a forward pass."""
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16)

    def update(self, loss: Tensor) -> None:
        """Gradients and a step of the optimizer."""
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def supervised_step(self, items: Sequence[TrainingPool], route: RouteName) -> None:
        """Scores, listwise loss, an update."""
        batch = collate(items)
        scores_BN = self.scores(batch["pools"], route)
        self.update(listwise_loss(scores_BN, batch["correct"].to(scores_BN.device)))

    def policy_step(
        self, pools: Sequence[EncodedPool], rewards: PerCandidate, settings: PPOSettings, route: RouteName
    ) -> None:
        """Rollout and updates; `rewards` are those of the candidates in the order of `pools`."""
        old: PerCandidate = {}
        actions: PerCandidate = {}
        if settings.estimator == "sampled":
            old = log_policy(self.model, pools, route, self.tokens_per_pass, bf16=self.bf16)
            actions = draw_actions(old, settings.samples_per_pool, "benchmark")
        for _ in range(settings.epochs_per_rollout):
            objective_B = policy_objective(self.scores(pools, route), pools, rewards, (old, actions), settings)
            self.update(-objective_B.mean())

    def scores(self, pools: Sequence[EncodedPool], route: RouteName) -> Tensor:
        """Scores [pools, candidates]."""
        with self.autocast():
            return scores_in_passes(self.model, pools, route, self.tokens_per_pass)


def policy_objective(
    scores_BN: Tensor,
    pools: Sequence[EncodedPool],
    rewards: PerCandidate,
    rollout: tuple[PerCandidate, PerCandidate],
    settings: PPOSettings,
) -> Tensor:
    """Each pool's contribution, [pools]: `PPOTrainer.compute_loss` before its mean, with a uniform SFT policy.

    Pools are of one size. `rollout`: for the estimator `sampled`, log-probabilities of the old policy and its actions.
    """
    logp_BN = scores_BN.log_softmax(dim=1)

    def rows(values: PerCandidate) -> Tensor:
        return torch.from_numpy(np.stack([values[pool.id] for pool in pools])).to(logp_BN.device)

    rewards_BN = rows(rewards).float()
    if settings.estimator == "exact":
        objective_B = objectives.expectation(logp_BN, rewards_BN)
    else:
        old_BN, actions_BS = map(rows, rollout)
        advantages_BS = rewards_BN.gather(1, actions_BS) - objectives.expectation(old_BN, rewards_BN)[:, None]
        objective_B = objectives.clipped_objective(logp_BN, old_BN, actions_BS, advantages_BS, settings.clip_range)
    uniform_BN = torch.zeros_like(logp_BN).log_softmax(dim=1)
    kl_B = objectives.kl_divergence(logp_BN, uniform_BN)
    return objective_B + settings.entropy_coefficient * objectives.entropy(logp_BN) - settings.kl_coefficient * kl_B
