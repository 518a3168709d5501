"""The trainer of stage 05: policy objectives in place of the listwise loss. `ppo.py` tells the algorithm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerState, TrainingArguments

from finrank.console import track, warn
from finrank.errors import UserError
from finrank.ranker.attention.packed_row import EncodedPool
from finrank.ranker.attention.routes import RouteName
from finrank.ranker.model import CandidateRankingModel
from finrank.ranker.scoring import cut_into_passes
from finrank.training.batches import PoolDataset
from finrank.training.ppo import objectives as policy_loss
from finrank.training.ppo.rollouts import (
    PerCandidate,
    PPOState,
    RolloutSampler,
    actions_in_batch_order,
    draw_actions,
    in_batch_order,
)
from finrank.training.settings import PPOSettings
from finrank.training.trainer import RankingTrainer, scores_in_passes


class PPOTrainer(RankingTrainer):
    """Trains a `CandidateRankingModel` as a policy over the candidates of each pool.

    `rewards` holds those of every pool of `dataset` by its id, `state` the SFT policy's log-probabilities of the same.
    """

    def __init__(
        self,
        model: CandidateRankingModel,
        arguments: TrainingArguments,
        *,
        settings: PPOSettings,
        rewards: PerCandidate,
        state: PPOState,
        dataset: PoolDataset,
        tokenizer: Any,
        route: RouteName,
        tokens_per_pass: int,
        evaluator: Callable[[CandidateRankingModel], dict[str, float]],
        callbacks: list[TrainerCallback],
    ) -> None:
        super().__init__(
            model,
            arguments,
            dataset=dataset,
            tokenizer=tokenizer,
            route=route,
            tokens_per_pass=tokens_per_pass,
            head_learning_rate=settings.learning_rate,
            evaluator=evaluator,
            callbacks=callbacks,
        )
        self._settings = settings
        self._rewards = rewards
        self._ppo = state
        self._sampler = RolloutSampler(dataset, settings)
        self._logged: Counter[str] = Counter()  # sums over the pools since the last log

    def _get_train_sampler(self, train_dataset: Any = None) -> RolloutSampler:  # type: ignore[override]
        return self._sampler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Minus the objective of a batch: reward and entropy, less the KL penalty."""
        step = self.state.global_step
        self._begin_rollout(self._sampler.rollout_of(step))
        pools, orders = inputs["pools"], inputs["orders"]
        ids = [pool.id for pool in pools]
        scores_BN = scores_in_passes(model, pools, self._route, self._tokens_per_pass)
        logp_BN = scores_BN.log_softmax(dim=1)
        reference_BN, rewards_BN = (
            in_batch_order(values, ids, orders).to(logp_BN.device) for values in (self._ppo.reference, self._rewards)
        )
        kl_B = policy_loss.kl_divergence(logp_BN, reference_BN)
        entropy_B = policy_loss.entropy(logp_BN)
        if self._settings.estimator == "exact":
            objective_B = policy_loss.exact_objective(logp_BN, rewards_BN)
        else:
            objective_B = self._sampled_objective(logp_BN, rewards_BN, ids, orders)
        gain_B = objective_B + self._settings.entropy_coefficient * entropy_B - self._ppo.kl_coefficient * kl_B
        self._count(policy_loss.expectation(logp_BN, rewards_BN), kl_B, entropy_B)
        if self._sampler.rollout_of(step + 1) != self._ppo.rollout or step + 1 == self.state.max_steps:
            self._end_rollout()
        loss = -gain_B.mean()
        return (loss, scores_BN) if return_outputs else loss

    def _sampled_objective(
        self, logp_BN: Tensor, rewards_BN: Tensor, ids: Sequence[str], orders: Sequence[list[int]]
    ) -> Tensor:
        old_BN = in_batch_order(self._ppo.old, ids, orders).to(logp_BN.device)
        actions_BS = actions_in_batch_order(self._ppo.actions, ids, orders).to(logp_BN.device)
        advantages_BS = rewards_BN.gather(1, actions_BS) - policy_loss.expectation(old_BN, rewards_BN)[:, None]
        advantages_BS = advantages_BS / self._advantage_scale()
        return policy_loss.clipped_objective(logp_BN, old_BN, actions_BS, advantages_BS, self._settings.clip_range)

    def _advantage_scale(self) -> float:
        """What advantages are divided by: the rollout's standard deviation of them, or 1."""
        if not self._settings.scale_advantages:
            return 1.0
        advantages = [
            self._rewards[name][actions] - np.exp(self._ppo.old[name]) @ self._rewards[name]
            for name, actions in self._ppo.actions.items()
        ]
        return float(np.concatenate(advantages).std()) or 1.0

    def _begin_rollout(self, rollout: tuple[int, int]) -> None:
        """When a step is the first of its rollout: let the policy act."""
        state = self._ppo
        if rollout == state.rollout:
            return
        state.rollout, state.kl_sum, state.kl_count = rollout, 0.0, 0
        if self._settings.estimator == "exact":
            return  # all actions count, under the policy of the moment: nothing is drawn
        epoch, number = rollout
        dataset: PoolDataset = self._sampler.dataset
        pools = [dataset.pools[index].pool for index in self._sampler.rollouts(epoch)[number]]
        model: CandidateRankingModel = self.accelerator.unwrap_model(self.model)
        state.old = log_policy(model, pools, self._route, self._tokens_per_pass, bf16=self.args.bf16)
        state.actions = draw_actions(state.old, self._settings.samples_per_pool, dataset.seed, epoch, number)

    def _end_rollout(self) -> None:
        """With the last update of a rollout: stop if the policy ran away, else adapt the penalty to its KL."""
        state, settings = self._ppo, self._settings
        kl = state.mean_kl()
        if kl > settings.kl_stop:
            warn(
                f"the policy's KL divergence from the SFT policy is {kl:.2f} nats, over ppo.kl_stop "
                f"{settings.kl_stop}: stopping"
            )
            state.stopped = True
            self.control.should_training_stop = self.control.should_evaluate = self.control.should_save = True
        elif settings.kl_target is not None:
            state.kl_coefficient = policy_loss.adapted(state.kl_coefficient, kl, settings.kl_target)

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any) -> Any:
        """Trainer's; a run that had stopped because the policy ran away is not trained further."""
        if not (isinstance(resume_from_checkpoint, str) and self._ppo.stopped):
            return super().train(resume_from_checkpoint, **options)
        self._load_from_checkpoint(resume_from_checkpoint)
        self.state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / "trainer_state.json"))
        return None

    def _count(self, reward_B: Tensor, kl_B: Tensor, entropy_B: Tensor) -> None:
        kl, pools = kl_B.detach().sum().item(), len(kl_B)
        self._ppo.kl_sum += kl
        self._ppo.kl_count += pools
        self._logged["pools"] += pools
        self._logged["kl"] += kl  # type: ignore[assignment]  # a Counter adds floats as well
        self._logged["expected_reward"] += reward_B.detach().sum().item()  # type: ignore[assignment]
        self._logged["entropy"] += entropy_B.detach().sum().item()  # type: ignore[assignment]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Trainer's log, with the policy's mean expected reward, KL and entropy where it logs the loss."""
        if "loss" in logs and (pools := self._logged.pop("pools", 0)):
            logs |= {name: round(total / pools, 5) for name, total in self._logged.items()}
            logs["kl_coefficient"] = self._ppo.kl_coefficient
            self._logged.clear()
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        self._ppo.save(Path(output_dir or self.args.output_dir))


def log_policy(
    model: CandidateRankingModel,
    pools: Sequence[EncodedPool],
    route: RouteName,
    most: int,
    *,
    bf16: bool,
    description: str = "",
) -> PerCandidate:
    """Log-probabilities of the policy, pool id -> [candidates], computed in the precision that updates compute them in.

    Where they differ, even the first ratio of a rollout would be off by rounding. Passes hold at most `most` tokens.
    Raises UserError when the policy has diverged.
    """
    pools = sorted(pools, key=lambda pool: pool.length)
    passes = cut_into_passes(pools, most, route)
    scores = []
    with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        for parts in track(passes, description, total=len(passes)) if description else passes:
            # The class's own forward: accelerate replaces the instance's by one under its own autocast.
            scores.append(type(model).forward(model, parts, route).float().cpu())
    scores_N = torch.cat(scores)
    if not scores_N.isfinite().all():
        raise UserError("training diverged: scores are not finite any more; lower ppo.learning_rate and train again")
    own = scores_N.split([len(pool.candidates) for pool in pools])
    return {pool.id: one.log_softmax(dim=0).numpy() for pool, one in zip(pools, own, strict=True)}
