"""The trainer of stage 05: policy objectives in place of the listwise loss; `ppo.py` explains the algorithm."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerState, TrainingArguments

from finrank.console import track, warn
from finrank.errors import UserError
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.scoring import as_many_as_others, cut_into_passes
from finrank.training.ppo.objectives import adapted, clipped_objective, entropy, expectation, kl_divergence
from finrank.training.ppo.rollouts import (
    PerCandidate,
    PPOState,
    RolloutSampler,
    actions_in_batch_order,
    draw_actions,
    in_batch_order,
)
from finrank.training.processes import gathered, share
from finrank.training.trainer import Job, RankingTrainer


class PPOTrainer(RankingTrainer):
    """Trains a `CandidateRankingModel` as a policy over the candidates of each pool.

    `rewards` and `state` (the SFT policy's log-probabilities among it) cover every pool of the job's dataset.
    """

    def __init__(
        self, job: Job, arguments: TrainingArguments, route: RouteName, rewards: PerCandidate, state: PPOState
    ) -> None:
        super().__init__(job, arguments, route)
        self._route: RouteName = route
        self._settings = job.config.ppo
        self._rewards = rewards
        self._ppo = state
        self._sampler = RolloutSampler(job.dataset, job.config.ppo)
        self._logged: defaultdict[str, float] = defaultdict(float)  # sums over the pools since the last log

    def sampler(self) -> RolloutSampler:
        return self._sampler

    def compute_loss(self, model: nn.Module, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """Minus the objective of a batch: reward and entropy, less the KL penalty."""
        step = self.state.global_step
        self._begin_rollout(self._sampler.rollout_of(step))
        pools, orders = inputs["pools"], inputs["orders"]
        ids = [pool.id for pool in pools]
        scores_BN = model(pools)
        logp_BN = scores_BN.log_softmax(dim=1)
        rewards_BN = in_batch_order(self._rewards, ids, orders).to(logp_BN.device)
        kl_B = kl_divergence(logp_BN, in_batch_order(self._ppo.reference, ids, orders).to(logp_BN.device))
        entropy_B = entropy(logp_BN)
        expected_B = objective_B = expectation(logp_BN, rewards_BN)
        if self._settings.estimator == "sampled":
            objective_B = self._sampled_objective(logp_BN, rewards_BN, ids, orders)
        gain_B = objective_B + self._settings.entropy_coefficient * entropy_B - self._ppo.kl_coefficient * kl_B
        sums = self._of_all({"kl": kl_B, "expected_reward": expected_B, "entropy": entropy_B})
        for name, value in sums.items():
            self._logged[name] += value
        self._ppo.kl_sum += sums["kl"]
        self._ppo.kl_count += int(sums["pools"])
        if self._sampler.rollout_of(step + 1) != self._ppo.rollout or step + 1 == self.state.max_steps:
            self._end_rollout()
        loss = -gain_B.mean()
        return (loss, scores_BN) if return_outputs else loss

    def _of_all(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Sums over the pools of an update, those of other processes too, and the number of `pools`."""
        sums = [values_B.detach().sum() for values_B in values.values()]
        counted = torch.stack([*sums, sums[0].new_tensor(len(next(iter(values.values()))))])
        return dict(zip([*values, "pools"], self.accelerator.reduce(counted).tolist(), strict=True))

    def _sampled_objective(
        self, logp_BN: Tensor, rewards_BN: Tensor, ids: Sequence[str], orders: Sequence[list[int]]
    ) -> Tensor:
        old_BN = in_batch_order(self._ppo.old, ids, orders).to(logp_BN.device)
        actions_BS = actions_in_batch_order(self._ppo.actions, ids, orders).to(logp_BN.device)
        advantages_BS = rewards_BN.gather(1, actions_BS) - expectation(old_BN, rewards_BN)[:, None]
        if self._settings.scale_advantages:
            advantages_BS = advantages_BS / self._advantage_deviation()
        return clipped_objective(logp_BN, old_BN, actions_BS, advantages_BS, self._settings.clip_range)

    def _advantage_deviation(self) -> float:
        """The standard deviation of the rollout's advantages, or 1 where that is 0."""
        advantages = [
            self._rewards[name][actions] - np.exp(self._ppo.old[name]) @ self._rewards[name]
            for name, actions in self._ppo.actions.items()
        ]
        return float(np.concatenate(advantages).std()) or 1.0

    def _begin_rollout(self, rollout: tuple[int, int]) -> None:
        """On the first step of a rollout, draw its actions."""
        state = self._ppo
        if rollout == state.rollout:
            return
        state.rollout, state.kl_sum, state.kl_count = rollout, 0.0, 0
        if self._settings.estimator == "exact":
            return
        epoch, number = rollout
        dataset, tokens = self._sampler.dataset, self.job.config.tokens_per_pass
        pools = [dataset.pools[index].pool for index in self._sampler.rollouts(epoch)[number]]
        state.old = log_policy(self.job.model, pools, self._route, tokens, bf16=self.args.bf16)
        state.actions = draw_actions(state.old, self._settings.samples_per_pool, dataset.seed, epoch, number)

    def _end_rollout(self) -> None:
        """After the last update of a rollout, stop if the policy ran away, else adapt the penalty to its KL."""
        state, settings = self._ppo, self._settings
        kl = state.kl_sum / max(state.kl_count, 1)  # mean over the rollout's updates, in nats
        if kl > settings.kl_stop:
            divergence = f"the policy's KL divergence from the SFT policy is {kl:.2f} nats"
            warn(f"{divergence}, over ppo.kl_stop {settings.kl_stop}: stopping")
            state.stopped = True
            self.control.should_training_stop = self.control.should_evaluate = self.control.should_save = True
        elif settings.kl_target is not None:
            state.kl_coefficient = adapted(state.kl_coefficient, kl, settings.kl_target)

    def train(self, resume_from_checkpoint: str | None = None, **options: Any) -> Any:
        """Train, unless the run to resume had stopped because the policy ran away."""
        if resume_from_checkpoint is None or not self._ppo.stopped:
            return super().train(resume_from_checkpoint, **options)
        self._load_from_checkpoint(resume_from_checkpoint)
        self.state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / "trainer_state.json"))
        return None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with the loss also the policy's mean expected reward, KL and entropy."""
        if "loss" in logs and (pools := self._logged.pop("pools", 0)):
            logs |= {name: round(total / pools, 5) for name, total in self._logged.items()}
            logs["kl_coefficient"] = self._ppo.kl_coefficient
            self._logged.clear()
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            self._ppo.save(Path(output_dir or self.args.output_dir))


def log_policy(
    model: CandidateRankingModel,
    pools: Sequence[EncodedPool],
    route: RouteName,
    tokens_per_pass: int,
    *,
    bf16: bool,
    description: str = "",
) -> PerCandidate:
    """Log-probabilities of the policy, in the precision of the updates: in another the first ratio would not be 1.

    Each of several processes computes its share. Raises UserError when the policy has diverged.
    """
    pools = share(sorted(pools, key=lambda pool: pool.length))
    passes = as_many_as_others(cut_into_passes(pools, tokens_per_pass, route), model)
    scores = [torch.empty(0)]  # a share may be empty
    with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        for parts in track(passes, description, total=len(passes)) if description else passes:
            scores.append(model(parts, route).float().cpu())
    scores_N = torch.cat(scores)
    if not scores_N.isfinite().all():
        raise UserError("training diverged: scores are not finite any more; lower ppo.learning_rate and train again")
    counts = [len(pool.candidates) for pool in pools]
    of_pools = scores_N[: sum(counts)].split(counts)
    policies = [(pool.id, scores_C.log_softmax(dim=0).numpy()) for pool, scores_C in zip(pools, of_pools, strict=True)]
    return dict(gathered(policies))
